#!/usr/bin/env python
"""Name the things of scenes by their shapes, in every way; write a table.

python tools/demo/compare_regions.py --out work_dirs/regions

A scene has four things of different shapes and any colours; their masks are the true ones, and they
are asked for by shape alone ('star'), so chance is 25 %. Colours are CPT's as published, at several
opacities, and those that the prompt search keeps on other scenes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from denseclip_mm.apis import Predictor
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import positive, tool_parser
from denseclip_mm.apis.regions import assign_regions
from denseclip_mm.apis.regions.colour_prompts import OPACITIES, Colours, search_colours
from denseclip_mm.demo.things import draw_things
from denseclip_mm.files import atomic_write

import numpy as np
from mmseg.models import EncoderDecoder
from tqdm import tqdm

CONFIG = Path(__file__).resolve().parents[2] / 'configs/demo/zero_shot_scenes.py'
SEARCHED = 4  # scenes that the search looks at, of another seed


def pool_values(model: EncoderDecoder, *args: Any, **options: Any) -> tuple:
    """Pooling, where the cells are MaskCLIP's values and have not attended to their like."""
    pool = model.backbone.tower.attnpool
    before, pool.dense_embedding = pool.dense_embedding, 'value'
    try:
        return assign_regions(model, *args, how='pool', **options)
    finally:
        pool.dense_embedding = before


def ways_of(predictor: Predictor, seed: int) -> dict[str, Callable]:
    """What assigns regions, by the title of its row."""
    assign = partial(assign_regions, predictor.model)
    scenes = [draw_things(seed, index) for index in range(SEARCHED)]
    names = sorted({shape for _, _, shapes in scenes for shape in shapes})
    found = search_colours(predictor.model, [image for image, _, _ in scenes],
                           [masks for _, masks, _ in scenes], names)
    return {
        "pooling, dense_embedding='value-value'": partial(assign, how='pool'),
        "pooling, dense_embedding='value'": partial(pool_values, predictor.model),
        **{f'colours, opacity {opacity:.2f}': partial(
            assign, how='colour', colours=Colours(opacity=opacity)) for opacity in OPACITIES},
        f'colours of the search ({", ".join(found.rgb)}, {found.opacity:.2f})': partial(
            assign, how='colour', colours=found),
        'blur': partial(assign, how='blur')}


def accuracy(assign: Callable, scenes: list, one_to_one: bool) -> float:
    """Regions that get their own name, in percent."""
    right = [assign(image, masks, shapes, one_to_one=one_to_one)[1] == np.arange(len(shapes))
             for image, masks, shapes in scenes]
    return 100 * float(np.mean(right))


def main(argv: Sequence[str] | None = None) -> None:
    """Run, write OUT/table.md."""
    parser = tool_parser(__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/regions'), help='folder')
    parser.add_argument('--scenes', type=positive, default=60)
    parser.add_argument('--seed', type=int, default=3, help='of the scenes')
    parser.add_argument('--search-seed', type=int, default=2, help='of those of the prompt search')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        predictor = Predictor(CONFIG, device='cpu')
        scenes = [draw_things(args.seed, index) for index in range(args.scenes)]
        lines = ['| way | regions right | one to one |', '| --- | --- | --- |']
        for title, assign in tqdm(ways_of(predictor, args.search_seed).items(), unit='way'):
            cells = [f'{accuracy(assign, scenes, one_to_one):.1f}' for one_to_one in (False, True)]
            lines.append(f'| {title} | {" | ".join(cells)} |')
        table = '\n'.join(lines) + '\n'
        with atomic_write(args.out / 'table.md') as part:
            part.write_text(table)
        print(f'{table}\nwrote {args.out / "table.md"}')


if __name__ == '__main__':
    main()
