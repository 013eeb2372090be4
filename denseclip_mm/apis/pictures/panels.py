"""Figures of several pictures: grids of them, panels with score maps."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from denseclip_mm.apis.pictures import empty_figure, paint
from denseclip_mm.files import atomic_write

import numpy as np


def draw_grid(columns: dict[str, list[np.ndarray | None]], path: Path) -> None:
    """Write a picture with a titled column for each list of pictures (H, W, 3), RGB.

    None leaves a cell empty.
    """
    rows = max(len(pictures) for pictures in columns.values())
    figure = empty_figure((1.5 * len(columns), 1.5 * rows + 0.4), layout='constrained')
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for title, column in zip(columns, axes.T, strict=True):
        column[0].set_title(title.replace(', ', ',\n'), fontsize=9)
        for axis, picture in zip(column, columns[title], strict=False):
            if picture is not None:
                axis.imshow(picture)
    for axis in axes.flat:
        axis.set_axis_off()
    with atomic_write(path) as part:
        figure.savefig(part, dpi=100)


def draw_panels(image: np.ndarray, labels: dict[str, np.ndarray], scores: dict[int, np.ndarray],
                *, names: Sequence[str], palette: Sequence[Sequence[int]]) -> np.ndarray:
    """A picture of titled panels: an image, label maps, and score maps of some classes.

    The score maps have one colour scale; the frame of each is its class's colour in the label maps.

    Args:
        image: (H, W, 3), RGB.
        labels: by title, (H, W) label maps, or pictures (h, w, 3), RGB, as they are.
        scores: (H, W) score maps, cosines, by class index.
        names: of the K classes.
        palette: RGB in [0, 255] of the K classes.

    Returns:
        (h, w, 3) uint8, RGB; 240 pixels a panel in width, at most six panels a row.

    Examples:
        >>> image, labels = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
        >>> named = dict(names=['sky'], palette=[(0, 0, 200)])
        >>> draw_panels(image, {'prediction': labels}, {}, **named).shape
        (280, 570, 3)
    """
    count = 1 + len(labels) + len(scores)
    rows = -(-count // 6)
    columns = -(-count // rows)
    titles = {index: fill(names[index], 24) for index in scores}
    lines = max((title.count('\n') + 1 for title in titles.values()), default=1)
    height = 2.4 * min(2.0, max(0.4, image.shape[0] / image.shape[1])) + 0.2 + 0.2 * lines
    figure = empty_figure((2.4 * columns + 0.9, height * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(image)
    axes[0].set_title('image')
    for axis, (title, label_map) in zip(axes[1:], labels.items(), strict=False):
        axis.imshow(paint(label_map, palette) if label_map.ndim == 2 else label_map,
                    interpolation='nearest')
        axis.set_title(title)
    limits = dict(vmin=min(map(np.min, scores.values()), default=0),
                  vmax=max(map(np.max, scores.values()), default=1))
    for axis, (index, score_map) in zip(axes[1 + len(labels):], scores.items(), strict=False):
        drawn = axis.imshow(score_map, cmap='magma', **limits)
        axis.set_title(titles[index], parse_math=False)
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(color=np.divide(palette[index], 255), linewidth=4)
    if scores:
        figure.colorbar(drawn, ax=axes.tolist(), label='cosine', fraction=0.03, pad=0.01)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
