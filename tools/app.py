#!/usr/bin/env python
"""A page to try a model on: a picture and class names in, a segmentation and score maps out.

A detector finds things in the place of a segmentation. A second tab names regions of a picture.

python tools/app.py                                  # the package's small CLIP, which knows scenes
python tools/app.py configs/denseclip_fpn.py work_dirs/denseclip_fpn/iter_80000.pth --port 8000

Everything stays on this machine: the page asks nobody else for fonts or scripts.
"""

import html
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from denseclip_mm.apis import Detection, Prediction, Predictor
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.checks.towers import what_it_knows
from denseclip_mm.apis.command_line import checkpoint_or_none, tool_parser
from denseclip_mm.apis.pictures import distinct_colours
from denseclip_mm.demo.render import CLASSES
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np

try:
    import gradio as gr
except ImportError:
    sys.exit("error: the page needs Gradio: pip install 'denseclip_mm[app]'")
from page.input import fitted, take_uploads_only, typed_names, uploaded_image
from page.kept import Kept, keep
from page.output import describe, draw_score_maps, scores_at
from page.regions import region_tab, told
from page.requests import OddRequests, Page
from page.style import CSS, DETECTION, SEGMENTATION, THEME
from starlette.middleware import Middleware

DEMO = Path(__file__).resolve().parents[1] / 'configs/demo/zero_shot_scenes.py'
KEPT = 3600  # seconds that pictures of visitors are kept
VISITORS = 50  # of whom results are kept; the one who asked longest ago is forgotten first
GONE = 'the result is kept no longer; press the button again'
EXAMPLES = (55, 42, 7, 38)  # scenes of the validation set's seed, 1


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

    def __call__(self, text: str, image: np.ndarray, *, alone: bool = False
                 ) -> Prediction | Detection:
        """Segment a picture (H, W, 3), RGB uint8, or find its things.

        Args:
            text: class names as typed; the model's own if blank.
            image: a large one is made smaller.
            alone: whether one name alone will do; ``'other'`` is then among the names, of no pixel
                yet.

        Returns:
            What there is, in colours that are not those of a data set, as those of scenes are the
            things' own.

        Raises:
            ValueError: if the names are faulty, the model takes no others, or the picture is a
                mere line.
        """
        image = fitted(image)
        fewest = 1 if alone else 2
        names = None if text.strip() in ('', self.own_names) else typed_names(text, fewest)
        with self.lock:
            if self.picture is None or not np.array_equal(image, self.picture):
                self.predictor.set_image(image)
                self.picture = image
            one = names is not None and len(names) == 1
            prediction = self.predictor.predict(names, other=-1 if one else None)
        colours = distinct_colours(len(prediction.palette))
        return prediction if one else replace(prediction, palette=colours)


def build_page(segmenter: Segmenter, examples: dict[str, str]) -> gr.Blocks:
    """The page.

    Args:
        segmenter: what answers.
        examples: picture files to choose from, and names that suit each, which come with it.
    """
    detects = segmenter.predictor.detects
    known = what_it_knows(segmenter.predictor.model)
    title, does = (('Things', 'Find') if detects else ('Segmentation', 'Segment'))

    def thresholded(prediction: Prediction | Detection, lowest: float) -> Prediction | Detection:
        if detects:
            return prediction.above(lowest)
        return prediction.or_other(lowest) if lowest else prediction

    def answer(picture: dict[str, Any] | None, text: str | None, opacity: float,
               lowest: float) -> tuple:
        try:
            prediction = segmenter(text or '', uploaded_image(picture),
                                   alone=not detects and lowest > 0)
        except ValueError as error:  # and what was there is of other names
            return told(error), None, None, '', '', '', gr.Gallery([], visible=False)
        kept = keep(prediction, picture)
        prediction = thresholded(prediction, lowest)
        scale, maps = draw_score_maps(prediction)
        return ('', kept, prediction.overlay(max(0, min(1, opacity))), '', describe(prediction),
                scale, gr.Gallery(maps, visible=bool(maps)))

    def repaint(kept: Kept | None, shown: dict[str, Any] | None, opacity: float,
                lowest: float) -> tuple:
        if kept is None and shown is None:  # nothing was asked yet
            return gr.skip(), gr.skip(), gr.skip()
        try:
            if kept is None:
                raise ValueError(GONE)
            image = fitted(uploaded_image(kept.picture))
        except ValueError as error:
            return told(error), gr.skip(), gr.skip()
        prediction = thresholded(replace(kept.unpacked(), image=image), lowest)
        return '', prediction.overlay(max(0, min(1, opacity))), describe(prediction)

    def look(kept: Kept | None, lowest: float, event: gr.SelectData) -> str:
        if kept is None:
            return told(GONE)
        return scores_at(thresholded(kept.unpacked(), lowest), kept.best, *event.index)

    with Page(title=f'{title} by names', analytics_enabled=False,
              delete_cache=(KEPT, KEPT)) as page:
        with gr.Tab(title):
            last = gr.State(time_to_live=KEPT)
            gr.Markdown(DETECTION if detects else SEGMENTATION)
            with gr.Row():
                with gr.Column():
                    picture = gr.Image(label='Picture', type='filepath', height=320)
                    take_uploads_only(picture)
                    if known:
                        gr.HTML(html.escape(f'{known[0].upper()}{known[1:]}.'), elem_id='known')
                    names = gr.Textbox(
                        segmenter.own_names, label='Class names', lines=3, max_lines=6,
                        info='Separated by commas; "a;b" are synonyms. The name of a data set, '
                        'such as cityscapes, stands for its classes.')
                    lowest = gr.Slider(
                        0, 1, 0.3 if detects else 0, step=0.05,
                        label='Lowest score' if detects else 'Other',
                        info='' if detects else 'Pixels with a lower score have none of the names; '
                        '0: each has one. Above 0, one name alone will do.')
                    button = gr.Button(does, variant='primary')
                    fault = gr.HTML(elem_id='fault')
                    gr.Examples([*map(list, examples.items())], [picture, names], label='Examples')
                with gr.Column():
                    overlay = gr.Image(label=title, format='png', interactive=False,
                                       buttons=['download', 'fullscreen'], elem_id='overlay')
                    pixel = gr.HTML(elem_id='pixel')
                    opacity = gr.Slider(0, 1, 0.5, step=0.05, label='Opacity of the classes')
                    legend = gr.HTML(elem_id='legend')
            scale = gr.HTML(elem_id='scale')
            maps = gr.Gallery(label='Score maps', format='png', object_fit='contain', visible=False,
                              height='auto', interactive=False, elem_id='maps',
                              buttons=['download', 'fullscreen'])
            # Unprocessed: Gradio's own reading of a broken picture would end in a trace.
            button.click(answer, [picture, names, opacity, lowest],
                         [fault, last, overlay, pixel, legend, scale, maps], preprocess=False,
                         scroll_to_output=True, api_name='segment')
            take_uploads_only(overlay)  # which is an input, too
            for slider in (opacity, lowest):
                slider.change(repaint, [last, overlay, opacity, lowest], [fault, overlay, legend],
                              preprocess=False, show_progress='hidden',
                              trigger_mode='always_last', api_visibility='private')
            if not detects:
                overlay.select(look, [last, lowest], pixel, show_progress='hidden',
                               api_visibility='private')
        with gr.Tab('Regions'):
            region_tab(segmenter, [*examples])
    return page


def serve(page: gr.Blocks, host: str, port: int | None) -> None:
    """Have the page answer, until this process ends or closes it."""
    page.launch(
        server_name=host, server_port=port, share=False, ssr_mode=False, run_history=False,
        footer_links=['api'], max_file_size='20mb', css=CSS, quiet=True, theme=THEME,
        prevent_thread_lock=True, state_session_capacity=VISITORS,
        app_kwargs=dict(middleware=[Middleware(OddRequests)]))


def main(argv: Sequence[str] | None = None) -> None:
    """Load the model and serve the page."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', nargs='?', default=DEMO,
                        help='config file (default: configs/demo/zero_shot_scenes.py)')
    parser.add_argument('checkpoint', nargs='?', type=checkpoint_or_none,
                        help="checkpoint file; 'none' for a zero-shot config")
    parser.add_argument('--host', default='127.0.0.1',
                        help='0.0.0.0 lets other machines see the page (default: %(default)s)')
    parser.add_argument('--port', type=int, default=7860, help='(default: %(default)s)')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        segmenter = Segmenter(Predictor(args.config, args.checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        examples = {}
        for index in EXAMPLES:
            image, labels = draw(1, index, 512)
            cv2.imwrite(path := f'{folder}/scene-{index}.png', image)
            examples[path] = ', '.join(CLASSES[label] for label in np.unique(labels))
        page = build_page(segmenter, examples)
        try:
            serve(page, args.host, args.port)
        except (OSError, OverflowError):
            sys.exit(f'error: nothing can listen at {args.host}, port {args.port}; name others by '
                     '--host and --port')
        print(f'the page is at {page.local_url} (Ctrl-C ends it)', flush=True)
        page.block_thread()


if __name__ == '__main__':
    main()
