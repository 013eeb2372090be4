"""Class weights as a pixel sampler: against torch's own weighted cross entropy."""

from denseclip_mm.models.score_map_head import ScoreMapHead

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.nn import functional as F


def head(class_weight: list[float]) -> ScoreMapHead:
    return ScoreMapHead(num_classes=3, tau=0.5, sampler=dict(
        type='ClassWeightSampler', class_weight=class_weight))


def test_loss_is_the_weighted_cross_entropy() -> None:
    """Of the labelled pixels; the ignored ones have no say."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, (2, 1, 8, 8), generator=generator)
    labels[:, :, :3] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    loss = head([1.0, 0.1, 2.0]).loss([scores], samples, {})['loss_ce']
    expected = F.cross_entropy(scores / 0.5, labels[:, 0], ignore_index=255,
                               weight=torch.tensor([1.0, 0.1, 2.0]))
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(torch.autograd.grad(loss, scores),
                            torch.autograd.grad(expected, scores), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_nothing_labelled() -> None:
    labels = torch.full((1, 8, 8), 255)
    loss = head([1.0, 1.0, 1.0]).loss(
        [torch.randn(1, 3, 8, 8)], [SegDataSample(gt_sem_seg=PixelData(data=labels))], {})
    assert loss['loss_ce'] == 0


def test_a_weight_too_few() -> None:
    with pytest.raises(ValueError, match='class_weight has 2 entries, the head num_classes=3'):
        head([1.0, 0.1])
