"""The loss in pieces against mmseg's own, value and gradient."""

import denseclip_mm.models.piecewise_loss as piecewise
from denseclip_mm.models.piecewise_loss import PiecewiseFPNHead
from denseclip_mm.models.score_map_head import ScoreMapHead

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FPNHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample

CE = dict(type='CrossEntropyLoss', loss_weight=0.4)


def samples(count: int, size: tuple[int, int], ignored: bool = True) -> list[SegDataSample]:
    labels = torch.randint(0, 5, (count, 1, *size), generator=torch.Generator().manual_seed(1))
    if ignored:
        labels[:, :, :7] = 255
    return [SegDataSample(gt_sem_seg=PixelData(data=each)) for each in labels]


def compare(head: BaseDecodeHead, logits: torch.Tensor, data: list[SegDataSample]) -> None:
    """Losses, accuracy and the gradient of the sum of losses are those of mmseg."""
    results = []
    for loss_by_feat in (type(head).loss_by_feat, BaseDecodeHead.loss_by_feat):
        leaf = logits.clone().requires_grad_()
        losses = loss_by_feat(head, leaf, data)
        sum(3 * value for name, value in losses.items() if 'loss' in name).backward()
        results.append((losses, leaf.grad))
    (ours, our_grad), (theirs, their_grad) = results
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name].detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(our_grad, their_grad, rtol=1e-4, atol=1e-8)
    assert our_grad.abs().sum() > 0


@pytest.mark.parametrize('piece', [1, 900, 2**21])  # a row at a time; some; all at once
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(('small', 'large'), [((4, 6), (32, 48)), ((5, 7), (33, 50)),
                                              ((8, 8), (8, 8))])
def test_equal_to_mmseg(monkeypatch, piece, align_corners, small, large) -> None:
    monkeypatch.setitem(piecewise._PIECE, 'cpu', piece)
    head = ScoreMapHead(num_classes=5, loss_decode=CE, align_corners=align_corners)
    compare(head, torch.randn(2, 5, *small), samples(2, large))


@pytest.mark.parametrize('loss', [
    [CE, dict(type='CrossEntropyLoss', loss_weight=1.0, loss_name='loss_more')],
    [CE, CE],
    dict(type='CrossEntropyLoss', avg_non_ignore=True),
    dict(type='DiceLoss'),
    dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0, 3.0, 4.0, 5.0]),
])
def test_other_losses(monkeypatch, loss) -> None:
    monkeypatch.setitem(piecewise._PIECE, 'cpu', 1000)
    head = ScoreMapHead(num_classes=5, loss_decode=loss)
    compare(head, torch.randn(2, 5, 4, 4), samples(2, (32, 32), ignored=False))


def test_a_sampler_sees_all_pixels() -> None:
    head = ScoreMapHead(num_classes=5, loss_decode=CE,
                        sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=50))
    compare(head, torch.randn(2, 5, 4, 4), samples(2, (32, 32)))


def test_all_pixels_ignored() -> None:
    head = ScoreMapHead(num_classes=5, loss_decode=CE)
    data = samples(1, (7, 16))  # the rows that are ignored
    losses = head.loss_by_feat(torch.randn(1, 5, 2, 2, requires_grad=True), data)
    assert losses['loss_ce'] == 0 and losses['acc_seg'] == 0


def test_the_ignored_label_may_be_a_class() -> None:
    head = ScoreMapHead(num_classes=5, loss_decode=CE, ignore_index=2)
    compare(head, torch.randn(2, 5, 4, 4), samples(2, (32, 32), ignored=False))


def test_bfloat16_logits() -> None:
    """Under autocast the small maps may be of half precision; the loss is of full precision."""
    head = ScoreMapHead(num_classes=5, loss_decode=CE)
    logits = torch.randn(1, 5, 4, 4).bfloat16().requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = head.loss_by_feat(logits, samples(1, (32, 32)))
    losses['loss_ce'].backward()
    exact = head.loss_by_feat(logits.detach().float(), samples(1, (32, 32)))
    assert losses['loss_ce'].dtype == torch.float32
    torch.testing.assert_close(losses['loss_ce'].detach(), exact['loss_ce'])
    assert logits.grad.dtype == torch.bfloat16


def test_the_decode_head_that_has_it() -> None:
    """The same weights, the same features: the same losses and gradients as mmseg's FPNHead."""
    options = dict(in_channels=[6] * 2, in_index=[0, 1], feature_strides=[4, 8], channels=6,
                   num_classes=5, dropout_ratio=0, norm_cfg=dict(type='BN'), align_corners=False,
                   loss_decode=CE)
    ours, theirs = PiecewiseFPNHead(**options), FPNHead(**options)
    theirs.load_state_dict(ours.state_dict())
    features = [torch.randn(2, 6, 8, 8), torch.randn(2, 6, 4, 4)]
    for head in (ours, theirs):
        losses = head.loss(features, samples(2, (32, 32)), {})
        losses['loss_ce'].backward()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, msg=name,
                                   rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode) -> None:
    """A loss of validation: the same numbers, and nothing is differentiated."""
    head, data = ScoreMapHead(num_classes=5, loss_decode=CE), samples(2, (32, 32))
    logits = torch.randn(2, 5, 4, 4)
    with mode():
        losses = head.loss_by_feat(logits * 1, data)
        expected = BaseDecodeHead.loss_by_feat(head, logits * 1, data)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
