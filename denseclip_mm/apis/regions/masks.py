"""Regions of a picture: masks, boxes, a label map, and files of them, which may be anybody's.

Shapes: R regions, H, W size of the picture.
"""

import json
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from denseclip_mm.apis.pictures import whole_picture

import numpy as np
from torch import Tensor

VOID = 255  # of label maps, as in mmseg
MOST_REGIONS = 1024
MOST_PIXELS = 2**31  # of all masks together, a byte each


def check_count(count: int, size: tuple[int, int]) -> None:
    """Refuse regions whose masks would fill the memory.

    Raises:
        ValueError: if there are more than ``MOST_REGIONS``, or ``MOST_PIXELS``.
    """
    most = min(MOST_REGIONS, MOST_PIXELS // (size[0] * size[1]))
    if count > most:
        raise ValueError(f'there are {count:,} regions, and at most {most:,} of a picture of '
                         f'{size[1]:,} x {size[0]:,} pixels are named at a time; give fewer'
                         + ('' if most == MOST_REGIONS else ', or a smaller picture'))


def read_regions(regions: np.ndarray | Tensor | Sequence, size: tuple[int, int]) -> np.ndarray:
    """Masks (R, H, W), bool, of regions in any of three forms.

    Args:
        regions: masks (R, H, W), what is not 0 belongs to the region (a single one of bool may be
            (H, W)); boxes (R, 4), left, top, right and bottom in pixels, from edge to edge, cut off
            at the picture's; or a label map (H, W), each label but 255 a region, in ascending
            order.
        size: H, W.

    Raises:
        ValueError: if they are none of the three, there is none, there are too many (see
            :func:`check_count`), one is empty or outside the picture, a mask is soft, or a label
            map is none; says which.

    Examples:
        >>> read_regions([[0, 0, 1, 2], [1, 1, 9, 9]], (2, 3)).astype(int).tolist()
        [[[1, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 1, 1]]]
        >>> read_regions(np.array([[7, 7, 255], [0, 7, 255]]), (2, 3)).sum((1, 2))
        array([1, 3])
    """
    height, width = size
    try:
        regions = np.asarray([*map(_array, regions)] if isinstance(regions, list | tuple)
                             else _array(regions))
    except ValueError:  # rows of different lengths
        raise ValueError('regions are of different sizes; give masks of the size of the picture, '
                         'or boxes of four numbers') from None
    if not (np.issubdtype(regions.dtype, np.number) or regions.dtype == bool):
        raise ValueError(f'regions are numbers, got {regions.dtype}')
    if not len(regions.shape) or not len(regions):
        raise ValueError('there is no region to name')
    if regions.shape == size and regions.dtype == bool:
        masks = regions[None]
    elif regions.shape == size:
        labels = np.unique(regions)
        if np.array_equal(labels, [0, VOID]):
            raise ValueError(f'a label map of 0 and {VOID} alone looks like a mask, and its region '
                             f'would be what is outside, as {VOID} is none; give masks (R, H, W)')
        if (regions % 1 != 0).any():
            raise ValueError('a label map holds numbers that are not whole')
        labels = labels[labels != VOID]
        check_count(len(labels), size)
        masks = np.stack([regions == label for label in labels] or [np.zeros(size, bool)])
    elif regions.ndim == 2 and regions.shape[1] == 4:
        if not np.isfinite(regions).all():
            raise ValueError('a box has a corner that is no number')
        check_count(len(regions), size)
        left, top, right, bottom = np.round(regions).clip(
            0, [width, height, width, height]).astype(int).T[..., None, None]
        y, x = np.ogrid[:height, :width]
        masks = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    elif regions.ndim == 3 and regions.shape[1:] == size:
        if regions.dtype.kind == 'f' and not np.isin(regions, (0, 1)).all():
            raise ValueError('a mask holds other numbers than 0 and 1; say from which on a pixel '
                             'belongs to the region: masks > 0.5')
        check_count(len(regions), size)
        masks = regions.astype(bool, copy=False)
    else:
        raise ValueError(f'regions of the shape {regions.shape} are neither masks (R, {height}, '
                         f'{width}), nor boxes (R, 4), nor a label map ({height}, {width}) of this '
                         'picture')
    empty = np.flatnonzero(~masks.any((1, 2)))
    if len(empty):
        raise ValueError(f'region {empty[0]} has no pixel in the picture of {width} x {height} '
                         'pixels')
    return masks


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def read_label_map(path: str | Path) -> np.ndarray:
    """Labels (H, W) of a file, as they are in it: of a palette the indices.

    Raises:
        ValueError: if the file is no whole picture of one channel, is too large, or is not there.
    """
    picture = whole_picture(path)
    if picture is None:
        raise ValueError(f'{path} is no picture that Pillow can read')
    labels = np.asarray(picture)
    if labels.ndim != 2:
        raise ValueError(f'{path} has {labels.shape[2]} channels; masks and labels have one')
    return labels


def read_coco_boxes(path: str | Path, picture: str | Path) -> np.ndarray:
    """Boxes (R, 4), left, top, right, bottom, of a picture in a file of COCO annotations.

    Args:
        path: JSON with ``annotations``, whose ``bbox`` is left, top, width and height. With
            ``images``, those count whose image has the name of the picture, and of several of that
            name the one that shares most of the folders above it.
        picture: the picture's file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such JSON, has no box of this picture, or does not say which image
            the picture is.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no file {str(path)!r} (looked from {Path.cwd()})')
    try:
        content: Any = json.loads(Path(path).read_text())
        annotations = content['annotations']
        shared = {image['id']: _shared_end(image['file_name'], picture)
                  for image in content.get('images') or []}
        if shared:
            most = max(shared.values())
            ids = {each for each in shared if most[0] and shared[each] == most}
            annotations = [each for each in annotations if each['image_id'] in ids]
        else:
            ids = {each.get('image_id') for each in annotations}
        boxes = np.array([each['bbox'] for each in annotations], float).reshape(
            len(annotations), 4)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f'{path} is no COCO file, which has "annotations" with an "image_id" and '
                         'a "bbox" of four numbers each') from None
    if len(ids) > 1:
        raise ValueError(f'{path} has {len(ids)} images that may be {picture}; give each its '
                         'file_name in "images", with as much of the path as tells them apart')
    if not len(boxes):
        raise ValueError(f'{path} has no box of a picture named {Path(picture).name!r}')
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _shared_end(name: str, picture: str | Path) -> tuple[int, bool]:
    """How many parts a picture's path ends with that a name ends with; whether they are all."""
    parts = Path(name).parts
    pairs = zip(reversed(parts), reversed(Path(picture).absolute().parts), strict=False)
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return count, count == len(parts)
