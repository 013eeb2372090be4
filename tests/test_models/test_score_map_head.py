"""The head on the score map, against cross entropy computed from its definition."""

from denseclip_mm.models.score_map_head import ScoreMapHead

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn import functional as F

NUM_CLASSES = 5
TAU = 0.07


def build(**changes: object) -> ScoreMapHead:
    """The auxiliary head of the published models, of fewer classes."""
    arguments = dict(
        type='ScoreMapHead', in_index=4, num_classes=NUM_CLASSES, tau=TAU,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4))
    return MODELS.build({**arguments, **changes})


@pytest.fixture
def maps() -> tuple[Tensor, ...]:
    """Four maps that the head has nothing to do with, and cosines."""
    torch.manual_seed(0)
    return (*(torch.randn(2, 3, 8, 8) for _ in range(4)), torch.rand(2, NUM_CLASSES, 6, 8) * 2 - 1)


@pytest.fixture
def labels() -> Tensor:
    """(2, 48, 64) with a quarter of the pixels ignored."""
    torch.manual_seed(1)
    labels = torch.randint(0, NUM_CLASSES, (2, 48, 64))
    labels[:, :12] = 255
    return labels


def losses(head: ScoreMapHead, maps: tuple[Tensor, ...], labels: Tensor) -> dict[str, Tensor]:
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]
    return head.loss(maps, samples, train_cfg=dict())


def pixel_losses(score_map: Tensor, labels: Tensor, tau: float = TAU) -> tuple[Tensor, Tensor]:
    """-log of the label's softmax at the label's resolution, and that softmax; 0 where ignored."""
    logits = F.interpolate(score_map / tau, labels.shape[1:], mode='bilinear', align_corners=False)
    chance = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
    chance = chance.gather(1, labels.where(labels != 255, 0)[:, None])[:, 0]
    return (-chance.log()).where(labels != 255, 0), chance


@pytest.mark.parametrize('tau', [0.07, 1.0])
def test_logits_are_the_score_map_over_tau(tau: float, maps: tuple[Tensor, ...]) -> None:
    for in_index in (4, -1):
        assert torch.equal(build(tau=tau, in_index=in_index)(maps), maps[4] / tau)


def test_loss_is_the_published_one(maps: tuple[Tensor, ...], labels: Tensor) -> None:
    """The mean runs over the ignored pixels too, which is mmseg's default."""
    result = losses(build(), maps, labels)
    expected, _ = pixel_losses(maps[4], labels)
    assert result.keys() == {'loss_ce', 'acc_seg'}
    torch.testing.assert_close(result['loss_ce'], 0.4 * expected.sum() / labels.numel())
    logits = F.interpolate(maps[4] / TAU, (48, 64), mode='bilinear', align_corners=False)
    torch.testing.assert_close(result['loss_ce'], 0.4 * F.cross_entropy(
        logits, labels, ignore_index=255, reduction='sum') / labels.numel())
    hits = (logits.argmax(1) == labels).sum() / (labels != 255).sum()
    assert result['acc_seg'].item() == pytest.approx(100 * hits.item(), rel=1e-5)


def test_loss_over_labelled_pixels_only(maps: tuple[Tensor, ...], labels: Tensor) -> None:
    head = build(loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
    expected, _ = pixel_losses(maps[4], labels)
    torch.testing.assert_close(losses(head, maps, labels)['loss_ce'],
                               expected.sum() / (labels != 255).sum())


def test_another_ignored_label(maps: tuple[Tensor, ...], labels: Tensor) -> None:
    shifted = torch.where(labels == 255, 0, labels)
    head = build(ignore_index=0)
    expected, _ = pixel_losses(maps[4], torch.where(shifted == 0, 255, shifted))
    torch.testing.assert_close(losses(head, maps, shifted)['loss_ce'],
                               0.4 * expected.sum() / labels.numel())


def test_hard_pixels_only(maps: tuple[Tensor, ...], labels: Tensor) -> None:
    """Online hard example mining: only pixels whose label has a chance under the threshold."""
    head = build(sampler=dict(type='OHEMPixelSampler', thresh=0.3, min_kept=2))
    expected, chance = pixel_losses(maps[4], labels)
    hard = chance < 0.3
    assert 0.1 < hard.float().mean() < 0.9
    torch.testing.assert_close(losses(head, maps, labels)['loss_ce'],
                               0.4 * expected.where(hard, 0).sum() / labels.numel())


def test_gradient_flows_to_the_score_map(maps: tuple[Tensor, ...], labels: Tensor) -> None:
    maps[4].requires_grad_()
    losses(build(), maps, labels)['loss_ce'].backward()
    logits = F.interpolate(maps[4] / TAU, (48, 64), mode='bilinear', align_corners=False)
    expected, = torch.autograd.grad(
        0.4 * F.cross_entropy(logits, labels, ignore_index=255, reduction='sum')
        / labels.numel(), maps[4])
    torch.testing.assert_close(maps[4].grad, expected)


def test_has_nothing_to_learn_or_to_load() -> None:
    head = build()
    head.init_weights()
    assert head.state_dict() == {}
    assert list(head.parameters()) == []
    assert not hasattr(head, 'conv_seg')


def test_published_temperature_and_plain_loss_are_the_default() -> None:
    head = ScoreMapHead(num_classes=NUM_CLASSES)
    assert head.tau == 0.07
    assert head.in_index == -1
    assert head.ignore_index == 255
    assert head.loss_decode.loss_weight == 1.0


@pytest.mark.parametrize('channels', [1, 4, 6])
def test_score_map_of_other_classes(channels: int, maps: tuple[Tensor, ...]) -> None:
    with pytest.raises(ValueError, match=f'score map has {channels} classes, this head '
                       'num_classes=5; set num_classes to the number of class_names, or '
                       'in_index=4 to -1, which is the score map'):
        build()((*maps[:4], torch.zeros(2, channels, 6, 8)))


@pytest.mark.parametrize(('arguments', 'name'), [
    (dict(channels=256), 'channels'), (dict(temperature=1), 'temperature')])
def test_unknown_keyword(arguments: dict, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        build(**arguments)


@pytest.mark.parametrize('align_corners', [False, True])
def test_segments_by_language_alone(align_corners: bool, tiny_resnet: dict) -> None:
    """As a decode head, where the wrapped neck's outputs serve nothing."""
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='EncoderDecoder',
        backbone=dict(type='CLIPResNet', model=tiny_resnet, image_size=64),
        neck=dict(
            type='PixelTextNeck', class_names=['a', 'b', 'c', 'd', 'e'], score_map_index=3,
            text_encoder=dict(type='CLIPTextTower', model=tiny_resnet),
            prompt=dict(type='TemplatePrompt'),
            neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=8, num_outs=4)),
        decode_head=dict(type='ScoreMapHead', num_classes=NUM_CLASSES,
                         align_corners=align_corners),
        test_cfg=ConfigDict(mode='whole'))).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        score_map = model.neck(model.backbone(images))[-1]
        results = model.predict(images)
    expected = F.interpolate(score_map / 0.07, (64, 96), mode='bilinear',
                             align_corners=align_corners)
    for result, logits in zip(results, expected, strict=True):
        torch.testing.assert_close(result.seg_logits.data, logits)
        assert torch.equal(result.pred_sem_seg.data[0], logits.argmax(0))
