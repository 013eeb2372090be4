"""What is kept of a visitor's result, for its sliders and clicks (see app.py).

Gradio keeps it for each visitor: a result as it is may have 100 MB. Kept are labels in as few bits
as they need, scores in 16, and the names that a click lists; the picture is read again.
"""

from dataclasses import dataclass, replace
from typing import Any

from denseclip_mm.apis import Detection, Prediction

import cv2
import numpy as np

STEPS = 25_000  # of a score from 0 to 1; those of a slider and two decimals are whole numbers of it
SIDE = 128  # longest side of the grid in whose cells a click reads cosines
LISTED = 5  # names that a click lists
NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class Kept:
    """A result in little memory.

    Attributes:
        picture: Gradio's description of the file, from which it is read again.
        packed: the result without picture and score map; scores of pixels as steps (uint16), masks
            of things as run lengths.
        best: the names with the largest cosines in each cell of a coarse grid, and these (float16),
            both (``LISTED``, h, w); None without a score map, or for things.
    """

    picture: dict[str, Any]
    packed: Prediction | Detection
    best: tuple[np.ndarray, np.ndarray] | None

    def unpacked(self) -> Prediction | Detection:
        """The result, still without picture and score map."""
        packed = self.packed
        if isinstance(packed, Prediction):
            return replace(packed, scores=((packed.scores + 0.5) / STEPS - 1).astype(np.float32))
        if packed.masks is None:
            return packed
        from pycocotools.mask import decode
        return replace(packed, masks=np.array([decode(each) for each in packed.masks], bool))


def keep(result: Prediction | Detection, picture: dict[str, Any]) -> Kept:
    """Keep a result of an uploaded picture.

    Scores are cut to steps of 1 / 25,000: those of a click and of a slider come out as they were.

    Args:
        result: whatever its scores, to be looked at again under other thresholds.
        picture: Gradio's description of the file.
    """
    if isinstance(result, Detection):
        masks = result.masks
        if masks is not None:
            from pycocotools.mask import encode
            masks = [encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
        return Kept(picture, replace(result, image=NO_PICTURE, masks=masks, cells=None), None)
    few = np.min_scalar_type(len(result.class_names))
    steps = np.clip(np.floor((result.scores.astype(np.float64) + 1) * STEPS), 0, 2 * STEPS)
    return Kept(picture, replace(
        result, image=NO_PICTURE, labels=result.labels.astype(few), score_map=None,
        scores=steps.astype(np.uint16)), _best(result.score_map, few))


def _best(maps_KHW: np.ndarray | None, kind: np.dtype) -> tuple[np.ndarray, np.ndarray] | None:
    if maps_KHW is None:
        return None
    scale = min(1, SIDE / max(maps_KHW.shape[1:]))
    small_Khw = np.stack([
        cv2.resize(each, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for each in maps_KHW]).astype(np.float16)
    order_Lhw = np.argsort(-small_Khw, axis=0, kind='stable')[:LISTED]
    return order_Lhw.astype(kind), np.take_along_axis(small_Khw, order_Lhw, axis=0)
