"""Pictures for people: label maps in colour, and grids of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def paint(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """(H, W) labels to (H, W, 3) RGB colours; ignored pixels are black."""
    colours = np.zeros((256, 3), np.uint8)
    colours[:len(palette)] = palette
    return colours[labels]


def draw_grid(columns: dict[str, list[np.ndarray | None]], path: Path) -> None:
    """Write a picture with a titled column for each list of pictures (H, W, 3), RGB.

    None leaves a cell empty.
    """
    rows = max(len(pictures) for pictures in columns.values())
    figure = Figure(figsize=(1.5 * len(columns), 1.5 * rows + 0.4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for title, column in zip(columns, axes.T, strict=True):
        column[0].set_title(title.replace(', ', ',\n'), fontsize=9)
        for axis, picture in zip(column, columns[title], strict=False):
            if picture is not None:
                axis.imshow(picture)
    for axis in axes.flat:
        axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
