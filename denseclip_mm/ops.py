"""The compiled ops of mmcv that mmdet's detectors call, by torchvision's.

Signatures, in-place outputs included, are those that ``mmcv.ops`` expects of ``mmcv._ext``; shapes
are N boxes, R regions, B images, C channels, P cells of a region, K classes. ``compat`` puts these
in place where mmcv has no compiled ops.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops as vision


def nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes (N, 4) that are kept, by descending score.

    Args:
        boxes: x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: boxes that overlap a better one by more are dropped.
        offset: 1 where the last pixel belongs to a box, else 0.

    Examples:
        >>> boxes = torch.tensor([[0., 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]])
        >>> nms(boxes, torch.tensor([0.5, 0.9, 0.7]), iou_threshold=0.5, offset=0)
        tensor([1, 2])
    """
    return vision.nms(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)


def roi_align_forward(maps: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor,
                      argmax_x: Tensor, *, aligned_height: int, aligned_width: int,
                      spatial_scale: float, sampling_ratio: int, pool_mode: int,
                      aligned: bool) -> None:
    """Average the cells of regions (He et al. 2017, section 3) into ``output``.

    Args:
        maps: (B, C, H, W).
        rois: (R, 5): image, x1, y1, x2, y2 in pixels.
        output: (R, C, P_y, P_x), written.
        argmax_y: of maximum pooling; unused.
        argmax_x: as argmax_y.
        aligned_height: P_y.
        aligned_width: P_x.
        spatial_scale: cells of the maps a pixel.
        sampling_ratio: samples along each side of a cell of a region; 0: as many as it covers.
        pool_mode: 1, the mean.
        aligned: shift by half a pixel.

    Raises:
        NotImplementedError: for maximum pooling, which torchvision does not have.
    """
    _check_mean(pool_mode)
    output.copy_(torch.ops.torchvision.roi_align(
        _single(maps), _single(rois), spatial_scale, aligned_height, aligned_width, sampling_ratio,
        aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                       grad_maps: Tensor, *, aligned_height: int, aligned_width: int,
                       spatial_scale: float, sampling_ratio: int, pool_mode: int,
                       aligned: bool) -> None:
    """Write the gradient (B, C, H, W) of the maps; arguments as in :func:`roi_align_forward`."""
    _check_mean(pool_mode)
    grad_maps.copy_(torch.ops.torchvision._roi_align_backward(
        _single(grad_output), _single(rois), spatial_scale, aligned_height, aligned_width,
        *grad_maps.shape, sampling_ratio, aligned))


def _single(numbers: Tensor) -> Tensor:
    """In single precision at least; torchvision's RoIAlign has no backward in bfloat16."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _check_mean(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError("torchvision's RoIAlign has no maximum pooling; use "
                                  "pool_mode='avg', or an mmcv with compiled ops")


def sigmoid_focal_loss_forward(logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, *,
                               gamma: float, alpha: float) -> None:
    """Write the focal loss (Lin et al. 2017, Eq. 5) of each box and class into ``output``.

    Args:
        logits: (N, K).
        target: (N,) classes; K is background.
        weight: (K + 1,) of the classes of ``target``, or empty.
        output: (N, K), written.
        gamma: how much less well-classified boxes count.
        alpha: weight of the box's class, 1 - alpha of the others.
    """
    output.copy_(_focal_loss(logits, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(logits: Tensor, target: Tensor, weight: Tensor,
                                grad_logits: Tensor, *, gamma: float, alpha: float) -> None:
    """Write the gradient of :func:`sigmoid_focal_loss_forward`'s sum by the logits."""
    with torch.enable_grad():
        logits = logits.detach().requires_grad_()
        loss = _focal_loss(logits, target, weight, gamma, alpha).sum()
    grad_logits.copy_(torch.autograd.grad(loss, logits)[0])


def _focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float,
                alpha: float) -> Tensor:
    one_hot = F.one_hot(target, logits.shape[1] + 1)[:, :-1].to(logits.dtype)
    loss = vision.sigmoid_focal_loss(logits, one_hot, alpha=alpha, gamma=gamma)
    return loss * weight[target, None] if weight.numel() else loss


OPS = {op.__name__: op for op in (nms, roi_align_forward, roi_align_backward,
                                  sigmoid_focal_loss_forward, sigmoid_focal_loss_backward)}
