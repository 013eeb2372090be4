"""Pictures for people: labels in colours, names on a ground."""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np

DRAWN = 512  # pixels of the longest side of a drawing with names, about; or more


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
