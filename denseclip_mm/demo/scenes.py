"""A segmentation dataset that needs no files: scenes drawn when they are asked for.

Its names are compositions ('red star', 'blue ring'), so it serves demonstrations, tests, and
experiments with names that were never trained.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from denseclip_mm.demo.annotations import annotations_of
from denseclip_mm.demo.render import CLASSES, HSV, SHAPES, TEXTURES, render_scene, rgb

import cv2
import numpy as np
from mmengine.fileio import BaseStorageBackend
from mmseg.datasets import BaseSegDataset


def _palette() -> list[tuple[int, int, int]]:
    """RGB of each class: a thing's own colour, darker from shape to shape; a ground's mean."""
    things = [rgb(hue, saturation, value) for hue, saturation, _ in HSV.values()
              for value in np.linspace(1, 0.45, len(SHAPES))]
    grounds = [texture(np.random.default_rng(0), 32).mean((0, 1)) for texture in TEXTURES.values()]
    return [tuple(round(float(channel)) for channel in colour) for colour in things + grounds]


def scene_path(seed: int, index: int, image_size: int) -> str:
    """The path of a scene, which mmengine reads through :class:`SceneBackend`."""
    return f'scene://{image_size}/scene-{seed}-{index}.png'


def draw(seed: int, index: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene: the image (H, W, 3), BGR uint8, and its labels (H, W), uint8.

    Examples:
        >>> image, labels = draw(seed=0, index=0, image_size=64)
        >>> image.shape, labels.shape
        ((64, 64, 3), (64, 64))
    """
    return render_scene(np.random.default_rng([seed, index]), image_size)[:2]


class SceneBackend(BaseStorageBackend):
    """Draws the scene of a path as a PNG file, for whatever reads images by their path.

    mmseg's visualisation hook does, and ``LoadImageFromFile``. mmdet's ``CocoDataset`` and
    ``CocoMetric`` take their annotations from it too (:mod:`denseclip_mm.demo.annotations`).

    Examples:
        >>> import mmcv
        >>> from mmengine import fileio
        >>> mmcv.imfrombytes(fileio.get('scene://128/scene-0-7.png')).shape
        (128, 128, 3)
    """

    def get(self, filepath: str) -> bytes:
        """Bytes of the PNG file, or of the annotations.

        Raises:
            FileNotFoundError: if the path is neither one of :func:`scene_path` nor one of
                :func:`things_path <denseclip_mm.demo.annotations.things_path>`.
        """
        if str(filepath).endswith('.json'):
            return json.dumps(annotations_of(str(filepath))).encode()
        match = re.fullmatch(r'scene://(\d+)/scene-(\d+)-(\d+)\.png', str(filepath))
        if match is None:
            raise FileNotFoundError(f'{filepath} is no scene; its path would be like '
                                    f'{scene_path(0, 7, 128)}')
        image_size, seed, index = map(int, match.groups())
        return cv2.imencode('.png', draw(seed, index, image_size)[0])[1].tobytes()

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Scenes have no text."""
        raise NotImplementedError(f'{filepath} is a picture')

    @contextmanager
    def get_local_path(self, filepath: str) -> Iterator[str]:
        """A file with the bytes, for as long as the block runs."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / PurePosixPath(filepath).name
            path.write_bytes(self.get(filepath))
            yield str(path)


class ScenesDataset(BaseSegDataset):
    """Procedural scenes: 36 things of 6 colours and 6 shapes, on 6 grounds; every pixel labelled.

    Scene ``i`` depends on ``seed`` and ``i`` alone. Samples come with the image and the labels
    already loaded, so the pipeline starts after mmseg's loading steps.

    Args:
        length: number of scenes.
        seed: of all scenes; give training and validation different ones.
        image_size: side of the square images in pixels.
        pipeline: transforms of a sample.
        metainfo: as in mmseg; with a subset of the classes, the pixels of the others are 255.
        test_mode: as in mmseg.

    Raises:
        ValueError: if ``length``, ``seed`` or ``image_size`` is too small, or ``metainfo`` names
            a class that scenes do not have.

    Examples:
        >>> scenes = ScenesDataset(length=200, seed=0)
        >>> len(scenes), scenes[0]['img'].shape, scenes[0]['gt_seg_map'].shape
        (200, (128, 128, 3), (128, 128))
        >>> scenes.metainfo['classes'][:2]
        ('red circle', 'red square')
    """

    METAINFO = dict(classes=CLASSES, palette=_palette())

    def __init__(self, *, length: int, seed: int = 0, image_size: int = 128,
                 pipeline: Sequence[dict | Callable] = (), metainfo: dict | None = None,
                 test_mode: bool = False) -> None:
        if length < 1:
            raise ValueError(f'expected length >= 1, got {length}; give the number of scenes that '
                             'make one epoch')
        if seed < 0:
            raise ValueError(f'expected seed >= 0, got {seed}; give each split its own seed, for '
                             'example 0 and 1')
        if image_size < 32:
            raise ValueError(f'expected image_size >= 32, got {image_size}; things cannot be told '
                             'apart in smaller scenes, 128 is the default')
        self.length = length
        self.seed = seed
        self.image_size = image_size
        super().__init__(pipeline=pipeline, metainfo=metainfo, test_mode=test_mode,
                         data_prefix=dict(img_path=f'scene://{image_size}'))

    def load_data_list(self) -> list[dict]:
        """What to draw: the index of each scene, and its name for saved predictions."""
        return [
            dict(scene=index,
                 img_path=scene_path(self.seed, index, self.image_size),
                 seg_map_path=f'scene-{self.seed}-{index}-labels.png',
                 label_map=self.label_map,
                 reduce_zero_label=self.reduce_zero_label,
                 seg_fields=['gt_seg_map'])
            for index in range(self.length)
        ]

    def get_data_info(self, idx: int) -> dict:
        """Draw a scene.

        Returns:
            What ``LoadImageFromFile`` and ``LoadAnnotations`` produce: ``img`` (H, W, 3), BGR
            uint8; ``gt_seg_map`` (H, W), uint8; shapes, paths and ``sample_idx``.
        """
        sample = super().get_data_info(idx)
        image, labels = draw(self.seed, sample.pop('scene'), self.image_size)
        if self.label_map is not None:
            labels = np.array([self.label_map[label] for label in range(len(CLASSES))],
                              np.uint8)[labels]
        shape = image.shape[:2]
        return dict(sample, img=image, img_shape=shape, ori_shape=shape, gt_seg_map=labels)
