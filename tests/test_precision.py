"""Switches that change the speed alone: half precision, memory layout, compiled code."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import HOOKS, DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

ROOT = Path(__file__).resolve().parents[1]
NAMES = ['sky', 'tree', 'road', 'pool table']


# Backbone, channels of its maps, and which of them the score map joins; None for any names.
KINDS = {
    'resnet': ('CLIPResNet', [32, 64, 128, 256], 3),
    'value': ('CLIPResNet', [32, 64, 128, 256], 3),  # of the pool without attention
    'aggregation head': ('CLIPResNet', [32, 64, 128, 256], None),
    'vit': ('CLIPVisionTransformer', [64] * 4, 2),
    'siglip': ('CLIPTIMMBackbone', [24] * 4, 2),
    'eva02': ('CLIPTIMMBackbone', [64] * 4, 2),
    'convnext': ('CLIPTIMMBackbone', [24, 32, 48, 64], 3),
}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    backbone, channels, index = KINDS[request.param]
    if backbone == 'CLIPTIMMBackbone':
        clip = request.getfixturevalue('timm_clip')(request.param)
    else:
        clip = request.getfixturevalue(
            'tiny_resnet' if backbone == 'CLIPResNet' else 'tiny_vit')
    head = dict(type='FPNHead') if index is not None else dict(
        type='CostAggregationHead', score_map_stride=32, class_dropout=0)
    model = MODELS.build(Config(dict(
        type='EncoderDecoder',
        backbone=dict(type=backbone, model=clip, **(
            dict(dense_embedding='value') if request.param == 'value' else {})),
        neck=dict(
            type='PixelTextNeck', prompt=dict(type='LearnedContext', num_context=4),
            text_encoder=dict(type='CLIPTextTower', model=clip), class_names=NAMES,
            context_decoder=dict(type='ContextDecoder', width=16, num_heads=2, num_layers=1),
            gamma=0.5, score_map_index=index,
            neck=dict(type='FPN', in_channels=channels, out_channels=16, num_outs=4)),
        decode_head=dict(
            in_channels=[16] * 4, in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32],
            channels=16, num_classes=len(NAMES), norm_cfg=dict(type='BN'), **head),
        auxiliary_head=dict(type='ScoreMapHead', in_index=4, num_classes=len(NAMES)),
        test_cfg=dict(mode='whole'))))
    return model.eval()


def relative(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return ((ours.float() - exact).norm() / exact.norm()).item()


def losses_and_gradient(model: torch.nn.Module, image: torch.Tensor) -> tuple[dict, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, len(NAMES), (1, 64, 64), generator=generator).to(image.device)
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=(64, 64)))
    model.zero_grad()
    losses = model(image, [sample], mode='loss')
    (losses['decode.loss_ce'] + losses['aux.loss_ce']).backward()
    return losses, model.neck.prompt.contexts.grad.clone()


@pytest.mark.parametrize(('dtype', 'error'), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_autocast(dtype: torch.dtype, error: float, model: torch.nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = model.extract_feat(image)
        model.eval()  # drop the kept text
        with torch.autocast('cpu', dtype=dtype):
            ours = model.extract_feat(image)
        kept = model.extract_feat(image)
    assert 1e-6 < max(map(relative, ours, exact)) < error
    assert torch.equal(kept[-1], exact[-1]), 'text kept under autocast is of full precision'

    losses, gradient = losses_and_gradient(model, image)
    with torch.autocast('cpu', dtype=dtype):
        rounded, rounded_gradient = losses_and_gradient(model, image)
    for name in ('decode.loss_ce', 'aux.loss_ce'):
        assert rounded[name].item() == pytest.approx(losses[name].item(), rel=error)
    assert 0 < relative(rounded_gradient, gradient) < 4 * error


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')
def test_on_a_gpu(model: torch.nn.Module, exact: tuple, monkeypatch) -> None:
    """The numbers are the CPU's, in full precision and with channels last; fp16 is near."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = model.extract_feat(image)
        model.cuda().eval()
        for _ in range(2):  # text is computed, and kept
            assert max(map(relative, [each.cpu() for each in model.extract_feat(image.cuda())],
                           maps)) < 1e-4
    assert_equal_but_for_rounding(model, exact, 'cuda')
    HOOKS.build(dict(type='ChannelsLastHook')).before_train(SimpleNamespace(model=model))
    assert_equal_but_for_rounding(model, exact, 'cuda')
    with torch.autocast('cuda', dtype=torch.float16):
        losses, gradient = losses_and_gradient(model, image.cuda())
    for name, value in exact[0].items():
        assert losses[name].item() == pytest.approx(value.item(), rel=0.02)
    assert relative(gradient.cpu(), exact[1]) < 0.05


def test_a_detector_under_autocast() -> None:
    """Losses of the same boxes, and a gradient of every parameter, through RoIAlign, too."""
    pytest.importorskip('mmdet')
    cfg = Config.fromfile(ROOT / 'configs/detection/denseclip_mask_rcnn_scenes.py')
    cfg.train_dataloader.dataset.update(ann_file='scene://128/things-0-2.json', pipeline=[
        step for step in cfg.train_pipeline if step.type != 'RandomFlip'])
    with DefaultScope.overwrite_default_scope('mmdet'):
        data = DATASETS.build(cfg.train_dataloader.dataset)
        model = MODELS.build(cfg.model).train()
        model.init_weights()
        batch = model.data_preprocessor(pseudo_collate([data[0], data[1]]), True)
        losses, gradients = [], []
        for rounded in (False, True):
            torch.manual_seed(0)
            with torch.autocast('cpu', dtype=torch.bfloat16, enabled=rounded):
                loss, parts = model.parse_losses(model(**batch, mode='loss'))
            model.zero_grad()
            loss.backward()
            losses.append(parts)
            gradients.append({key: each.grad.clone() for key, each in model.named_parameters()
                              if each.requires_grad})
    for name, error in dict(loss_rpn_cls=0.02, loss_score_map=0.02, loss_cls=0.1,
                            loss_mask=0.2).items():  # the last two of regions drawn by chance
        assert losses[1][name].item() == pytest.approx(losses[0][name].item(), rel=error), name
    assert all(each.isfinite().all() for each in gradients[1].values())
    assert gradients[1]['neck.neck.lateral_convs.0.conv.weight'].any()  # which RoIAlign looks at
    assert relative(gradients[1]['neck.prompt.contexts'],
                    gradients[0]['neck.prompt.contexts']) < 0.1


@pytest.mark.parametrize('training', [True, False])
def test_forward_waits_for_no_value(training: bool, model: torch.nn.Module) -> None:
    """Tensors without values serve: nothing stops a GPU's queue. Sizes alone decide."""
    model.train(training)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.set_grad_enabled(training):
        with pytest.raises(DataDependentOutputException):
            torch.zeros(1).item()
        assert model(torch.zeros(2, 3, 64, 96), mode='tensor').shape == (2, 4, 16, 24)


def assert_equal_but_for_rounding(model: torch.nn.Module, exact: tuple,
                                  device: str = 'cpu') -> None:
    """The losses and the gradient of the contexts are those of ``exact``."""
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    losses, gradient = losses_and_gradient(model, image.to(device))
    for name, value in exact[0].items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4)
    assert relative(gradient.cpu(), exact[1]) < 1e-3


@pytest.fixture
def exact(model: torch.nn.Module) -> tuple[dict, torch.Tensor]:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return losses_and_gradient(model, image)


def test_channels_last(model: torch.nn.Module, exact: tuple) -> None:
    HOOKS.build(dict(type='ChannelsLastHook')).before_train(SimpleNamespace(model=model))
    convolution = model.decode_head.scale_heads[0][0].conv.weight
    first = next(each for each in model.backbone.modules() if isinstance(each, torch.nn.Conv2d))
    assert first.weight.is_contiguous(memory_format=torch.channels_last)
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert_equal_but_for_rounding(model, exact)


@pytest.mark.one_stack
@pytest.mark.parametrize('model', ['resnet', 'aggregation head', 'vit'], indirect=True)
def test_compiled(model: torch.nn.Module, exact: tuple) -> None:
    """As ``compile=True`` in a config: mmengine's runner replaces ``forward``."""
    torch.compiler.reset()
    model.forward = torch.compile(model.forward, backend='aot_eager')
    assert_equal_but_for_rounding(model, exact)
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative(model(image, mode='tensor'), type(model).forward(
            model, image, mode='tensor')) < 1e-4
