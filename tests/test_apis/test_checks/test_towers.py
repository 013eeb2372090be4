"""Towers of two CLIPs: refused or warned of, in whichever way they come together.

Before, the zero-shot demo's mIoU fell from 54.11 to 0.09, and nothing said why.
"""

from contextlib import nullcontext
from pathlib import Path

from denseclip_mm.apis.checkpoints.load import load_checkpoint
from denseclip_mm.apis.checks.towers import check_loaded_towers
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.clip import clip_config

import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import nn

ROOT = Path(__file__).resolve().parents[3]
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'
TEXT_OF_ANOTHER = 'has the image tower of .*, but the text tower of another CLIP, or a random one'
IMAGE_OF_ANOTHER = 'has the text tower of .*, but the image tower of another CLIP, or a random one'


def zero_shot(**text_encoder: object) -> nn.Module:
    cfg = Config.fromfile(ZERO_SHOT).model
    cfg.neck.text_encoder.update(text_encoder)
    return MODELS.build(cfg)


@pytest.fixture
def other_clip(tmp_path) -> str:
    """Weights of another CLIP of DemoCLIP's size."""
    torch.manual_seed(5)
    config = {key: value for key, value in clip_config('DemoCLIP').items() if key != 'custom_text'}
    torch.save(open_clip.CLIP(**config).state_dict(), tmp_path / 'other.pt')
    return str(tmp_path / 'other.pt')


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What mmengine's logger is told to warn of."""
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning',
                        lambda text, *parts: said.append(text % parts))
    return said


def checkpoint(path: Path, image: bool, text: bool, *, half: bool = False) -> str:
    """A checkpoint of the demo's zero-shot model; which towers have DemoCLIP's weights."""
    torch.manual_seed(7)
    model = zero_shot()
    for tower, loads in ((model.backbone, image), (model.neck.text_encoder, text)):
        if loads:
            tower.init_weights()
    state = model.state_dict()
    if half:
        state = {key: value.half() if value.is_floating_point() else value
                 for key, value in state.items()}
    torch.save(dict(state_dict=state), path)
    return str(path)


def test_a_config_whose_text_tower_has_no_weights(tmp_path, run_tool):
    done = run_tool('test', ZERO_SHOT, '--cfg-options', 'model.neck.text_encoder.pretrained=None',
                    cwd=tmp_path)
    assert done.returncode == 1
    assert ('neck.text_encoder.pretrained is None, so the text tower is random'
            in done.stderr.strip().splitlines()[-1])


def test_a_config_whose_text_tower_has_another_file(tmp_path, run_tool, other_clip):
    done = run_tool('test', ZERO_SHOT, '--cfg-options',
                    f'model.neck.text_encoder.pretrained={other_clip}', cwd=tmp_path)
    assert done.returncode == 1
    assert 'two CLIPs share no embeddings' in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize('text', [False, True])
def test_a_checkpoint_with_the_text_tower_of_another_clip(tmp_path, succeed, text):
    path = checkpoint(tmp_path / 'model.pth', True, text)
    said = succeed('test', ZERO_SHOT, path, '--cfg-options', 'test_dataloader.dataset.length=2',
                   'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False',
                   cwd=tmp_path)
    assert ("has the image tower of 'demo', but the text tower of another CLIP" in said) != text


def test_a_text_tower_without_weights_says_so_when_weights_load(caplog):
    """Also to those who train without CheckClassesHook."""
    for options, said in ((dict(pretrained=None), True), (dict(pretrained='demo'), False)):
        zero_shot(**options).init_weights()
        assert ('CLIPTextTower has pretrained=None: it is random' in caplog.text) == said
        caplog.clear()


@pytest.mark.parametrize(('image', 'text', 'said'), [
    (True, True, None), (False, False, None), (True, False, TEXT_OF_ANOTHER),
    (False, True, IMAGE_OF_ANOTHER)])
@pytest.mark.parametrize('half', [True, False])
def test_checkpoints_of_one_tower_and_another(tmp_path, warnings, image, text, said, half):
    path = checkpoint(tmp_path / 'model.pth', image, text, half=half)
    load_checkpoint(zero_shot(), path)
    assert len(warnings) == (said is not None)
    with nullcontext() if said is None else pytest.raises(AssertionError, match=said):
        assert not warnings, warnings[0]
    warnings.clear()
    Predictor(ZERO_SHOT, path, device='cpu')
    assert len(warnings) == (said is not None)


def test_the_towers_of_another_file(tmp_path, warnings, other_clip):
    """Whatever the config calls the text tower's weights: the backbone's are the measure."""
    model = zero_shot(pretrained=other_clip)
    model.init_weights()
    check_loaded_towers(model, 'model.pth')
    assert len(warnings) == 1 and "train it with pretrained='demo' of both" in warnings[0]
    model.backbone.pretrained = other_clip  # the text tower's: its image tower is not there
    check_loaded_towers(model, 'model.pth')
    assert len(warnings) == 2 and "has the text tower of '/" in warnings[1]


@pytest.mark.parametrize(('noise', 'warns'), [(1, False), (3, False), (30, True)])
def test_a_training_that_changes_the_image_tower(warnings, noise, warns):
    """By so many times its weights; the configs here change a thousandth (cosine 0.998)."""
    model = zero_shot()
    model.init_weights()
    torch.manual_seed(0)
    for parameter in model.backbone.tower.parameters():
        parameter.data += noise * torch.randn_like(parameter) * parameter.std(correction=0)
    check_loaded_towers(model, 'model.pth')
    assert bool(warnings) == warns


@pytest.mark.parametrize(
    'pretrained', [None, 'openai', 'missing.pt', 'hf-hub:no/thing', 'broken.pt'])
def test_weights_that_cannot_be_compared(tmp_path, monkeypatch, warnings, pretrained):
    """A checkpoint needs them no more, so nothing is fetched and nothing complained of."""
    monkeypatch.chdir(tmp_path)
    Path('broken.pt').write_text('nothing')
    monkeypatch.setattr(open_clip, 'download_pretrained', lambda *_: pytest.fail('was fetched'))
    model = zero_shot()
    model.backbone.pretrained = pretrained
    load_checkpoint(model, checkpoint(tmp_path / 'model.pth', True, False))
    assert not warnings


def test_models_with_one_tower(small_demo, warnings):
    for path in ('clip_fpn_scenes.py', 'zero_shot_scenes.py'):
        cfg = Config.fromfile(ROOT / 'configs/demo' / path).model
        model = MODELS.build(cfg)
        if path.startswith('zero'):
            model.neck.text_encoder = None
        check_loaded_towers(model, 'model.pth')
    check_loaded_towers(nn.Linear(1, 1), 'model.pth')
    assert not warnings
