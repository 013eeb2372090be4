"""Outlines of things in a COCO file: polygons and run lengths, as pycocotools would read them.

What it is not made for it does not always refuse: numbers that are none end the process by a
signal, points far away take all memory, and run lengths that are too few leave the rest of a mask
to chance.
"""

import math
from typing import Any

import numpy as np

NO_OUTLINE = ("annotations without an outline: {}; write \"segmentation\": [[x1, y1, x2, y2, x3, "
              "y3, ...]], or train and measure boxes alone (LoadAnnotations(with_mask=False), "
              "CocoMetric(metric='bbox'))")
NO_POLYGONS = ('annotations whose segmentation is neither a list of polygons, each a list of '
               'numbers, nor run lengths: {}; write "segmentation": [[x1, y1, x2, y2, x3, y3, '
               '...]], in pixels')
FAR = 'polygons with points that are far from the picture or no numbers: {}; write pixels'
BAD_RUNS = ('run lengths that are damaged or of another size than the picture: {}; write '
            '"segmentation": {"size": [height, width], "counts": ...} anew')
FEW = ('boxes whose polygons have fewer than three points, or half a point: {}; mmdet leaves the '
       'boxes out, and write [x1, y1, x2, y2, x3, y3, ...]')
SHORT = ('polygons of fewer than three points in a file that CocoMetric measures masks by: {}; '
         'pycocotools ends on them, so write [x1, y1, x2, y2, x3, y3, ...]')
Extent = tuple[float, float, float, float]  # left, top, right, bottom


def examine(outline: Any, height: float, width: float, measured: bool) -> str | Extent:
    """The message about an outline, or what it encloses.

    Args:
        outline: ``segmentation`` of an annotation.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        measured: whether pycocotools reads it as it is; mmdet drops odd polygons before.

    Examples:
        >>> examine([[1, 2, 9, 2, 9, 8]], 16, 16, measured=True)
        (1, 2, 9, 8)
        >>> examine([[1, 2, 9, 8]], 16, 16, measured=False) == FEW
        True
    """
    if not outline:
        return NO_OUTLINE
    if isinstance(outline, dict):
        return _examine_runs(outline, height, width)
    if not isinstance(outline, list):
        return NO_POLYGONS
    reach = max(height, width)
    for polygon in outline:
        if not isinstance(polygon, list) or not {*map(type, polygon)} <= {int, float}:
            return NO_POLYGONS
        # In this order: nan passes either of the first, and a sum of integers has no limit.
        if polygon and not (min(polygon) >= -reach and max(polygon) <= 2 * reach
                            and math.isfinite(sum(polygon))):
            return FAR
        if measured and len(polygon) < 6:
            return SHORT
    kept = [polygon for polygon in outline if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not kept:
        return FEW
    return (min(min(polygon[::2]) for polygon in kept), min(min(polygon[1::2]) for polygon in kept),
            max(max(polygon[::2]) for polygon in kept), max(max(polygon[1::2]) for polygon in kept))


def _examine_runs(outline: dict[str, Any], height: float, width: float) -> str | Extent:
    counts = outline.get('counts')
    try:
        lengths = run_lengths(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    except (ValueError, TypeError, OverflowError):
        return BAD_RUNS
    if (outline.get('size') != [height, width] or lengths.ndim != 1 or lengths.min(initial=0) < 0
            or lengths.sum() != height * width or lengths.max(initial=0) > height * width):
        return BAD_RUNS
    ends = lengths.cumsum()
    first, last = ends[:-1:2][lengths[1::2] > 0], ends[1::2][lengths[1::2] > 0] - 1
    if not len(first):
        return 0, 0, 0, 0
    height = int(height)
    whole = (first // height != last // height).any()  # a run over the end of a column has all rows
    return (int(first.min()) // height, 0 if whole else int((first % height).min()),
            int(last.max()) // height + 1, height if whole else int((last % height).max()) + 1)


def run_lengths(counts: str) -> np.ndarray:
    """Numbers of COCO's compressed run lengths.

    A character holds 5 bits, the lowest first, and whether more follow; from the fourth number on
    it is the difference to that before the last.

    Raises:
        ValueError: if they are cut or no such text.

    Examples:
        >>> run_lengths('52203').tolist()
        [5, 2, 2, 2, 5]
    """
    codes = np.frombuffer(counts.encode('ascii'), np.uint8).astype(np.int64) - 48
    last = codes & 32 == 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise ValueError('these are no run lengths')
    ends = np.flatnonzero(last)
    starts = np.r_[0, ends[:-1] + 1]
    sizes = ends - starts + 1
    if sizes.max() > 7:  # 35 bits
        raise ValueError('these are no run lengths of a picture')
    place = np.arange(len(codes)) - starts.repeat(sizes)
    numbers = np.add.reduceat((codes & 31) << 5 * place, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * sizes, 0)
    for first in (1, 2):
        numbers[first::2] = numbers[first::2].cumsum()
    return numbers
