"""Pictures: of files as a config loads them, and for people, with colours and names."""

import colorsys
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from PIL import Image

DRAWN = 512  # pixels of the longest side of a drawing with names, about; or more
MOST_PIXELS = 2 * 89_478_485  # of a picture that is read: twice what Pillow warns of


def distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """RGB colours; neighbours are far apart in hue, the golden ratio of the circle.

    Examples:
        >>> distinct_colours(3)
        [(242, 24, 24), (80, 109, 178), (136, 217, 22)]
    """
    colours = [colorsys.hsv_to_rgb(index * 0.618034 % 1, (0.9, 0.55)[index % 2],
                                   (0.95, 0.7, 0.85)[index % 3]) for index in range(count)]
    return [tuple(round(255 * channel) for channel in colour) for colour in colours]


def paint(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """(H, W) labels to (H, W, 3) RGB colours; ignored pixels are black.

    Examples:
        >>> paint(np.array([[0, 1, 255]]), [(242, 24, 24), (80, 109, 178)]).tolist()
        [[[242, 24, 24], [80, 109, 178], [0, 0, 0]]]
    """
    colours = np.zeros((max(256, len(palette)), 3), np.uint8)
    colours[:len(palette)] = palette
    return colours[labels]


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


def enlarged(image: np.ndarray) -> tuple[np.ndarray, int]:
    """A copy of a picture (H, W, 3), each pixel a square where names would be too large for it.

    Returns:
        The copy, whose longest side is about ``DRAWN`` pixels or more; and the side of a square.

    Examples:
        >>> larger, scale = enlarged(np.zeros((100, 128, 3), np.uint8))
        >>> larger.shape, scale
        ((400, 512, 3), 4)
    """
    scale = max(1, round(DRAWN / max(image.shape[:2])))
    return np.repeat(np.repeat(image, scale, 0), scale, 1), scale


def empty_figure(size: tuple[float, float], dpi: float = 100, layout: str | None = None) -> Any:
    """A matplotlib ``Figure`` of so many inches, outside of pyplot, with Agg's canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # 0.4 s, and most never draw
    from matplotlib.figure import Figure
    return FigureCanvasAgg(Figure(figsize=size, dpi=dpi, layout=layout)).figure


def write_names(image: np.ndarray, names: Sequence[str], places: Sequence[Sequence[float]],
                colours: Sequence[Sequence[int]], *, above: bool = False) -> np.ndarray:
    """A picture with names on it, each on a ground of its colour: (H, W, 3) uint8, RGB.

    Args:
        image: (H, W, 3) uint8, RGB.
        names: the names.
        places: x and y of each in pixels.
        colours: RGB of each.
        above: whether a name begins at its place and stands on it (or below, at the picture's upper
            edge); else it is centred there.
    """
    height, width = image.shape[:2]
    dpi = 100 * max(1, max(height, width) / 1024)  # letters grow with large pictures
    figure = empty_figure(((width + 0.5) / dpi, (height + 0.5) / dpi), dpi)
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    for name, (x, y), colour in zip(names, places, colours, strict=True):
        align = dict(ha='left', va='bottom') if above and y > dpi / 5 else dict(
            ha='left', va='top') if above else dict(ha='center', va='center')
        light = np.dot(colour, (0.299, 0.587, 0.114)) > 150
        text = axis.text(
            x, y, name, color='black' if light else 'white', parse_math=False, clip_on=True,
            bbox=dict(facecolor=np.divide(colour, 255), edgecolor='none', alpha=0.8, pad=1.5),
            **align)
        text.set_x(max(0, x - max(0, text.get_window_extent().x1 - width)))
    figure.patch.set_alpha(0)
    figure.canvas.draw()
    ink = np.asarray(figure.canvas.buffer_rgba())[:height, :width]
    opacity = ink[..., 3:] / 255
    return np.round(opacity * ink[..., :3] + (1 - opacity) * image).astype(np.uint8)
