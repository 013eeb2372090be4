"""mmcv's own interfaces on torchvision's ops, against plain formulas and torchvision itself."""

import math
import sys

from denseclip_mm import compat, ops

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms, roi_align, sigmoid_focal_loss
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch.nn import functional as F
from torchvision import ops as vision

pytestmark = pytest.mark.skipif(
    not isinstance(sys.modules.get('mmcv._ext'), compat._MissingOps),
    reason='this mmcv has compiled ops, which are used')


def boxes_of(count: int, side: float = 32) -> torch.Tensor:
    corners = torch.rand(count, 2, 2).sort(1).values * side
    return corners.reshape(count, 4)


def kept_by_formula(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list:
    """Greedy suppression, box by box."""
    kept: list[int] = []
    for index in np.argsort(-scores):
        x1, y1, x2, y2 = boxes[index]
        for other in kept:
            u1, v1, u2, v2 = boxes[other]
            inter = (max(0, min(x2, u2) + offset - max(x1, u1))
                     * max(0, min(y2, v2) + offset - max(y1, v1)))
            areas = [(c - a + offset) * (d - b + offset)
                     for a, b, c, d in (boxes[index], boxes[other])]
            if inter / (sum(areas) - inter) > threshold:
                break
        else:
            kept.append(int(index))
    return kept


@pytest.mark.parametrize('offset', [0, 1])
def test_nms(offset):
    torch.manual_seed(0)
    boxes, scores = boxes_of(60), torch.rand(60)
    expected = kept_by_formula(boxes.numpy(), scores.numpy(), 0.3, offset)
    assert 5 < len(expected) < 55
    dets, kept = nms(boxes, scores, iou_threshold=0.3, offset=offset)
    assert kept.tolist() == expected
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[expected])
    _, kept = nms(boxes, scores, iou_threshold=0.3, offset=offset, score_threshold=0.5, max_num=3)
    assert kept.tolist() == [index for index in expected if scores[index] > 0.5][:3]
    assert nms(boxes[:0], scores[:0], iou_threshold=0.3, offset=offset)[1].numel() == 0


def test_batched_nms_keeps_classes_apart():
    torch.manual_seed(1)
    boxes, scores, labels = boxes_of(60), torch.rand(60), torch.randint(0, 3, (60, ))
    _, kept = batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.3))
    torch.testing.assert_close(kept, vision.batched_nms(boxes, scores, labels, 0.3))


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align(aligned, sampling_ratio):
    torch.manual_seed(2)
    rois = torch.cat([torch.randint(0, 2, (7, 1)), boxes_of(7, 60)], 1)
    weights = torch.rand(7, 5, 3, 4)
    results = []
    for op, order in ((roi_align, (0.25, sampling_ratio, 'avg', aligned)),
                      (vision.roi_align, (0.25, sampling_ratio, aligned))):
        torch.manual_seed(3)
        maps = torch.rand(2, 5, 16, 16, requires_grad=True)
        output = op(maps, rois, (3, 4), *order)
        (output * weights).sum().backward()
        results.append((output.detach(), maps.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert results[0][1].abs().sum() > 0


def test_roi_align_under_autocast():
    """bfloat16 has a backward, too: the gradient is that of single precision, rounded."""
    torch.manual_seed(2)
    rois = torch.cat([torch.randint(0, 2, (7, 1)), boxes_of(7, 60)], 1)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(3)
        maps = torch.rand(2, 5, 16, 16).to(torch.bfloat16).to(dtype).requires_grad_()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = roi_align(maps, rois.to(dtype), (3, 4), 0.25, 2, 'avg', True)
        assert output.dtype == maps.dtype
        output.float().square().sum().backward()
        gradients.append(maps.grad)
    for gradient in gradients[1:]:
        assert (gradient - gradients[0]).norm() < 0.02 * gradients[0].norm()


def test_roi_align_of_a_slope_is_its_value_at_the_centre():
    """Bilinear samples of a linear function are exact, wherever they lie."""
    y, x = torch.meshgrid(torch.arange(16.), torch.arange(16.), indexing='ij')
    maps = (3 * x + 5 * y + 1)[None, None]
    rois = torch.tensor([[0, 8., 12, 40, 44]])  # pixels, 4 a cell
    centre_x, centre_y = 24 / 4 - 0.5, 28 / 4 - 0.5
    output = roi_align(maps, rois, (1, 1), 0.25, 2, 'avg', True)
    assert output.item() == pytest.approx(3 * centre_x + 5 * centre_y + 1, rel=1e-6)


def test_roi_align_refuses_the_maximum():
    with pytest.raises(NotImplementedError, match='no maximum pooling; use'):
        roi_align(torch.rand(1, 1, 8, 8), torch.tensor([[0, 0., 0, 4, 4]]), 2, 1., 0, 'max', True)


@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss(weighted):
    torch.manual_seed(4)
    logits = torch.randn(9, 4, dtype=torch.double, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, 4, 0, 2, 4])  # 4 is background
    weight = torch.rand(5, dtype=torch.double) if weighted else None
    p, one_hot = logits.detach().sigmoid(), F.one_hot(target, 5)[:, :4].double()
    expected = -(0.3 * one_hot * (1 - p)**1.5 * p.log()
                 + 0.7 * (1 - one_hot) * p**1.5 * (1 - p).log())
    if weighted:
        expected = expected * weight[target][:, None]
    output, gradient = torch.empty_like(logits), torch.empty_like(logits)
    each = torch.empty(0) if weight is None else weight
    ops.sigmoid_focal_loss_forward(logits, target, each, output.detach(), gamma=1.5, alpha=0.3)
    torch.testing.assert_close(output.detach(), expected)
    ops.sigmoid_focal_loss_backward(logits, target, each, gradient.detach(), gamma=1.5, alpha=0.3)
    step = 1e-6
    for row, column in ((0, 0), (4, 1), (8, 3)):
        moved = logits.detach().clone()
        moved[row, column] += step
        after = torch.empty_like(moved)
        ops.sigmoid_focal_loss_forward(moved, target, each, after, gamma=1.5, alpha=0.3)
        assert gradient[row, column].item() == pytest.approx(
            ((after - expected).sum() / step).item(), rel=1e-4)
    if not weighted:
        loss = sigmoid_focal_loss(logits, target, 1.5, 0.3, None, 'mean')
        loss.backward()
        assert loss.item() == pytest.approx(expected.sum().item() / 9)
        torch.testing.assert_close(logits.grad, gradient.detach() / 9)


def bilinear(map_HWE: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """What lies between the four cells around a place; nothing lies outside of the map."""
    height, width, _ = map_HWE.shape
    x, y = x * width - 0.5, y * height - 0.5
    left, top = math.floor(x), math.floor(y)
    return sum((1 - abs(x - column)) * (1 - abs(y - row)) * map_HWE[row, column]
               for row in (top, top + 1) for column in (left, left + 1)
               if 0 <= row < height and 0 <= column < width)


def test_deformable_attention():
    """What mmcv calls on a GPU, sample by sample, and its gradients by small steps."""
    torch.manual_seed(5)
    shapes, heads, channels = [(4, 6), (2, 3)], 2, 3
    value = torch.rand(2, 30, heads, channels, dtype=torch.double, requires_grad=True)
    locations = torch.rand(2, 5, heads, 2, 4, 2, dtype=torch.double).mul(1.2).sub(0.1)
    weights = torch.rand(2, 5, heads, 2, 4, dtype=torch.double)
    arguments = value, locations.requires_grad_(), weights.requires_grad_()
    starts = torch.tensor([0, 24])

    def attend(value, locations, weights):
        return MultiScaleDeformableAttnFunction.apply(
            value, torch.tensor(shapes), starts, locations, weights, 64)
    output = attend(*arguments)
    assert output.shape == (2, 5, heads * channels)
    with torch.no_grad():
        for image, query, head in ((0, 0, 0), (1, 4, 1), (0, 2, 1)):
            expected = sum(
                weights[image, query, head, level, sample] * bilinear(
                    cells.unflatten(0, shapes[level]),
                    *locations[image, query, head, level, sample].tolist())
                for level, cells in enumerate(value[image, :, head].split([24, 6]))
                for sample in range(4))
            torch.testing.assert_close(output[image, query].unflatten(0, (heads, -1))[head],
                                       expected)
    assert torch.autograd.gradcheck(attend, arguments)
    half = [each.detach().to(torch.bfloat16).requires_grad_() for each in arguments]
    attend(*half).sum().backward()
    assert all(each.grad.dtype == torch.bfloat16 and each.grad.isfinite().all() for each in half)
