"""Boxes and masks of the things of procedural scenes, in COCO's format."""

import re
from functools import lru_cache
from typing import Any

from denseclip_mm.demo.render import CLASSES, GROUNDS, render_scene

import cv2
import numpy as np


def things_path(seed: int, length: int, image_size: int) -> str:
    """The path of the annotations of the first scenes of a seed, for ``CocoDataset``."""
    return f'scene://{image_size}/things-{seed}-{length}.json'


@lru_cache(maxsize=4)  # the dataset and the metric ask for the same
def annotations_of(path: str) -> dict[str, Any]:
    """What COCO's annotation file of some scenes would hold.

    A box encloses what is seen of a thing; one that is hidden has none. The categories are the 36
    things of ``CLASSES``, from 1 on; file names are those of ``scene_path``.

    Args:
        path: of :func:`things_path`.

    Raises:
        FileNotFoundError: if the path is no such one.

    Examples:
        >>> coco = annotations_of(things_path(seed=0, length=2, image_size=64))
        >>> [image['file_name'] for image in coco['images']], len(coco['categories'])
        (['scene-0-0.png', 'scene-0-1.png'], 36)
        >>> sorted(coco['annotations'][0])
        ['area', 'bbox', 'category_id', 'id', 'image_id', 'iscrowd', 'segmentation']
    """
    match = re.fullmatch(r'scene://(\d+)/things-(\d+)-(\d+)\.json', path)
    if match is None:
        raise FileNotFoundError(f'{path} are no annotations of scenes; their path would be like '
                                f'{things_path(0, 200, 128)}')
    size, seed, length = map(int, match.groups())
    annotations = []
    for index in range(length):
        _, labels, things = render_scene(np.random.default_rng([seed, index]), size)
        for number in np.unique(things[things > 0]):
            mask = things == number
            left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
            annotations.append(dict(
                id=len(annotations) + 1, image_id=index, iscrowd=0, area=int(mask.sum()),
                category_id=int(labels[mask][0]) + 1, segmentation=_runs(mask),
                bbox=[left, top, width, height]))
    return dict(
        images=[dict(id=index, file_name=f'scene-{seed}-{index}.png', width=size, height=size)
                for index in range(length)],
        annotations=annotations,
        categories=[dict(id=place + 1, name=name)
                    for place, name in enumerate(CLASSES[:-len(GROUNDS)])])


def _runs(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths: column by column, those of 0 first."""
    column = mask.T.ravel().astype(np.int8)
    changes = np.flatnonzero(np.diff(column, prepend=0))
    return dict(size=list(mask.shape),
                counts=np.diff(np.r_[0, changes, column.size]).tolist())
