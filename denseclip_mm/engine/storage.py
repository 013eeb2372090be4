"""What mmengine writes, written whole or not at all."""

from pathlib import Path

from denseclip_mm.files import atomic_write

import cv2
import numpy as np
from mmengine.fileio import LocalBackend
from mmengine.visualization import LocalVisBackend
from mmengine.visualization.vis_backend import force_init_env


class WholeFileBackend(LocalBackend):
    """mmengine's storage of local files, where a file is whole or not there.

    The package registers it as ``local``: checkpoints are written by it.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        with atomic_write(filepath) as part:
            part.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text."""
        with atomic_write(filepath) as part:
            part.write_text(obj, encoding)


class WholeVisBackend(LocalVisBackend):
    """mmengine's ``LocalVisBackend``, where a picture is whole or not there.

    A name may hold folders. A disk that is full ends the run, where OpenCV's writer goes on.
    """

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Write a picture, (H, W, 3) uint8, RGB."""
        with atomic_write(Path(self._img_save_dir) / f'{name}_{step}.png') as part:
            part.write_bytes(cv2.imencode('.png', image[..., ::-1])[1])
