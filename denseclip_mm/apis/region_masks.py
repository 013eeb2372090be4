"""Regions of a picture: masks, boxes, a label map, and files of them, which may be anybody's.

Shapes: R regions, H, W size of the picture.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denseclip_mm.apis.pictures import check_size

import numpy as np
from PIL import Image

VOID = 255  # of label maps, as in mmseg


def read_regions(regions: np.ndarray | Sequence, size: tuple[int, int]) -> np.ndarray:
    """Masks (R, H, W), bool, of regions in any of three forms.

    Args:
        regions: masks (R, H, W), what is not 0 belongs to the region; boxes (R, 4), left, top,
            right and bottom in pixels, from edge to edge, cut off at the picture's; or a label map
            (H, W), each label but 255 a region, in ascending order.
        size: H, W.

    Raises:
        ValueError: if they are none of the three, there is none, or one is empty or outside the
            picture; says which.

    Examples:
        >>> read_regions([[0, 0, 1, 2], [1, 1, 9, 9]], (2, 3)).astype(int).tolist()
        [[[1, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 1, 1]]]
        >>> read_regions(np.array([[7, 7, 255], [0, 7, 255]]), (2, 3)).sum((1, 2))
        array([1, 3])
    """
    height, width = size
    try:
        regions = np.asarray(regions)
    except ValueError:  # rows of different lengths
        raise ValueError('regions are of different sizes; give masks of the size of the picture, '
                         'or boxes of four numbers') from None
    if not (np.issubdtype(regions.dtype, np.number) or regions.dtype == bool):
        raise ValueError(f'regions are numbers, got {regions.dtype}')
    if not len(regions.shape) or not len(regions):
        raise ValueError('there is no region to name')
    if regions.shape == size:
        masks = np.stack([regions == label for label in np.unique(regions) if label != VOID]
                         or [np.zeros(size, bool)])
    elif regions.ndim == 2 and regions.shape[1] == 4:
        if not np.isfinite(regions).all():
            raise ValueError('a box has a corner that is no number')
        left, top, right, bottom = np.round(regions).clip(
            0, [width, height, width, height]).astype(int).T[..., None, None]
        y, x = np.ogrid[:height, :width]
        masks = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    elif regions.ndim == 3 and regions.shape[1:] == size:
        masks = regions != 0
    else:
        raise ValueError(f'regions of the shape {regions.shape} are neither masks (R, {height}, '
                         f'{width}), nor boxes (R, 4), nor a label map ({height}, {width}) of this '
                         'picture')
    empty = np.flatnonzero(~masks.any((1, 2)))
    if len(empty):
        raise ValueError(f'region {empty[0]} has no pixel in the picture of {width} x {height} '
                         'pixels')
    return masks


def read_label_map(path: str | Path) -> np.ndarray:
    """Labels (H, W) of a file, as they are in it: of a palette the indices.

    Raises:
        ValueError: if the file is no picture of one channel, is too large, or is not there.
    """
    check_size(path)
    try:
        with Image.open(path) as picture:
            labels = np.asarray(picture)
    except Exception:  # damaged files raise nearly anything
        raise ValueError(f'{path} is no picture that Pillow can read') from None
    if labels.ndim != 2:
        raise ValueError(f'{path} has {labels.shape[2]} channels; masks and labels have one')
    return labels


def read_coco_boxes(path: str | Path, picture: str | Path) -> np.ndarray:
    """Boxes (R, 4), left, top, right, bottom, of a picture in a file of COCO annotations.

    Args:
        path: JSON with ``annotations``, whose ``bbox`` is left, top, width and height. With
            ``images``, those count whose image has the name of the picture.
        picture: the picture's file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such JSON, or has no box of this picture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no file {str(path)!r} (looked from {Path.cwd()})')
    try:
        content: Any = json.loads(Path(path).read_text())
        annotations = content['annotations']
        if content.get('images'):
            ids = [image['id'] for image in content['images']
                   if Path(image['file_name']).name == Path(picture).name]
            annotations = [each for each in annotations if each['image_id'] in ids]
        boxes = np.array([each['bbox'] for each in annotations], float).reshape(-1, 4)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f'{path} is no COCO file, which has "annotations" with an "image_id" and '
                         'a "bbox" of four numbers each') from None
    if not len(boxes):
        raise ValueError(f'{path} has no box of a picture named {Path(picture).name!r}')
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
