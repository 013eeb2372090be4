"""The loss of a detector on its score map, against the rule written out cell by cell."""

from denseclip_mm.models.box_score_map_loss import BoxScoreMapLoss, rasterise

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData


def things(*boxes: tuple) -> InstanceData:
    """Boxes as (label, x1, y1, x2, y2)."""
    return InstanceData(bboxes=torch.tensor([box[1:] for box in boxes]).float().reshape(-1, 4),
                        labels=torch.tensor([box[0] for box in boxes], dtype=torch.long))


BATCH = [things((0, 3, 5, 17, 14), (2, 8, 8, 32, 24), (2, 0, 0, 9, 9)),  # overlaps; the border
         things((1, -5, 2, 6, 40), (0, 20, 3, 21, 20))]  # over the border; thinner than a cell


def by_cells(logits: np.ndarray, batch: list, stride: int) -> float:
    """Mean over the cells in a box and all classes, one cell at a time."""
    total, count = 0.0, 0
    num_classes, height, width = logits.shape[1:]
    for image, each in zip(logits, batch, strict=True):
        for y in range(height):
            for x in range(width):
                inside = set()
                for (x1, y1, x2, y2), label in zip(each.bboxes.tolist(), each.labels.tolist(),
                                                   strict=True):
                    left, right = (min(max(int(v / stride), 0), width - 1) for v in (x1, x2))
                    top, bottom = (min(max(int(v / stride), 0), height - 1) for v in (y1, y2))
                    if left <= x < right and top <= y < bottom:
                        inside.add(label)
                if inside:
                    count += num_classes
                    p = 1 / (1 + np.exp(-image[:, y, x]))
                    total -= sum(np.log(p[k] if k in inside else 1 - p[k])
                                 for k in range(num_classes))
    return total / count


@pytest.mark.parametrize('stride', [4, 8])
def test_loss(stride):
    torch.manual_seed(0)
    score_map = torch.rand(2, 3, 24 // stride, 32 // stride) * 2 - 1
    loss = BoxScoreMapLoss(tau=0.5, stride=stride, loss_weight=3)(score_map, BATCH, (24, 32))
    assert loss.item() == pytest.approx(3 * by_cells(score_map.double().numpy() / 0.5, BATCH,
                                                     stride), rel=1e-5)


def test_the_score_map_is_upsampled():
    """A map that is a slope stays one, at half the distance."""
    slope = torch.arange(8.).repeat(1, 1, 6, 1)
    fine = ((torch.arange(16.) + 0.5) / 2 - 0.5).clamp(0, 7).repeat(1, 1, 12, 1)
    losses = [BoxScoreMapLoss(tau=1)(each, [things((0, 0, 0, 64, 48))], (48, 64))
              for each in (slope, fine)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)


def test_only_cells_in_boxes_have_a_gradient():
    score_map = torch.zeros(2, 3, 6, 8, requires_grad=True)
    BoxScoreMapLoss()(score_map, BATCH, (24, 32)).backward()
    inside = torch.stack([rasterise(each.bboxes / 4, each.labels, 3, (6, 8)) for each in BATCH])
    assert torch.equal(score_map.grad != 0, inside.any(1, keepdim=True).expand(-1, 3, -1, -1))
    assert torch.equal(score_map.grad < 0, inside)


def test_no_box_is_no_loss():
    score_map = torch.rand(2, 3, 6, 8, requires_grad=True)
    loss = BoxScoreMapLoss()(score_map, [things(), things((0, 20, 3, 21, 20))], (24, 32))
    loss.backward()
    assert loss.item() == 0 and not score_map.grad.any()


def test_half_precision_is_computed_in_single():
    score_map = torch.rand(2, 3, 6, 8)
    assert BoxScoreMapLoss()(score_map.half(), BATCH, (24, 32)).dtype == torch.float32


def test_a_label_beyond_the_classes():
    with pytest.raises(ValueError, match='a box has the label 2, but the score map has 2 classes'):
        BoxScoreMapLoss()(torch.zeros(2, 2, 6, 8), BATCH, (24, 32))


def test_strides():
    """A cell may be larger than the images; none has less than a pixel."""
    things = InstanceData(bboxes=torch.tensor([[0., 0, 300, 300]]), labels=torch.tensor([2]))
    assert BoxScoreMapLoss(stride=200)(torch.zeros(1, 3, 4, 4), [things], (64, 64)).isfinite()
    with pytest.raises(ValueError, match='stride=0 is no number of pixels'):
        BoxScoreMapLoss(stride=0)
