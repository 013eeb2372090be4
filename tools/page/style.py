"""Words and looks of the page (see app.py)."""

import gradio as gr

# Fonts that every system has: none is fetched.
THEME = gr.themes.Default(
    font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']).set(
    block_info_text_color='*neutral_500')

SEGMENTATION = """# Segmentation by names
Every pixel goes to the name that fits it best, or to "other" where none fits well. Change the names
as you like; the score maps show how well each of them fits where, a click on the result says it of
a pixel."""
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
.download::after {content: "label map \\2913"}
.mask::after {content: "\\2913"}
.download {text-decoration: none; font-size: 14px}
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
