"""The page's second tab (see app.py): boxes, or the parts of a segmentation, get their names."""

import html
from collections.abc import Callable
from typing import Any

from denseclip_mm.apis import Detection, Prediction
from denseclip_mm.apis.regions.assign import WAYS, assign_regions, draw_regions
from denseclip_mm.apis.regions.masks import read_regions

import gradio as gr
import numpy as np
from page.input import fitted, take_uploads_only, typed_names, uploaded_image

MOST_REGIONS = 32  # blur has the image tower look at a picture for each
MOST_CHARACTERS = 2000  # of all boxes
BOXES, PARTS = 'boxes', 'parts of the segmentation'

INTRODUCTION = """# Names for regions
Click two corners of a box, as often as you like; or take what the first tab's own names segment the
picture into. Each region gets the name that fits it best."""


def typed_boxes(text: str) -> np.ndarray:
    """Boxes (R, 4), left, top, right, bottom, of the text field.

    Raises:
        ValueError: if a line is not four numbers, or there are too many.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f'the boxes have {len(text)} characters, of at most {MOST_CHARACTERS}')
    rows = []
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            left, top, right, bottom = map(float, line.split(','))
        except ValueError:
            raise ValueError(f'{line!r} is no box: left, top, right, bottom') from None
        rows.append((left, top, right, bottom))
    if not rows:
        raise ValueError('there is no box yet; click two of its corners in the picture')
    return np.array(rows)


def add_corner(text: str, corner: Any) -> str:
    """The boxes with one more corner, which begins a box or ends one.

    Raises:
        ValueError: if the corner is not two whole numbers.
    """
    if not (isinstance(corner, list | tuple) and len(corner) == 2
            and all(isinstance(each, int) and each >= 0 for each in corner)):
        raise ValueError('a corner is two whole numbers')
    lines = text.rstrip('\n').splitlines()
    first = lines[-1].split(',') if lines else []
    if len(first) != 2 or not all(each.strip().isdigit() for each in first):
        return '\n'.join([*lines, f'{corner[0]}, {corner[1]}'])
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(
        map(int, first), corner, strict=True))
    return '\n'.join([*lines[:-1], f'{left}, {top}, {right}, {bottom}'])


def describe(scores_KR: np.ndarray, assigned_R: np.ndarray, names: list[str]) -> str:
    """A list of the regions with their names and cosines, as HTML."""
    items = ''.join(
        f'<li>{number}: {html.escape(names[place]) if place >= 0 else "no name is left"} '
        f'<b>{f"{scores_K[place]:.2f}" if place >= 0 else ""}</b></li>'
        for number, (scores_K, place) in enumerate(
            zip(scores_KR.T, assigned_R, strict=True), start=1))
    return f'Regions, their names and cosines:<ul class="swatches">{items}</ul>'


def region_tab(segmenter: Callable[[str, np.ndarray], Prediction | Detection],
               examples: list[str]) -> None:
    """Fill the tab.

    Args:
        segmenter: app.py's, with its ``predictor`` and its ``lock``.
        examples: picture files to choose from.
    """
    def masks_of(image: np.ndarray, kind: str, boxes: str) -> np.ndarray:
        small = fitted(image)
        if kind == PARTS:
            regions = segmenter('', image).labels
        else:
            regions = typed_boxes(boxes) * (small.shape[1] / image.shape[1])
        masks_RHW = read_regions(regions, small.shape[:2])
        if len(masks_RHW) > MOST_REGIONS:
            raise ValueError(f'there are {len(masks_RHW)} regions, of at most {MOST_REGIONS}')
        return masks_RHW

    def name(picture: dict[str, Any] | None, kind: str, boxes: str, names: str, how: str,
             one_to_one: bool) -> tuple:
        try:
            image, chosen = uploaded_image(picture), typed_names(names, fewest=1)
            masks_RHW = masks_of(image, kind, boxes)
            with segmenter.lock:
                scores_KR, assigned_R = assign_regions(
                    segmenter.predictor.model, fitted(image), masks_RHW, chosen, how=how,
                    one_to_one=bool(one_to_one))
        except ValueError as error:
            return told(error), gr.skip(), gr.skip()
        titles = [f'{number}: {chosen[place] if place >= 0 else "-"}'
                  for number, place in enumerate(assigned_R, start=1)]
        return ('', draw_regions(fitted(image), masks_RHW, titles),
                describe(scores_KR, assigned_R, chosen))

    def click(picture: dict[str, Any] | None, boxes: str, event: gr.SelectData) -> tuple:
        try:
            boxes = add_corner(boxes, event.index)
            whole = '\n'.join(line for line in boxes.splitlines() if line.count(',') == 3)
            if not whole:
                return '', boxes, gr.skip()
            image = uploaded_image(picture)
            masks_RHW = masks_of(image, BOXES, whole)
        except ValueError as error:
            return told(error), gr.skip(), gr.skip()
        numbers = [str(number) for number in range(1, len(masks_RHW) + 1)]
        return '', boxes, draw_regions(fitted(image), masks_RHW, numbers)

    gr.Markdown(INTRODUCTION)
    with gr.Row():
        with gr.Column():
            picture = gr.Image(label='Picture to click on', type='filepath', height=320)
            take_uploads_only(picture)
            gr.Examples(examples, picture, label='Examples')
            kind = gr.Radio([BOXES] if segmenter.predictor.detects else [BOXES, PARTS],
                            value=BOXES, label='Regions')
            boxes = gr.Textbox(label='Boxes', lines=3, max_lines=6,
                               info='Left, top, right, bottom in pixels; a line each.')
            names = gr.Textbox(segmenter.own_names, label='Names to choose from', lines=2,
                               max_lines=6, info='Separated by commas; "a;b" are synonyms.')
            how = gr.Radio(list(WAYS), value=WAYS[0], label='Way',
                           info='The mean of the dense embedding; colours and their names (CPT); '
                           'the outside blurred.')
            one_to_one = gr.Checkbox(label='Each name to one region at most')
            button = gr.Button('Name the regions', variant='primary')
            fault = gr.HTML(elem_id='region-fault')
        with gr.Column():
            drawn = gr.Image(label='Regions and names', format='png', interactive=False,
                             buttons=['download', 'fullscreen'], elem_id='regions')
            answer = gr.HTML(elem_id='region-names')
    # Unprocessed, as in the first tab.
    button.click(name, [picture, kind, boxes, names, how, one_to_one], [fault, drawn, answer],
                 preprocess=False, api_name='name_regions')
    picture.select(click, [picture, boxes], [fault, boxes, drawn], preprocess=False,
                   show_progress='hidden', api_name='click')


def told(error: ValueError | str) -> str:
    """A message as HTML."""
    return f'<div class="fault" role="alert">{html.escape(str(error))}</div>'
