#!/usr/bin/env python
"""A page to try a model on: a picture and class names in, a segmentation and score maps out.

python tools/app.py                                  # the package's small CLIP, which knows scenes
python tools/app.py configs/denseclip_fpn.py work_dirs/denseclip_fpn/iter_80000.pth --port 8000

Everything stays on this machine: the page asks nobody else for fonts or scripts.
"""

import html
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from denseclip_mm.apis import Prediction, Predictor
from denseclip_mm.apis.mistakes import one_line, tool_parser
from denseclip_mm.apis.pictures import read_image
from denseclip_mm.demo.scenes import draw
from denseclip_mm.models.vocabulary import parse_class_names, read_class_names, split_synonyms

import cv2
import matplotlib
import numpy as np
from mmseg.utils import dataset_aliases

try:
    import gradio as gr
except ImportError:
    sys.exit("error: the page needs Gradio: pip install 'denseclip_mm[app]'")

DEMO = Path(__file__).resolve().parents[1] / 'configs/demo/zero_shot_scenes.py'
LONGEST_SIDE = 1024  # of a picture in pixels; larger ones are made smaller
MOST_ELONGATED = 10  # longest side over shortest
MOST_NAMES = 256
MOST_CHARACTERS = 20_000  # of all names
MAP_SIDE = 240  # longest side of a drawn score map in pixels
KEPT = 3600  # seconds that pictures of visitors are kept
COLOURS = matplotlib.colormaps['magma']
NOT_UPLOADED = 'the picture was not uploaded here; upload it, or choose an example'
EXAMPLES = (55, 42, 7, 38)  # scenes of the validation set's seed, 1

# Fonts that every system has: none is fetched.
THEME = gr.themes.Default(
    font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']).set(
    block_info_text_color='*neutral_500')

INTRODUCTION = """# Segmentation by names
Every pixel goes to the name that fits it best. Change the names as you like; the score maps show
how well each of them fits where."""

CSS = """
.gradio-container {width: 100%; max-width: 1200px !important; margin: auto}
.swatches {display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0 0; padding: 0;
           list-style: none}
.swatches li {display: flex; align-items: center; gap: 6px; max-width: 100%; margin: 0;
              padding: 1px 8px 1px 5px; font-size: 14px; overflow-wrap: anywhere;
              border: 1px solid var(--border-color-primary); border-radius: 14px}
.swatches i {flex: none; width: 16px; height: 16px; border-radius: 99px;
             border: 1px solid var(--border-color-primary)}
.swatches b {font-variant-numeric: tabular-nums; white-space: nowrap}
.scale {display: flex; align-items: center; gap: 8px; font-variant-numeric: tabular-nums}
.scale i {flex: 1; max-width: 320px; height: 12px; border-radius: 99px}
.fault {padding: 8px 12px; border-left: 4px solid #dc2626; border-radius: 4px;
        background: #dc26261f; overflow-wrap: anywhere}
#overlay img {max-height: 75vh; object-fit: contain}
#maps .grid-wrap {height: auto; min-height: 0; max-height: none; padding-top: 36px}
#maps .grid-container {grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) !important;
                       grid-auto-rows: auto; align-items: start}
#maps .thumbnail-lg {display: flex; flex-direction: column; height: auto; aspect-ratio: auto}
#maps .thumbnail-lg img {height: auto}
#maps .thumbnail-lg .caption-label {position: static; width: 100%; max-width: none; border: 0;
                                    text-align: center; white-space: normal;
                                    overflow-wrap: anywhere}
@media (max-width: 600px) {
  #maps .grid-container {grid-template-columns: repeat(3, minmax(0, 1fr)) !important; gap: 4px}
}
"""


class Segmenter:
    """One model for all visitors, each of whom may name other classes.

    The picture that was asked about last is looked at once, whatever names follow.

    Args:
        predictor: of the model with its own names.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.own_names = ', '.join(predictor.class_names)
        self.picture: np.ndarray | None = None
        self.lock = threading.Lock()

    def __call__(self, text: str, image: np.ndarray) -> Prediction:
        """Segment a picture (H, W, 3), RGB uint8.

        Args:
            text: class names as typed; the model's own if blank.
            image: larger ones than ``LONGEST_SIDE`` are made smaller.

        Raises:
            ValueError: if the names are faulty, the model takes no others, or the picture is a
                mere line.
        """
        height, width = image.shape[:2]
        if max(height, width) > MOST_ELONGATED * min(height, width):
            raise ValueError(f'a picture of {width} x {height} pixels is too narrow; cut out a '
                             f'part of it, at most {MOST_ELONGATED} times as long as wide')
        scale = LONGEST_SIDE / max(height, width)
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        names = None if text.strip() in ('', self.own_names) else typed_names(text)
        with self.lock:
            if self.picture is None or not np.array_equal(image, self.picture):
                self.predictor.set_image(image)
                self.picture = image
            return self.predictor.predict(names)


def typed_names(text: str) -> list[str]:
    """Class names of the page's text field.

    Raises:
        ValueError: if they are faulty, only one, or more than ``MOST_NAMES``, or longer than
            ``MOST_CHARACTERS``.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f'the names have {len(text)} characters, of at most {MOST_CHARACTERS}')
    names = parse_class_names(text)
    if isinstance(names, str) and names not in chain(*dataset_aliases.values()):
        names = [names]  # a visitor may not read this machine's files
    names = read_class_names(names)
    texts = sum(len(split_synonyms(name)) for name in names)
    if len(names) < 2 or texts > MOST_NAMES:
        raise ValueError(f'expected 2 to {MOST_NAMES} names, synonyms included, got {texts}; every '
                         'pixel gets the one that fits it best')
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
        raise ValueError(str(error).replace(path, name)) from None


def take_uploads_only(component: gr.Image) -> None:
    """Have a component refuse addresses, which Gradio would fetch for a visitor, and folders."""
    move = component.async_move_resource_to_block_cache

    async def move_file(path: str | Path | None) -> str | None:
        if path is not None and not os.path.isfile(path):
            raise gr.Error(NOT_UPLOADED)
        return await move(path)
    component.async_move_resource_to_block_cache = move_file


def describe(prediction: Prediction) -> str:
    """What labelled the pixels, and the colours of the classes that occur, as HTML."""
    shares = prediction.shares()
    swatches = ''.join(
        f'<li><i style="background: rgb{prediction.palette[index]}"></i>'
        f'{html.escape(prediction.class_names[index])} '
        f'<b>{f"{share:.1%}" if share >= 0.001 else "&lt; 0.1%"}</b></li>'
        for index, share in shares.items())
    return (f'The <b>{prediction.answers}</b> labelled the pixels: {len(shares)} of '
            f'{len(prediction.class_names)} names occur.<ul class="swatches">{swatches}</ul>')


def draw_score_maps(prediction: Prediction) -> tuple[str, list[tuple[np.ndarray, str]]]:
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
    shares = prediction.shares()
    order = sorted(range(len(score_map)),
                   key=lambda index: (-shares.get(index, 0), -score_map[index].max()))
    maps = [(COLOURS((small[index] - low) / max(high - low, 1e-6), bytes=True)[..., :3],
             prediction.class_names[index]) for index in order]
    stops = ', '.join(matplotlib.colors.to_hex(colour) for colour in COLOURS(np.linspace(0, 1, 9)))
    scale = (f'<div class="scale">cosine {low:.2f} <i style="background: linear-gradient(90deg, '
             f'{stops})"></i> {high:.2f}</div>')
    return scale, maps


def build_page(segmenter: Segmenter, examples: list[str]) -> gr.Blocks:
    """The page.

    Args:
        segmenter: what answers.
        examples: picture files to choose from.
    """
    def segment(picture: dict[str, Any] | None, text: str | None, opacity: float) -> tuple:
        try:  # none of the three is what the page sends, if a visitor writes the request
            if not isinstance(text, str | None) or not isinstance(opacity, int | float):
                raise ValueError('the names are a text, and the opacity is a number')
            prediction = segmenter(text or '', uploaded_image(picture))
        except ValueError as error:
            fault = f'<div class="fault" role="alert">{html.escape(str(error))}</div>'
            return fault, *[gr.skip()] * 5
        scale, maps = draw_score_maps(prediction)
        shown = replace(prediction, score_map=None)  # which may be large, and is drawn by now
        return ('', shown, prediction.overlay(min(max(opacity, 0), 1)), describe(prediction), scale,
                gr.Gallery(maps, visible=bool(maps)))

    def repaint(prediction: Prediction | None, opacity: float) -> Any:
        return gr.skip() if prediction is None else prediction.overlay(opacity)

    with gr.Blocks(title='Segmentation by names', analytics_enabled=False,
                   delete_cache=(KEPT, KEPT)) as page:
        last = gr.State(time_to_live=KEPT)
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                picture = gr.Image(label='Picture', type='filepath', height=320)
                take_uploads_only(picture)
                gr.Examples(examples, picture, label='Examples')
                names = gr.Textbox(
                    segmenter.own_names, label='Class names', lines=3, max_lines=6,
                    info='Separated by commas; "a;b" are synonyms. The name of a data set, such as '
                    'cityscapes, stands for its classes.')
                button = gr.Button('Segment', variant='primary')
                fault = gr.HTML(elem_id='fault')
            with gr.Column():
                overlay = gr.Image(label='Segmentation', format='png', interactive=False,
                                   buttons=['download', 'fullscreen'], elem_id='overlay')
                opacity = gr.Slider(0, 1, 0.5, step=0.05, label='Opacity of the classes')
                legend = gr.HTML(elem_id='legend')
        scale = gr.HTML(elem_id='scale')
        maps = gr.Gallery(label='Score maps', format='png', object_fit='contain', visible=False,
                          height='auto', interactive=False, elem_id='maps',
                          buttons=['download', 'fullscreen'])
        # Unprocessed: Gradio's own reading of a broken picture would end in a trace.
        button.click(segment, [picture, names, opacity],
                     [fault, last, overlay, legend, scale, maps], preprocess=False,
                     scroll_to_output=True)
        opacity.change(repaint, [last, opacity], overlay, show_progress='hidden',
                       trigger_mode='always_last')
    return page


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model and serve the page."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', nargs='?', default=DEMO,
                        help='config file (default: configs/demo/zero_shot_scenes.py)')
    parser.add_argument('checkpoint', nargs='?',
                        help='checkpoint file; none for a zero-shot config')
    parser.add_argument('--host', default='127.0.0.1',
                        help='0.0.0.0 lets other machines see the page (default: %(default)s)')
    parser.add_argument('--port', type=int, default=7860, help='(default: %(default)s)')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        segmenter = Segmenter(Predictor(args.config, args.checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        examples = [f'{folder}/scene-{index}.png' for index in EXAMPLES]
        for path, index in zip(examples, EXAMPLES, strict=True):
            cv2.imwrite(path, draw(1, index, 512)[0])
        page = build_page(segmenter, examples)
        try:
            page.launch(
                server_name=args.host, server_port=args.port, share=False, ssr_mode=False,
                run_history=False, footer_links=[], max_file_size='20mb', css=CSS, quiet=True,
                theme=THEME, prevent_thread_lock=True)
        except (OSError, OverflowError):
            sys.exit(f'error: nothing can listen at {args.host}, port {args.port}; name others by '
                     '--host and --port')
        print(f'the page is at {page.local_url} (Ctrl-C ends it)', flush=True)
        page.block_thread()


if __name__ == '__main__':
    main()
