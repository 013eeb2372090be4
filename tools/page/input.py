"""What visitors of the page send, taken with care (see app.py)."""

import os
from itertools import chain
from pathlib import Path
from typing import Any

from denseclip_mm.apis.pictures import read_image
from denseclip_mm.models.vocabulary import parse_class_names, read_class_names, split_synonyms

import cv2
import gradio as gr
import numpy as np
from mmseg.utils import dataset_aliases

LONGEST_SIDE = 1024  # of a picture in pixels; larger ones are made smaller
MOST_ELONGATED = 10  # longest side over shortest
MOST_NAMES = 256
MOST_CHARACTERS = 20_000  # of all names
NOT_UPLOADED = 'the picture was not uploaded here; upload it, or choose an example'


def fitted(image: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3), made smaller if it is larger than ``LONGEST_SIDE``.

    Raises:
        ValueError: if it is a mere line.
    """
    height, width = image.shape[:2]
    if max(height, width) > MOST_ELONGATED * min(height, width):
        raise ValueError(f'a picture of {width} x {height} pixels is too narrow; cut out a part '
                         f'of it, at most {MOST_ELONGATED} times as long as wide')
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image


def typed_names(text: str, fewest: int = 2) -> list[str]:
    """Class names of a text field.

    Raises:
        ValueError: if they are faulty, fewer than ``fewest``, or more than ``MOST_NAMES``, or
            longer than ``MOST_CHARACTERS``.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f'the names have {len(text)} characters, of at most {MOST_CHARACTERS}')
    names = parse_class_names(text)
    if isinstance(names, str) and names not in chain(*dataset_aliases.values()):
        names = [names]  # a visitor may not read this machine's files
    if '' in names:
        raise ValueError('a name is empty; type names with one comma between two')
    try:
        names = read_class_names(names)
    except ValueError as error:
        raise ValueError(str(error).removeprefix('class_names: ')) from None
    texts = sum(len(split_synonyms(name)) for name in names)
    if len(names) < fewest or texts > MOST_NAMES:
        raise ValueError(f'type {fewest} to {MOST_NAMES} names, synonyms included, and separate '
                         f'names by commas; got {texts}'
                         + ('; for one alone set Other above 0' if texts == 1 < fewest else ''))
    return names


def uploaded_image(picture: dict[str, Any] | None) -> np.ndarray:
    """The picture (H, W, 3), RGB uint8, of Gradio's description of an uploaded file.

    Gradio compares the path with its upload folder only if the description has the key ``meta``.

    Raises:
        ValueError: if there is none, it was not uploaded here, or it cannot be read.
    """
    if picture is None or picture['path'] is None:
        raise ValueError('there is no picture yet; upload one, or choose an example')
    uploads = os.path.realpath(gr.utils.get_upload_folder())
    try:
        path = os.path.realpath(picture['path'])
    except (OSError, ValueError):  # no path at all
        path = ''
    if not path.startswith(f'{uploads}{os.sep}') or not os.path.isfile(path):
        raise ValueError(NOT_UPLOADED)
    try:
        return read_image(path)
    except ValueError as error:
        name = picture['orig_name'] or 'the file'
        said = str(error).replace(path, name).replace('LoadImageFromFile', 'this page')
        raise ValueError(said) from None


def take_uploads_only(component: gr.Image) -> None:
    """Have a component refuse addresses, which Gradio would fetch for a visitor, and folders."""
    move = component.async_move_resource_to_block_cache

    async def move_file(path: str | Path | None) -> str | None:
        if path is not None and not os.path.isfile(path):
            raise gr.Error(NOT_UPLOADED)
        return await move(path)
    component.async_move_resource_to_block_cache = move_file
