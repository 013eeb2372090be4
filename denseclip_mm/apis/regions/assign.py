"""Which region of a picture is which name: colour prompts, pooling, blurring.

Shapes: R regions, K names, C embedding channels, H, W size of the picture.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from denseclip_mm.apis.pictures import distinct_colours, enlarged, write_names
from denseclip_mm.apis.regions.colour_prompts import Colours, score_coloured
from denseclip_mm.apis.regions.masks import read_regions
from denseclip_mm.apis.regions.scores import ask, look, pixels_of, pool
from denseclip_mm.models.vocabulary import read_class_names

import cv2
import numpy as np
from mmseg.models import EncoderDecoder
from scipy.optimize import linear_sum_assignment
from torch import Tensor

WAYS = ('pool', 'colour', 'blur')
_BLUR = 0.1  # standard deviation, over the longest side of the picture


def assign_regions(model: EncoderDecoder, picture: np.ndarray | str | Path,
                   regions: np.ndarray | Tensor | Sequence, names: str | Sequence[str], *,
                   how: str = 'pool', one_to_one: bool = False,
                   colours: Colours | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Score every name for every region, and give regions their names.

    Three ways to ask a CLIP about a part of a picture:

    - ``'pool'``: the mean of the dense embedding in the region, against the names;
    - ``'colour'``: colour prompts (CPT, Yao et al. 2021, section 3.1): regions are painted, each in
      a colour of its own, several in a picture where they do not overlap. 'red star' is asked of
      the whole dense embedding, and the cell that fits best is the answer of the red region;
    - ``'blur'``: what is outside the region is blurred (fine-grained visual prompting, Yang et al.
      2023, section 3.2), and the global embedding is asked, with a picture for each region.

    The image tower sees the picture whole, as ``test_pipeline`` resizes it, also where the config
    slides a window.

    Args:
        model: a segmentor with a :class:`PixelTextNeck`, as of ``Predictor(...).model``.
        picture: (H, W, 3) uint8, RGB, or a file.
        regions: masks (R, H, W), or one of bool (H, W); boxes (R, 4), left, top, right and bottom
            in pixels; or a label map (H, W), each label but 255 a region, in ascending order. They
            may overlap. Arrays, tensors of any device or lists of such.
        names: K names, as in :class:`PixelTextNeck`; a single one, too.
        how: ``'pool'``, ``'colour'`` or ``'blur'``.
        one_to_one: give each name to one region at most.
        colours: of ``'colour'``; CPT's by default. What suits a model, finds
            :func:`search_colours <denseclip_mm.apis.regions.colour_prompts.search_colours>`.

    Returns:
        The scores (K, R), cosines; and the name of each region (R,), a row of the scores: the best,
        or with ``one_to_one`` the assignment with the largest sum, and -1 for regions that are
        left without a name.

    Raises:
        ValueError: if a region is empty or outside the picture, there are more than 1,024 or more
            than 2^31 pixels in all masks, the names are faulty or cannot be asked of this model, or
            an option is none of the above.

    Examples:
        >>> from denseclip_mm import Predictor
        >>> from denseclip_mm.demo.things import draw_things
        >>> model = Predictor('configs/demo/zero_shot_scenes.py', device='cpu').model
        >>> image, masks, shapes = draw_things(seed=1, index=0)
        >>> scores, assigned = assign_regions(model, image, masks, shapes, one_to_one=True)
        >>> scores.shape, assigned
        ((4, 4), array([0, 1, 2, 3]))
    """
    image = pixels_of(picture)
    masks_RHW = read_regions(regions, image.shape[:2])
    names = read_class_names(names)
    if how == 'pool':
        scores_KR = _pooled(model, image, masks_RHW, names)
    elif how == 'colour':
        scores_KR = score_coloured(model, image, masks_RHW, names, colours or Colours())
    elif how == 'blur':
        scores_KR = _blurred(model, image, masks_RHW, names)
    else:
        raise ValueError(f"how must be 'pool', 'colour' or 'blur', got {how!r}")
    scores_KR = scores_KR.cpu().numpy()
    return scores_KR, _assign(scores_KR) if one_to_one else scores_KR.argmax(0)


def draw_regions(image: np.ndarray, masks_RHW: np.ndarray, titles: Sequence[str]) -> np.ndarray:
    """The picture with its regions outlined, each with a title: (h, w, 3) uint8, RGB.

    Args:
        image: (H, W, 3) uint8, RGB; small ones are drawn larger.
        masks_RHW: the regions.
        titles: one for each.

    Examples:
        >>> image, masks = np.zeros((64, 64, 3), np.uint8), np.ones((1, 64, 64), bool)
        >>> draw_regions(image, masks, ['sky']).shape
        (512, 512, 3)
    """
    drawn, scale = enlarged(image)
    colours = distinct_colours(len(titles))
    places = []
    for mask_HW, colour in zip(masks_RHW, colours, strict=True):
        large = cv2.resize(mask_HW.astype(np.uint8), drawn.shape[1::-1],
                           interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, 3)
        y, x = np.nonzero(mask_HW)
        places.append((x.mean() * scale, y.mean() * scale))
    return write_names(drawn, [shorten(title, 40) for title in titles], places, colours)


def _assign(scores_KR: np.ndarray) -> np.ndarray:
    rows, columns = linear_sum_assignment(scores_KR, maximize=True)
    assigned = np.full(scores_KR.shape[1], -1)
    assigned[columns] = rows
    return assigned


def _pooled(model: EncoderDecoder, image: np.ndarray, masks_RHW: np.ndarray,
            names: list[str]) -> Tensor:
    seen = look(model, [image])
    pooled_RC = pool(seen[1], masks_RHW, [0] * len(masks_RHW))
    return ask(model, names, seen, pooled_RC.T[None, :, None])[0, :, 0]


def _blurred(model: EncoderDecoder, image: np.ndarray, masks_RHW: np.ndarray,
             names: list[str]) -> Tensor:
    blurred = cv2.GaussianBlur(image, (0, 0), _BLUR * max(image.shape[:2]))
    seen = look(model, (np.where(mask_HW[..., None], image, blurred) for mask_HW in masks_RHW))
    return ask(model, names, seen, seen[0][:, :, None, None])[:, :, 0, 0].T
