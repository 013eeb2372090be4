"""The page on a prompt of one's own, word for word."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

from denseclip_mm.files import read_tensors

import open_clip
import pytest
import torch
from mmseg.registry import MODELS
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs/own_prompt.md').read_text()
BLOCKS = re.findall(r'^```(\w+)\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with our configs, and the page's files in it; the module can be imported."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    for language, block in BLOCKS:
        if language == 'python':
            (tmp_path / block.splitlines()[0].removeprefix('# ')).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)  # PYTHONPATH=.
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))
    return tmp_path


def test_the_class_is_short() -> None:
    module, = (block for _, block in BLOCKS if 'class TaskResidual' in block)
    assert len(module.splitlines()) < 40


def test_the_page_word_for_word(project: Path, succeed) -> None:
    """Trains, tests; the residuals have moved, and the tower has not."""
    commands, = (block for language, block in BLOCKS if language == 'bash')
    outputs = []
    for line in commands.splitlines():
        assignment, python, tool, *words = shlex.split(line)
        assert (assignment, python) == ('PYTHONPATH=.', 'python')
        outputs.append(succeed(tool.removeprefix('tools/').removesuffix('.py'), *words,
                               '--cfg-options' if '--cfg-options' not in words else
                               'val_dataloader.dataset.length=8',
                               'test_dataloader.dataset.length=8', cwd=project))
    losses = [float(loss) for loss in re.findall(r' loss: ([\d.]+)', outputs[0])]
    assert losses[-1] < losses[0]
    assert float(re.search(r'mIoU: ([\d.]+)', outputs[1])[1]) > 20
    state = read_tensors(project / 'work_dirs/task_residual_scenes/iter_40.pth')['state_dict']
    assert state['neck.prompt.residual'].shape[0] == 30
    assert (state['neck.prompt.residual'].norm(dim=1) > 0).all()
    clip = open_clip.create_model('DemoCLIP', pretrained=str(
        ROOT / 'denseclip_mm/demo/demo_clip.pt'))
    assert torch.equal(state['neck.text_encoder.tower.token_embedding.weight'],
                       clip.token_embedding.weight)


def test_it_computes_what_the_paper_says(project: Path, pair) -> None:
    """Against open_clip's ``encode_text`` and a sum; too long a name is refused."""
    spec = importlib.util.spec_from_file_location('task_residual', project / 'task_residual.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clip, tower = pair
    texts = ['sky', 'traffic light']
    prompt = MODELS.build(dict(type='TaskResidual', text_encoder=tower, texts=texts))
    torch.nn.init.normal_(prompt.residual)
    tokens = open_clip.tokenize([f'a photo of a {text}.' for text in texts])
    expected = clip.encode_text(tokens) + 0.5 * prompt.residual
    given = prompt(tower, prompt.lay_out(tower, texts))
    torch.testing.assert_close(given[0], expected, rtol=1e-5, atol=1e-6)
    F.normalize(given, dim=2).sum().backward()
    assert prompt.residual.grad.abs().sum() > 0
    with pytest.raises(ValueError, match=r'a photo of a (sky )+sky\.. has \d+ tokens'):
        prompt.lay_out(tower, ['sky ' * 80 + 'sky'])
