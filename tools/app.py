#!/usr/bin/env python
"""A page to try a model on: a picture and class names in, a segmentation and score maps out.

A detector finds things in the place of a segmentation. A second tab names regions of a picture.

python tools/app.py                                  # the package's small CLIP, which knows scenes
python tools/app.py configs/denseclip_fpn.py work_dirs/denseclip_fpn/iter_80000.pth --port 8000

Everything stays on this machine: the page asks nobody else for fonts or scripts.
"""

import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from denseclip_mm.apis import Detection, Prediction, Predictor
from denseclip_mm.apis.mistakes import one_line, tool_parser
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np

try:
    import gradio as gr
except ImportError:
    sys.exit("error: the page needs Gradio: pip install 'denseclip_mm[app]'")
from app_input import fitted, take_uploads_only, typed_names, uploaded_image
from app_output import describe, draw_score_maps
from app_regions import region_tab, told

DEMO = Path(__file__).resolve().parents[1] / 'configs/demo/zero_shot_scenes.py'
KEPT = 3600  # seconds that pictures of visitors are kept
EXAMPLES = (55, 42, 7, 38)  # scenes of the validation set's seed, 1

# Fonts that every system has: none is fetched.
THEME = gr.themes.Default(
    font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']).set(
    block_info_text_color='*neutral_500')

SEGMENTATION = """# Segmentation by names
Every pixel goes to the name that fits it best. Change the names as you like; the score maps show
how well each of them fits where."""
DETECTION = """# Things by names
The detector finds the things that it was trained for. Change the names as you like: the score map
then gives each of these things the name that fits it best. The score maps show how well each name
fits where."""

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

    def __call__(self, text: str, image: np.ndarray) -> Prediction | Detection:
        """Segment a picture (H, W, 3), RGB uint8, or find its things.

        Args:
            text: class names as typed; the model's own if blank.
            image: a large one is made smaller.

        Raises:
            ValueError: if the names are faulty, the model takes no others, or the picture is a
                mere line.
        """
        image = fitted(image)
        names = None if text.strip() in ('', self.own_names) else typed_names(text)
        with self.lock:
            if self.picture is None or not np.array_equal(image, self.picture):
                self.predictor.set_image(image)
                self.picture = image
            return self.predictor.predict(names)


def build_page(segmenter: Segmenter, examples: list[str]) -> gr.Blocks:
    """The page.

    Args:
        segmenter: what answers.
        examples: picture files to choose from.
    """
    detects = segmenter.predictor.detects
    title, does = (('Things', 'Find') if detects else ('Segmentation', 'Segment'))

    def answer(picture: dict[str, Any] | None, text: str | None, opacity: float,
               lowest: float = 0) -> tuple:
        try:  # none of them is what the page sends, if a visitor writes the request
            if not isinstance(text, str | None) or not all(
                    isinstance(number, int | float) for number in (opacity, lowest)):
                raise ValueError('the names are a text, and the opacity is a number')
            prediction = segmenter(text or '', uploaded_image(picture))
        except ValueError as error:
            return told(error), *[gr.skip()] * 5
        if detects:  # whatever the score, to be looked at again
            shown, prediction = replace(prediction, cells=None), prediction.above(lowest)
        else:
            shown = replace(prediction, score_map=None)  # which may be large, and is drawn by now
        scale, maps = draw_score_maps(prediction)
        return ('', shown, prediction.overlay(min(max(opacity, 0), 1)), describe(prediction), scale,
                gr.Gallery(maps, visible=bool(maps)))

    def repaint(prediction: Prediction | Detection | None, opacity: float,
                lowest: float = 0) -> Any:
        if prediction is None:
            return gr.skip(), gr.skip()
        prediction = prediction.above(lowest) if detects else prediction
        return prediction.overlay(opacity), describe(prediction)

    with gr.Blocks(title=f'{title} by names', analytics_enabled=False,
                   delete_cache=(KEPT, KEPT)) as page:
        with gr.Tab(title):
            last = gr.State(time_to_live=KEPT)
            gr.Markdown(DETECTION if detects else SEGMENTATION)
            with gr.Row():
                with gr.Column():
                    picture = gr.Image(label='Picture', type='filepath', height=320)
                    take_uploads_only(picture)
                    gr.Examples(examples, picture, label='Examples')
                    names = gr.Textbox(
                        segmenter.own_names, label='Class names', lines=3, max_lines=6,
                        info='Separated by commas; "a;b" are synonyms. The name of a data set, '
                        'such as cityscapes, stands for its classes.')
                    button = gr.Button(does, variant='primary')
                    fault = gr.HTML(elem_id='fault')
                with gr.Column():
                    overlay = gr.Image(label=title, format='png', interactive=False,
                                       buttons=['download', 'fullscreen'], elem_id='overlay')
                    sliders = [gr.Slider(0, 1, 0.5, step=0.05, label='Opacity of the classes')]
                    if detects:
                        sliders.append(gr.Slider(0, 1, 0.3, step=0.05, label='Lowest score'))
                    legend = gr.HTML(elem_id='legend')
            scale = gr.HTML(elem_id='scale')
            maps = gr.Gallery(label='Score maps', format='png', object_fit='contain', visible=False,
                              height='auto', interactive=False, elem_id='maps',
                              buttons=['download', 'fullscreen'])
            # Unprocessed: Gradio's own reading of a broken picture would end in a trace.
            button.click(answer, [picture, names, *sliders],
                         [fault, last, overlay, legend, scale, maps], preprocess=False,
                         scroll_to_output=True, api_name='segment')
            for slider in sliders:
                slider.change(repaint, [last, *sliders], [overlay, legend],
                              show_progress='hidden', trigger_mode='always_last')
        with gr.Tab('Regions'):
            region_tab(segmenter, examples)
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
