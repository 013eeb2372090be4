"""What runs on the CPU runs on a GPU: nothing is left behind when a model moves.

Where there is no GPU ``tests/gpu/pretend.py`` stands in for one, in a process of its own, since
PyTorch takes a device of Python for good. ``test_precision.py`` compares numbers on a real one.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*words: object) -> list[str]:
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


@pytest.mark.one_stack
def test_configs_of_scenes():
    """Weights, checks, losses and answers of each, with other names and of regions, too."""
    pytest.importorskip('mmdet')
    configs = sorted(str(path.relative_to(ROOT)) for folder in ('demo', 'detection')
                     for path in (ROOT / 'configs' / folder).glob('*_scenes.py'))
    assert len(configs) > 15
    said = [line for line in run('tests/gpu/run.py', *configs) if line.startswith('configs/')]
    assert said == [f'{path}: equal' for path in configs]


def test_what_is_left_behind_is_refused():
    said = run('-c', """
import sys; sys.path.insert(0, 'tests/gpu')
import torch
from pretend import pretend_gpu
layer, x = torch.nn.Linear(2, 2), torch.ones(3, 2)
with pretend_gpu():
    layer.to('pretend:0')
    print(layer(x.to('pretend:0')).device, x.to('pretend:0').cpu().tolist() == x.tolist())
    for wrong in (lambda: layer(x), lambda: layer.weight + torch.ones(2), lambda: x.new_tensor(
            [1.])[torch.zeros(1, dtype=torch.long, device='pretend:0')], layer.weight.numpy):
        try:
            wrong()
        except (RuntimeError, TypeError) as error:
            print(type(error).__name__)
""")
    assert said[0] == 'pretend:0 True' and len(said) == 5
