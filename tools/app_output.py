"""What the page says of a prediction (see app.py): a legend, and the score maps."""

import html

from denseclip_mm.apis import Detection, Prediction

import cv2
import matplotlib
import numpy as np

MAP_SIDE = 240  # longest side of a drawn score map in pixels
COLOURS = matplotlib.colormaps['magma']


def occurring(prediction: Prediction | Detection) -> dict[int, float]:
    """The classes that occur, largest first: shares of the picture, or how many things."""
    return prediction.counts() if isinstance(prediction, Detection) else prediction.shares()


def describe(prediction: Prediction | Detection) -> str:
    """What labelled pixels or things, and the colours of the classes that occur, as HTML."""
    things = isinstance(prediction, Detection)
    sizes = {index: f'&times; {size}' if things else f'{size:.1%}' if size >= 0.001 else '&lt; 0.1%'
             for index, size in occurring(prediction).items()}
    swatches = ''.join(
        f'<li><i style="background: rgb{prediction.palette[index]}"></i>'
        f'{html.escape(prediction.class_names[index])} <b>{size}</b></li>'
        for index, size in sizes.items())
    done = f'named {len(prediction.labels)} things' if things else 'labelled the pixels'
    return (f'The <b>{prediction.answers}</b> {done}: {len(sizes)} of '
            f'{len(prediction.class_names)} names occur.<ul class="swatches">{swatches}</ul>')


def draw_score_maps(prediction: Prediction | Detection) -> tuple[str, list[tuple[np.ndarray, str]]]:
    """Every score map in colour with its name, those of the largest classes first.

    Returns:
        The colour scale, which all share, as HTML; and the pictures (h, w, 3), RGB uint8.
    """
    score_map = prediction.score_map
    if score_map is None:
        return 'This model has no score map: it knows no language.', []
    low, high = float(score_map.min()), float(score_map.max())
    scale = MAP_SIDE / max(score_map.shape[1:])
    small = [cv2.resize(each, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
             for each in score_map]
    sizes = occurring(prediction)
    order = sorted(range(len(score_map)),
                   key=lambda index: (-sizes.get(index, 0), -score_map[index].max()))
    maps = [(COLOURS((small[index] - low) / max(high - low, 1e-6), bytes=True)[..., :3],
             prediction.class_names[index]) for index in order]
    stops = ', '.join(matplotlib.colors.to_hex(colour) for colour in COLOURS(np.linspace(0, 1, 9)))
    scale = (f'<div class="scale">cosine {low:.2f} <i style="background: linear-gradient(90deg, '
             f'{stops})"></i> {high:.2f}</div>')
    return scale, maps
