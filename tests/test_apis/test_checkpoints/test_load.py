"""Checkpoints of another model, of other classes or with faulty weights, in every tool that loads.

Stands beside test_inference.py, where Predictor refuses the same.
"""

from collections.abc import Callable
from pathlib import Path

from denseclip_mm.apis.checkpoints.load import load_checkpoint, plain_model

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmseg.registry import MODELS
from torch import nn

ROOT = Path(__file__).resolve().parents[3]
NAMES = ['cat', 'dog', 'sky']


@pytest.fixture
def build(tiny_resnet: dict, model_config: Callable) -> Callable[..., nn.Module]:
    """Builds the small model of these names, with changes to its config."""
    def build(names: list[str] = NAMES, **changes: object) -> nn.Module:
        cfg = Config(dict(model=model_config(tiny_resnet, names)))
        cfg.merge_from_dict(dict(model=changes))
        return MODELS.build(cfg.model)
    return build


def save(model: nn.Module, path: Path, **dataset_meta: object) -> Path:
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dataset_meta)), path)
    return path


def test_every_tensor_or_none(build: Callable, tmp_path: Path) -> None:
    path = save(build(), tmp_path / 'three.pth', classes=NAMES)
    assert load_checkpoint(build(), path)['dataset_meta']['classes'] == NAMES
    with pytest.raises(ValueError, match=r'three.pth is no checkpoint of this config: .*size mism'):
        load_checkpoint(build([*NAMES, 'sea']), path)
    with pytest.raises(ValueError, match=r"in another order: 'cat' is its class 0 and class 1 of"):
        load_checkpoint(build(['dog', 'cat;kitten', 'sky']), path)


def test_fine_tuning(build: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture,
                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Other classes: their layers start anew, and are named; all else has to fit."""
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handlers', [caplog.handler])
    trained, model = build(), build([*NAMES, 'sea'])
    path = save(trained, tmp_path / 'three.pth', classes=NAMES)
    fresh = model.decode_head.conv_seg.weight.clone()
    load_checkpoint(model, path, new_classes=True)
    assert torch.equal(model.neck.prompt.contexts, trained.neck.prompt.contexts)
    assert torch.equal(model.decode_head.conv_seg.weight, fresh)
    log = caplog.text
    assert 'three.pth has another number of classes; these start anew: ' in log
    assert ('neck.neck.lateral_convs.3.conv.weight, decode_head.conv_seg.weight, '
            'decode_head.conv_seg.bias') in log
    for changes in (dict(neck=dict(neck=dict(out_channels=4)), decode_head=dict(in_channels=[4] * 4)
                         ), dict(decode_head=dict(channels=4)),
                    dict(neck=dict(prompt=dict(num_context=4)))):
        with pytest.raises(ValueError, match='is no checkpoint of this config'):
            load_checkpoint(build([*NAMES, 'sea'], **changes), path, new_classes=True)


@pytest.mark.parametrize('number', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(number: float, build: Callable, tmp_path: Path) -> None:
    model = build()
    model.decode_head.conv_seg.bias.data[1] = number
    path = save(model, tmp_path / 'lost.pth')
    with pytest.raises(ValueError, match=r'lost.pth holds NaN or infinite weights \(1 tensors: '
                       r'decode_head.conv_seg.bias\); take an earlier one'):
        load_checkpoint(build(), path)


@pytest.mark.parametrize('dtype', [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_that_are_quantised(dtype: torch.dtype, build: Callable, tmp_path: Path) -> None:
    """Before, int8 was taken as it stood, and float8 ended in PyTorch's own words."""
    path = save(model := build(), tmp_path / 'eight.pth', classes=NAMES)
    content = torch.load(path)
    weight = content['state_dict']['decode_head.conv_seg.weight']
    content['state_dict']['decode_head.conv_seg.weight'] = weight.to(dtype)
    torch.save(content, path)
    with pytest.raises(ValueError, match=r'eight.pth holds quantised weights \(1 tensors: '
                       r'decode_head.conv_seg.weight\); take those of 16 or 32 bits$'):
        load_checkpoint(model, path)


@pytest.mark.parametrize('dtype', [torch.int16, torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_other_numbers(dtype: torch.dtype, build: Callable,
                                        tmp_path: Path) -> None:
    """PyTorch converts them without a word."""
    path = save(model := build(), tmp_path / 'whole.pth', classes=NAMES)
    content = torch.load(path)
    bias = content['state_dict']['decode_head.conv_seg.bias']
    content['state_dict']['decode_head.conv_seg.bias'] = bias.to(dtype)
    torch.save(content, path)
    with pytest.raises(ValueError, match=r'whole.pth holds numbers of another kind than the model '
                       rf'\(1 tensors: decode_head.conv_seg.bias is {str(dtype)[6:]}, not float32'):
        load_checkpoint(model, path)


def test_what_is_no_tensor(build: Callable, tmp_path: Path) -> None:
    model = build()
    path = tmp_path / 'text.pth'
    torch.save(dict(state_dict=dict.fromkeys(model.state_dict(), 'text')), path)
    with pytest.raises(ValueError, match=r'text.pth is no checkpoint of this config: .* is a str'):
        load_checkpoint(model, path)


def test_plain_model() -> None:
    model = nn.Conv2d(1, 1, 1)
    wrapped = nn.Module()
    wrapped.module = nn.Module()
    wrapped.module.module = model
    assert plain_model(wrapped) is plain_model(model) is model


@pytest.fixture
def config(tmp_path: Path, small_demo: str) -> Path:
    path = tmp_path / 'small.py'
    path.write_text(f"""{small_demo}
train_dataloader = dict(batch_size=2, dataset=dict(image_size=64))
val_dataloader = dict(dataset=dict(image_size=64, length=2))
test_dataloader = dict(val_dataloader)
train_cfg = dict(max_iters=1, val_interval=10)
tta_pipeline = [dict(type='TestTimeAug', transforms=[
    [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)], [dict(type='PackSegInputs')]])]
""")
    return path


def another_model(cfg: Config) -> None:
    cfg.model.decode_head.channels = 32


def fewer_classes(cfg: Config) -> None:
    names = list(cfg.train_dataloader.dataset.metainfo.classes)[:20]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo.classes = names
    cfg.model.neck.class_names = names
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.num_classes, head.sampler = 20, None


@pytest.mark.parametrize(('spoil', 'trains'), [(another_model, False), (fewer_classes, True)])
def test_tools(spoil: Callable, trains: bool, config: Path, tmp_path: Path, run_tool: Callable,
               succeed: Callable) -> None:
    """One line, and no table of metrics."""
    cfg = Config.fromfile(config)
    spoil(cfg)
    path = save(MODELS.build(cfg.model), tmp_path / 'other.pth')
    for words in (['test', config, path], ['test', config, path, '--tta'],
                  ['train', config, '--cfg-options', f'load_from={path}']):
        if words[0] == 'train' and trains:
            log = succeed(*words, cwd=tmp_path)
            assert 'these start anew: neck.neck.lateral_convs.3.conv.weight, decode_head.' in log
            continue
        done = run_tool(*words, cwd=tmp_path)
        assert done.returncode == 1 and 'Traceback' not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith(
            f'error: {path} is no checkpoint of this config: ')
        assert 'mIoU: ' not in done.stdout
