"""What docs/training.md tells to write into a config does what the page says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs/training.md').read_text()
BLOCKS = re.findall(r'^```python\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
SHORT = """
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64, length=4))
val_dataloader = dict(batch_size=2, dataset=dict(image_size=64, length=2))
randomness = dict(seed=3)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture
def train(tmp_path: Path, small_demo: str, succeed: Callable[..., str]) -> Callable[[str], str]:
    """Trains the small demo with these lines, in tmp_path/work."""
    def train(lines: str, work: str = 'work') -> str:
        (tmp_path / 'config.py').write_text(small_demo + SHORT + lines)
        return succeed('train', tmp_path / 'config.py', '--work-dir', work, cwd=tmp_path)
    return train


def block(word: str) -> str:
    found, = (each for each in BLOCKS if word in each)
    return found


def test_early_stopping(train: Callable[[str], str]) -> None:
    """A run that learns nothing ends after the first validation and five more."""
    output = train(block('EarlyStoppingHook') + """
optim_wrapper = dict(optimizer=dict(lr=0.0))
param_scheduler = []
train_cfg = dict(max_iters=20, val_interval=1)
""")
    assert len(re.findall(r'Iter\(val\) \[1/1\] +aAcc', output)) == 6
    assert re.findall(r'Iter\(train\) \[ *(\d+)/20\]', output)[-1] == '6'


def test_tensorboard(train: Callable[[str], str], tmp_path: Path) -> None:
    """Losses and metrics of every iteration; the line for W&B is taken out, which needs a login."""
    lines = block('TensorboardVisBackend')
    without, count = re.subn(r'.*WandbVisBackend.*\n', '', lines)
    assert count == 1
    output = train(without + 'train_cfg = dict(max_iters=2, val_interval=2)\n')
    folder, = (tmp_path / 'work').glob('*/vis_data')
    events = EventAccumulator(str(folder)).Reload()
    losses = [event.value for event in events.Scalars('loss')]
    logged = re.findall(r'Iter\(train\).* loss: (\d+\.\d+)', output)
    assert losses == pytest.approx([float(value) for value in logged], abs=1e-4)
    assert len(losses) == 2 and len(events.Scalars('mIoU')) == 1
    assert (folder / 'scalars.json').is_file()


def test_one_seed_gives_the_same_weights(train: Callable[[str], str], tmp_path: Path) -> None:
    first, second = (
        train('train_cfg = dict(max_iters=2, val_interval=2)\ndefault_hooks.update('
              'checkpoint=dict(interval=2))\n', work) and
        torch.load(tmp_path / work / 'iter_2.pth', weights_only=False)['state_dict']
        for work in ('first', 'second'))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
