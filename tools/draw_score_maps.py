#!/usr/bin/env python
"""Draw what a model sees: image, ground truth, prediction, and the score maps of three classes.

python tools/draw_score_maps.py CONFIG CHECKPOINT OUT.png --index 3 --classes "red star" grass
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch

import denseclip_mm  # noqa: F401  (first: it repairs what mmseg's import needs)

from mmengine.dataset import pseudo_collate  # isort: skip
from mmseg.apis import init_model  # isort: skip
from mmseg.registry import DATASETS  # isort: skip

from denseclip_mm.config import check_data, load_config  # isort: skip
from denseclip_mm.pictures import paint  # isort: skip

matplotlib.use('Agg')
from matplotlib import pyplot as plt


def choose_classes(names: list[str], labels: np.ndarray, wanted: list[str] | None) -> list[int]:
    """Indices of the classes to draw: the wanted ones, or up to three of those in the labels.

    Raises:
        ValueError: if a wanted class is none of the model's.
    """
    if wanted is not None:
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f'the model has no class {missing[0]!r}; it has {", ".join(names)}')
        return [names.index(name) for name in wanted]
    present, area = np.unique(labels[labels < len(names)], return_counts=True)
    by_area = present[np.argsort(-area)]
    spread = np.unique(np.linspace(0, len(by_area) - 1, 3).round().astype(int))
    return by_area[spread].tolist()


def main() -> None:
    """Segment one image of the validation set and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out', help='picture to write')
    parser.add_argument('--index', type=int, default=0, help='which image of the validation set')
    parser.add_argument('--classes', nargs='+', help='score maps to draw (default: three)')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    try:
        cfg = load_config(args.config, options=None, launcher='none', work_dir=None)
        check_data(cfg, 'val_dataloader')
        model = init_model(cfg, args.checkpoint, device=args.device)
    except FileNotFoundError as error:
        sys.exit(f'error: {error}')
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    if not 0 <= args.index < len(dataset):
        sys.exit(f'error: --index {args.index}, but the validation set has {len(dataset)} images')

    batch = pseudo_collate([dataset[args.index]])
    with torch.no_grad():
        result = model.test_step(batch)[0]
        score_map = model.extract_feat(model.data_preprocessor(batch, False)['inputs'])[-1][0]
    names, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    truth = result.gt_sem_seg.data[0].cpu().numpy()
    try:
        chosen = choose_classes(list(names), truth, args.classes)
    except ValueError as error:
        sys.exit(f'error: {error}')

    panels = [('image', batch['inputs'][0].permute(1, 2, 0).numpy()[..., ::-1]),
              ('ground truth', paint(truth, palette)),
              ('prediction', paint(result.pred_sem_seg.data[0].cpu().numpy(), palette))]
    maps = score_map[chosen].cpu().numpy()
    figure, axes = plt.subplots(1, 3 + len(chosen), figsize=(2.4 * (3 + len(chosen)), 2.7),
                                layout='constrained')
    for axis, (title, picture) in zip(axes, panels, strict=False):
        axis.imshow(picture)
        axis.set_title(title)
    for axis, index, cells in zip(axes[3:], chosen, maps, strict=True):
        drawn = axis.imshow(cells, vmin=maps.min(), vmax=maps.max(), cmap='magma')
        axis.set_title(names[index])
    figure.colorbar(drawn, ax=axes[-1], label='cosine')
    for axis in axes:
        axis.set_axis_off()
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=100)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
