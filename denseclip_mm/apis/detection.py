"""What a detector of mmdet makes of a picture.

Shapes: N things, K names, H, W size of the picture, h, w cells.
"""

from math import ceil
from typing import Any

from denseclip_mm.apis.open_vocabulary import names_boxes
from denseclip_mm.apis.prediction import Detection
from denseclip_mm.apis.regions.scores import cells_of_picture, pool

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, masks_to_boxes

_OVERLAP = 0.5  # IoU of boxes of one name, above which the less certain one is left out


def labelled_by(model: nn.Module) -> str:
    """What names the things, see :class:`Detection <denseclip_mm.apis.Detection>`."""
    return 'score map in the boxes of the detector' if names_boxes(model) else 'detector'


@torch.no_grad()
def predict(model: nn.Module, image: np.ndarray, inputs_13HW: Tensor, sample: Any) -> Detection:
    """Find the things in a picture by the model's own ``predict``.

    Under other names, each thing gets the one with the largest mean cosine in its mask, or in its
    box if the model makes no masks. Of things that then have one name, those that overlap a more
    certain one by more than half (IoU) are left out, as a detector does among its own classes.

    Args:
        model: a detector or a view of one, in evaluation mode, with ``dataset_meta``.
        image: the picture (H, W, 3), RGB.
        inputs_13HW: it, as the model's data preprocessor gives it.
        sample: its metainfo.

    Raises:
        ValueError: if the model finds no boxes.
    """
    result = model.predict(inputs_13HW, [sample])[0]
    if 'pred_instances' not in result or 'bboxes' not in result.pred_instances:
        raise ValueError(f'{type(model).__name__} is no detector of boxes')
    found = result.pred_instances
    found = found[found.scores.sort(descending=True, stable=True).indices]
    if 'masks' in found:
        found.bboxes = _boxes_of_masks(found.bboxes, found.masks)
    score_map = getattr(model, 'score_map', None)
    cells_KHW = None if score_map is None else cells_of_picture(
        score_map.float(), sample.img_shape, inputs_13HW.shape[2:])[0]
    if names_boxes(model):
        found.labels = _best_names(cells_KHW, found, image.shape[:2])
        found = found[batched_nms(found.bboxes, found.scores, found.labels, _OVERLAP)]
    return Detection(
        image=image, **{key: found[of].cpu().numpy() for key, of in dict(
            boxes='bboxes', scores='scores', labels='labels').items()},
        masks=found.masks.cpu().numpy().astype(bool) if 'masks' in found else None,
        cells=None if cells_KHW is None else cells_KHW.cpu().numpy(),
        class_names=list(model.dataset_meta['classes']),
        palette=list(model.dataset_meta['palette']), labelled_by=labelled_by(model))


def _boxes_of_masks(boxes_N4: Tensor, masks_NHW: Tensor) -> Tensor:
    """The boxes, of their masks where they have no area: SOLO and its like make masks alone."""
    sizes_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    missing_N = (sizes_N2 <= 0).any(1) & masks_NHW.flatten(1).any(1)
    boxes_N4 = boxes_N4.clone()
    boxes_M4 = masks_to_boxes(masks_NHW[missing_N]).to(boxes_N4)
    boxes_N4[missing_N] = boxes_M4 + boxes_M4.new_tensor([0, 0, 1, 1])  # from edge to edge
    return boxes_N4


def _best_names(cells_KHW: Tensor, found: Any, size: tuple[int, int]) -> Tensor:
    """The name of each thing (N,): the largest mean cosine in its region."""
    labels = torch.zeros_like(found.labels)
    height, width = size
    for index, box in enumerate(found.bboxes.tolist()):
        region = found.masks[index].cpu().numpy() if 'masks' in found else np.zeros(size, bool)
        if not region.any():
            left, top = (min(max(int(start), 0), end - 1)
                         for start, end in zip(box[:2], (width, height), strict=True))
            region = np.zeros(size, bool)
            region[top:max(ceil(box[3]), top + 1), left:max(ceil(box[2]), left + 1)] = True
        labels[index] = pool(cells_KHW[None], region[None], [0])[0].argmax()
    return labels
