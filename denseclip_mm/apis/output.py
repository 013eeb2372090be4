"""What is written of a picture: overlays, label maps or boxes, score maps."""

import csv
import hashlib
import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

from denseclip_mm.apis.pictures import enlarged
from denseclip_mm.apis.pictures.inputs import files_below
from denseclip_mm.apis.pictures.legend import with_legend
from denseclip_mm.apis.pictures.panels import draw_panels
from denseclip_mm.apis.prediction import Detection, Prediction
from denseclip_mm.apis.regions.masks import read_label_map
from denseclip_mm.files import atomic_write

import numpy as np
import torch
from PIL import Image
from torch import nn

OUTPUTS = {'overlays': '.png', 'labels': '.png', 'boxes': '.json', 'score_maps': '.png'}


def write(path: Path, kind: str, prediction: Prediction | Detection, name: str, *, opacity: float,
          num_score_maps: int) -> None:
    """Write an output of a picture, whole or not at all.

    Args:
        path: the file.
        kind: one of ``OUTPUTS``.
        prediction: of the picture.
        name: of the picture.
        opacity: of overlays.
        num_score_maps: how many are drawn.
    """
    with atomic_write(path) as part:
        if kind == 'boxes':
            part.write_text(json.dumps(prediction.results(name)))
        elif kind == 'labels':
            label_picture(prediction).save(part)
        elif kind == 'overlays':
            Image.fromarray(overlay(prediction, opacity)).save(part)
        else:
            Image.fromarray(score_panels(prediction, num_score_maps)).save(part)


def overlay(prediction: Prediction | Detection, opacity: float) -> np.ndarray:
    """The overlay for people: a detector's has names; a segmentation gets a strip with shares."""
    painted = prediction.overlay(opacity)
    if isinstance(prediction, Detection):
        return painted
    names, palette, shares = prediction.class_names, prediction.palette, prediction.shares()
    return with_legend(
        enlarged(painted)[0], [names[index] for index in shares],
        [palette[index] for index in shares], [f'{share:.1%}' for share in shares.values()])


def fingerprint(model: nn.Module) -> str:
    """Of the weights that a model answers by, wherever they are from, statistics too."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def read_legend(path: Path) -> dict[str, Any]:
    """What OUT/classes.json says.

    Raises:
        ValueError: if it is a file of something else.
    """
    try:
        return dict(json.loads(path.read_text()))
    except (TypeError, ValueError):
        raise ValueError(f'{path} is no legend that this tool wrote; choose another --out'
                         ) from None


def write_shares(out: Path) -> None:
    """Write OUT/shares.csv: picture, name and share, of every label map in OUT/labels.

    Names are those of OUT/classes.json, in their order; those that do not occur are left out. What
    a spreadsheet would take for a formula has an apostrophe before it.

    Raises:
        ValueError: if a label map is damaged, or none of these names.
    """
    names = json.loads((out / 'classes.json').read_text())['classes']
    folder, rows = out / 'labels', [['picture', 'name', 'share']]
    for path in files_below(folder):
        if path.suffix != '.png':
            continue
        try:
            labels, pixels = np.unique(read_label_map(path), return_counts=True)
            if labels[-1] >= len(names):
                raise ValueError(f'{path} has the label {labels[-1]}, of {len(names)} names')
        except ValueError as error:
            raise ValueError(f'{error}; remove it, and the same command writes it anew') from None
        picture = path.relative_to(folder).with_suffix('').as_posix()
        rows += [[as_text(picture), as_text(names[label]), f'{count / pixels.sum():.6f}']
                 for label, count in zip(labels, pixels, strict=True)]
    with atomic_write(out / 'shares.csv') as part, part.open(
            'w', newline='', encoding='utf-8', errors='backslashreplace') as stream:
        csv.writer(stream).writerows(rows)


def as_text(cell: str) -> str:
    """A cell of a table that no spreadsheet computes: OWASP's apostrophe before what it might.

    Examples:
        >>> as_text('sky'), as_text('=1+1'), as_text(' @SUM(1)')
        ('sky', "'=1+1", "' @SUM(1)")
    """
    computed = unicodedata.normalize('NFKC', cell.lstrip()).startswith(('=', '+', '-', '@'))
    return f"'{cell}" if computed or not cell[:1].isprintable() else cell


def label_picture(prediction: Prediction) -> Image.Image:
    """Class indices as a PNG in the classes' colours; 16 bits without colours above 256 classes."""
    if len(prediction.class_names) > 256:
        return Image.fromarray(prediction.labels.astype(np.uint16))
    picture = Image.fromarray(prediction.labels.astype(np.uint8))
    picture.putpalette(np.asarray(prediction.palette, np.uint8).tobytes())
    return picture


def score_panels(prediction: Prediction | Detection, count: int) -> np.ndarray:
    """Picture, prediction, and the score maps of the classes that are largest in it.

    Of a detection, those of the classes with the most things.
    """
    if isinstance(prediction, Detection):
        largest = list(prediction.counts())[:count]
        drawn, maps = prediction.overlay(), replace(
            prediction, cells=prediction.cells[largest]).score_map if largest else []
    else:
        largest = [index for index in prediction.shares()
                   if index < prediction.num_score_maps][:count]  # other has none
        drawn, maps = prediction.labels, prediction.score_maps(largest)
    return draw_panels(
        prediction.image, {'prediction': drawn}, dict(zip(largest, maps, strict=True)),
        names=prediction.class_names, palette=prediction.palette)
