#!/usr/bin/env python
"""Draw what a model sees: image, ground truth, prediction, and the score maps of three classes.

python tools/analysis_tools/draw_score_maps.py CONFIG CHECKPOINT OUT.png --index 3 --classes grass

ScoreMapVisualizationHook draws the same in validation and test.
"""

from collections.abc import Sequence
from pathlib import Path

from denseclip_mm.apis.checks.config import check_data
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import tool_parser
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.apis.pictures import loading_step
from denseclip_mm.engine.score_map_hook import check_classes, draw_sample
from denseclip_mm.files import atomic_write

import torch
from mmengine.dataset import pseudo_collate
from mmseg.registry import DATASETS
from PIL import Image


def main(argv: Sequence[str] | None = None) -> None:
    """Segment one image of the validation set and draw it."""
    parser = tool_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path, help='picture to write')
    parser.add_argument('--index', type=int, default=0, help='which image of the validation set')
    parser.add_argument('--classes', nargs='+', default=3, metavar='NAME',
                        help='score maps to draw (default: those of the three largest classes)')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args(argv)
    with one_line(args.traceback):
        model = Predictor(args.config, args.checkpoint, device=args.device).model
        check_classes(model, args.classes)
        check_data(model.cfg, 'val_dataloader')
        dataset = DATASETS.build(model.cfg.val_dataloader.dataset)
        if not 0 <= args.index < len(dataset):
            raise ValueError(f'--index {args.index}, but the validation set has {len(dataset)} '
                             'images')
        batch = pseudo_collate([dataset[args.index]])
        with torch.no_grad():
            result = model.test_step(batch)[0]
        picture = draw_sample(model, batch, 0, result, args.classes, dataset.metainfo['palette'],
                              loading_step(dataset))
        with atomic_write(args.out) as part:
            Image.fromarray(picture).save(part)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
