"""The loss of a detector on its score map.

Shapes: B images, K classes, N boxes of an image, P cells inside some box; H, W image, h, w cells.
"""

from collections.abc import Sequence
from typing import Any

from denseclip_mm.models.maps import checked_tau

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BoxScoreMapLoss(nn.Module):
    """Binary cross entropy of the score map with rasterised boxes (DenseCLIP, section 3.3).

    The score map / tau is upsampled bilinearly. A cell belongs to the class of every box that it
    lies in; cells in no box do not count, since a box there may lack for many reasons. Ignored
    boxes, and masks, play no part.

    Args:
        tau: temperature.
        stride: pixels of a cell that the score map is compared at.
        loss_weight: of the mean over the cells that count and the classes.

    Raises:
        ValueError: if ``tau`` is not over 0, or ``stride`` under 1.

    Examples:
        >>> from mmengine.structures import InstanceData
        >>> loss, score_map = BoxScoreMapLoss(), torch.zeros(1, 3, 4, 4)
        >>> things = InstanceData(bboxes=torch.tensor([[0., 0, 32, 32]]), labels=torch.tensor([2]))
        >>> loss(score_map, [things], (64, 64))  # every class has probability 0.5: log 2
        tensor(0.6931)
        >>> loss(score_map, [things[:0]], (64, 64))
        tensor(0.)
    """

    def __init__(self, *, tau: float = 0.07, stride: int = 4, loss_weight: float = 1.0) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f'stride={stride} is no number of pixels')
        self.tau = checked_tau(tau)
        self.stride = stride
        self.loss_weight = loss_weight

    def forward(self, score_map: Tensor, things: Sequence[Any], size: tuple[int, int]) -> Tensor:
        """The loss of a batch; 0 if it has no box.

        Args:
            score_map: (B, K, ., .), cosines.
            things: of each image, with ``bboxes`` (N, 4), x1, y1, x2, y2 in pixels of the batch,
                and ``labels`` (N,): the ``gt_instances`` of mmdet.
            size: H, W of the images of the batch, padding included.

        Raises:
            ValueError: if a label is not one of the K classes.
        """
        cells = max(1, size[0] // self.stride), max(1, size[1] // self.stride)
        logits_BKhw = F.interpolate(score_map.float() / self.tau, cells, mode='bilinear')
        target_BKhw = torch.stack([
            rasterise(each.bboxes / self.stride, each.labels, score_map.shape[1], cells)
            for each in things])
        inside_Bhw = target_BKhw.any(1)
        logits_PK, target_PK = (each.movedim(1, 3)[inside_Bhw]
                                for each in (logits_BKhw, target_BKhw))
        loss = F.binary_cross_entropy_with_logits(logits_PK, target_PK.float(), reduction='sum')
        return self.loss_weight * loss / max(1, logits_PK.numel())


def rasterise(boxes_N4: Tensor, labels_N: Tensor, num_classes: int,
              size: tuple[int, int]) -> Tensor:
    """Cells inside the boxes of each class: (K, h, w), bool.

    Corners are cut to whole numbers and to the last row and column, and the last corner is not of
    the box, as in the published code: a box up to the border leaves the last row or column out, one
    thinner than a cell is empty.

    Args:
        boxes_N4: x1, y1, x2, y2 in cells.
        labels_N: classes.
        num_classes: K.
        size: h, w.

    Raises:
        ValueError: if a label is not below ``num_classes``.

    Examples:
        >>> rasterise(torch.tensor([[1., 0, 3.9, 2]]), torch.tensor([0]), 1, (3, 5)).int()
        tensor([[[0, 1, 1, 0, 0],
                 [0, 1, 1, 0, 0],
                 [0, 0, 0, 0, 0]]], dtype=torch.int32)
    """
    height, width = size
    inside_Khw = boxes_N4.new_zeros((num_classes, height, width), dtype=torch.bool)
    last = boxes_N4.new_tensor([width - 1, height - 1] * 2)
    corners = boxes_N4.trunc().clamp(min=0).minimum(last).int().tolist()
    for (x1, y1, x2, y2), label in zip(corners, labels_N.tolist(), strict=True):
        if label >= num_classes:
            raise ValueError(f'a box has the label {label}, but the score map has {num_classes} '
                             'classes; make class_names those of the training set')
        inside_Khw[label, y1:y2, x1:x2] = True
    return inside_Khw
