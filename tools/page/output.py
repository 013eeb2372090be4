"""What the page says of a prediction (see app.py): a legend, and the score maps."""

import base64
import html
import io

from denseclip_mm.apis import Detection, Prediction
from denseclip_mm.apis.output import label_picture
from denseclip_mm.apis.prediction import GREY

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
    names = prediction.class_names
    swatches = ''.join(
        f'<li><i style="background: rgb{prediction.palette[index]}"></i>'
        f'{html.escape(names[index])} <b>{size}</b>'
        + ('' if things else mask_link(prediction, index)) + '</li>'
        for index, size in sizes.items())
    done = f'named {len(prediction.labels)} things' if things else 'labelled the pixels'
    asked = len(names) - (prediction.palette[-1] == GREY)  # of or_other
    occur = sum(index < asked for index in sizes)
    return (f'The <b>{prediction.labelled_by}</b> {done}: {occur} of {asked} names occur.'
            f'<ul class="swatches">{swatches}</ul>'
            + ('' if things else download('label map', label_png(prediction), 'labels.png')))


def png(picture: np.ndarray) -> bytes:
    """A file of a picture (H, W), uint8 or uint16."""
    return cv2.imencode('.png', picture)[1].tobytes()


def label_png(prediction: Prediction) -> bytes:
    """The label map as tools/predict.py writes it."""
    stream = io.BytesIO()
    label_picture(prediction).save(stream, 'PNG')
    return stream.getvalue()


def download(title: str, file: bytes, name: str, kind: str = '') -> str:
    """A link to a PNG that is in the page itself, so that no copy stays on the server."""
    data, title = base64.b64encode(file).decode(), html.escape(title)
    return (f'<a class="download {kind}" download="{name}" title="{title}" aria-label="{title}" '
            f'href="data:image/png;base64,{data}"></a>')


def mask_link(prediction: Prediction, index: int) -> str:
    """A link to the mask of a class, 255 where it is."""
    name = prediction.class_names[index]
    mask = np.where(prediction.labels == index, 255, 0).astype(np.uint8)
    return download(f'mask of {name}', png(mask), f'mask-{index}.png', 'mask')


def scores_at(prediction: Prediction, best: tuple[np.ndarray, np.ndarray] | None, x: int, y: int
              ) -> str:
    """The label of a pixel, its score, and the names with the largest cosines there, as HTML.

    Args:
        prediction: of the picture.
        best: see :class:`Kept <page.kept.Kept>`.
        x: column of the pixel; one beyond the picture's border is taken for one at it.
        y: its row.
    """
    names, (height, width) = prediction.class_names, prediction.labels.shape
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    unit = 'cosine' if prediction.labelled_by == 'score map' else 'probability'
    text = (f'At {x}, {y}: <b>{html.escape(names[int(prediction.labels[y, x])])}</b>, {unit} '
            f'{prediction.scores[y, x]:.2f}.')
    if best is None:
        return text
    rows, columns = best[0].shape[1:]
    cell = slice(None), y * rows // height, x * columns // width
    items = ''.join(f'<li>{html.escape(names[index])} <b>{cosine:.2f}</b></li>'
                    for index, cosine in zip(*(each[cell] for each in best), strict=True))
    return f'{text} Cosines there:<ul class="swatches">{items}</ul>'


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
