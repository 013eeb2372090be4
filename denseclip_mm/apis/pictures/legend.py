"""A strip of names below a picture."""

from collections.abc import Sequence
from textwrap import shorten

from denseclip_mm.apis.pictures import empty_figure

import numpy as np

DPI = 100
LONGEST = 40  # characters of a name


def with_legend(image: np.ndarray, names: Sequence[str], colours: Sequence[Sequence[int]],
                values: Sequence[str]) -> np.ndarray:
    """A picture above a white strip with a colour, a name and a value for each of some classes.

    Args:
        image: (H, W, 3) uint8, RGB.
        names: the names; long ones are shortened.
        colours: RGB of each in [0, 255].
        values: of each, such as its share.

    Returns:
        (h, w, 3) uint8, RGB. What is right of a picture that is narrower than a name is white.

    Examples:
        >>> image = np.zeros((200, 300, 3), np.uint8)
        >>> drawn = with_legend(image, ['sky', 'sea'], [(0, 0, 200), (0, 200, 0)], ['75%', '25%'])
        >>> drawn.shape[1], drawn.shape[0] > 200, int(drawn[:200].max())
        (300, True, 0)
    """
    from matplotlib.patches import Patch  # as in empty_figure
    figure = empty_figure((image.shape[1] / DPI, 1), DPI)
    canvas = figure.canvas
    handles = [Patch(facecolor=np.divide(colour, 255), edgecolor='grey', linewidth=0.5)
               for colour in colours]
    titles = [f'{shorten(name, LONGEST)} {value}' for name, value in zip(
        names, values, strict=True)]

    def draw(columns: int) -> tuple[int, int]:
        figure.legends.clear()
        legend = figure.legend(handles, titles, ncols=columns, loc='upper left', frameon=False,
                               borderaxespad=0, fontsize=9, handlelength=1.2)
        for text in legend.get_texts():
            text.set_parse_math(False)
        canvas.draw()
        box = legend.get_window_extent()
        return int(np.ceil(box.width)), int(np.ceil(box.height))
    wide = draw(1)[0]
    width = max(image.shape[1], wide)
    height = draw(max(1, width // wide))[1]
    figure.set_size_inches((width + 0.5) / DPI, (height + 0.5) / DPI)
    canvas.draw()
    strip = np.asarray(canvas.buffer_rgba())[:height, :width, :3]
    image = np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)), constant_values=255)
    return np.concatenate([image, strip])
