#!/usr/bin/env python
"""Draw what a model sees: image, ground truth, prediction, and the score maps of three classes.

python tools/draw_score_maps.py CONFIG CHECKPOINT OUT.png --index 3 --classes "red star" grass

ScoreMapVisualizationHook draws the same in validation and test.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image

import denseclip_mm  # noqa: F401  (first: it repairs what mmseg's import needs)

from mmengine.dataset import pseudo_collate  # isort: skip
from mmseg.registry import DATASETS  # isort: skip

from denseclip_mm.config import check_data  # isort: skip
from denseclip_mm.inference import Predictor  # isort: skip
from denseclip_mm.score_map_hook import check_classes, draw_sample  # isort: skip


def main() -> None:
    """Segment one image of the validation set and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out', type=Path, help='picture to write')
    parser.add_argument('--index', type=int, default=0, help='which image of the validation set')
    parser.add_argument('--classes', nargs='+', default=3, metavar='NAME',
                        help='score maps to draw (default: those of the three largest classes)')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    try:
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
        picture = draw_sample(model, batch, 0, result, args.classes, dataset.metainfo['palette'])
        args.out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(args.out)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
