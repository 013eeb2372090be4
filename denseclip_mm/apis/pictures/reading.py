"""Pictures of files, as a config loads them, if they are whole."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from PIL import Image

MOST_PIXELS = 2 * 89_478_485  # of a picture that is read: twice what Pillow warns of


def loading_step(dataset: Any) -> BaseTransform:
    """The step of a dataset that loads images; ``LoadImageFromFile`` where they are there already.

    Args:
        dataset: mmseg's, or a wrapper around such (of several the first counts).
    """
    while not hasattr(dataset, 'pipeline'):
        dataset = dataset.dataset if hasattr(dataset, 'dataset') else dataset.datasets[0]
    first = next(iter(dataset.pipeline.transforms), None)
    is_loading = type(first).__name__.startswith('Load') and not hasattr(first, 'reduce_zero_label')
    return first if is_loading else LoadImageFromFile()


def load_image(path: str | Path, step: BaseTransform) -> dict[str, Any]:
    """Load a picture as the config does, by its own loading step, if it is whole.

    Args:
        path: the file.
        step: such as ``LoadImageFromFile``.

    Returns:
        What the step gives to the next one; the picture is ``img``, in the order BGR.

    Raises:
        ValueError: if the step cannot read the file, it is missing, damaged, no regular file, or
            has over ``MOST_PIXELS``.
    """
    whole = whole_picture(path)
    mode = whole and whole.mode
    del whole  # of which the step makes another
    try:
        data = step(dict(img_path=str(path)))
    except Exception as error:  # decoders raise what they like
        reason = 'it is damaged or of another kind'
        if isinstance(error, OSError):
            reason = str(error)
        elif mode in ('I', 'F'):
            reason = 'it has 32 bits a channel; save it with 8 or 16'
        raise ValueError(f'{path} is no picture that {type(step).__name__} can read: '
                         f'{reason}') from None
    if data is None:
        raise ValueError(f'{path} is no picture that {type(step).__name__} can read: it is empty')
    return data


def shown(image: np.ndarray) -> np.ndarray:
    """A loaded picture for people: (H, W, 3) uint8, RGB; beyond 8 bits it is scaled by its maximum.

    Args:
        image: (H, W) or (H, W, channels), BGR first.

    Examples:
        >>> shown(np.array([[[0, 2048, 4096, 9]]], np.uint16)).tolist()
        [[[255, 128, 0]]]
    """
    image = image[:, :, None] if image.ndim == 2 else image
    image = image[:, :, :3][:, :, ::-1] if image.shape[2] > 2 else image[:, :, [0, 0, 0]]
    if image.dtype != np.uint8:
        image = np.clip(np.round(image * (255 / max(255, image.max(initial=0)))), 0, 255)
    return image.astype(np.uint8)


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB, as ``LoadImageFromFile`` loads it without options.

    Raises:
        ValueError: if the file is no whole picture, has more than ``MOST_PIXELS``, or is not there.
    """
    return shown(load_image(path, LoadImageFromFile())['img'])


def whole_picture(path: str | Path, content: bytes | None = None) -> Image.Image | None:
    """A picture as Pillow decodes it, whole.

    OpenCV gives pixels of damaged TIFF and JPEG files without a word; Pillow refuses them. It reads
    the size off the header, before the memory is spent; what it does not know, OpenCV limits to
    2^30 pixels. EPS, which is a program that Ghostscript would run, is no picture here.

    Args:
        path: the file.
        content: of it, if it was read already.

    Returns:
        The picture; None if there is no such file, or it is of no kind that Pillow knows.

    Raises:
        ValueError: if it is no regular file, has more than ``MOST_PIXELS``, or is of a kind that
            Pillow knows and cannot be decoded whole.
    """
    if content is None and Path(path).exists() and not Path(path).is_file():
        raise ValueError(f'{path} is no regular file, so it was not read')
    Image.init()
    try:
        with warnings.catch_warnings(action='ignore'):
            picture = Image.open(path if content is None else io.BytesIO(content),
                                 formats=[kind for kind in Image.OPEN if kind != 'EPS'])
        pixels = picture.width * picture.height
    except Image.DecompressionBombError:  # for twice as many pixels as it warns of
        pixels = float('inf')
    except Exception:  # no picture, which whoever decodes it says
        return None
    if pixels > MOST_PIXELS:
        raise ValueError(f'{path} has more than {MOST_PIXELS:,} pixels; cut it into parts')
    with picture:
        try:
            picture.load()
        except Exception as error:  # decoders raise what they like
            raise ValueError(f'{path} is no picture that Pillow can read whole, so it is damaged: '
                             f'{error}') from None
    return picture
