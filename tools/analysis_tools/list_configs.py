#!/usr/bin/env python
"""List the shipped configs as tables of docs/model_zoo.md: data, size, schedule, cost, figure.

python tools/analysis_tools/list_configs.py
python tools/analysis_tools/list_configs.py denseclip zero_shot      # of these folders alone

Each model is built on the meta device; no weights are fetched. Parameters are counted without the
text tower, which is frozen, and without a ViT's pyramid where no neck takes its maps.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import denseclip_mm  # noqa: F401 (first: it repairs what mmseg's import needs)
from denseclip_mm.apis.checks.config import dataset_leaves
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import tool_parser

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
HEADER = ('| config | data | size | images x schedule | parameters | learned | figure |\n'
          '| --- | --- | --- | --- | --- | --- | --- |')
DATA = {'ADE20K': 'ADE20K', 'Cityscapes': 'Cityscapes', 'PascalVOC': 'Pascal VOC',
        'COCOStuff': 'COCO-Stuff', 'Scenes': 'scenes', 'BaseSeg': 'CamVid', 'Coco': 'COCO'}


def figures_of(metafile: Path) -> dict[str, str]:
    """Figures by config: published mIoU single / multi scale, or box AP (mask AP)."""
    figures = {}
    for model in yaml.safe_load(metafile.read_text())['Models']:
        found = [value for result in model.get('Results', ())
                 for value in result['Metrics'].values()]
        text = '{} / {}' if model.get('Metadata', {}).get('Crop Size') else '{} ({})'
        figures[model['Name']] = (
            text.format(*found) if len(found) == 2 else str(*found) or
            ('[measured](results.md)' if 'Measured' in model else 'not measured'))
    return figures


def crop_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the crops of training; of detectors the size in the test."""
    if cfg.default_scope == 'mmseg':
        return tuple(cfg.model.data_preprocessor.size)
    resize = next((step.scale for step in cfg.get('test_pipeline', ())
                   if step.type == 'Resize'), (128, 128))
    return resize[::-1]


def describe(cfg: Config) -> list[str]:
    """Data, size and schedule, as the config has them."""
    _, dataset = next(dataset_leaves('', cfg.test_dataloader.dataset))
    data = DATA[dataset.type.removesuffix('Dataset')]
    if str(dataset.get('ann_file')).startswith('scene:'):
        data = 'scenes'
    height, width = crop_size(cfg)
    loop = cfg.train_cfg
    steps = f'{loop.max_epochs} epochs' if 'max_epochs' in loop else f'{loop.max_iters:,}'
    return [data, f'{height} x {width}', f'{cfg.auto_scale_lr.base_batch_size} x {steps}']


def parameters(cfg: Config) -> list[str]:
    """How many there are, and how many of them are learned; '-' without the text they are for."""
    init_default_scope(cfg.default_scope)
    try:
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
    except FileNotFoundError:  # text embeddings of data/
        return ['-', '-']
    neck = cfg.model.neck
    unused = 'pyramid' if neck.type == 'PixelTextNeck' and not neck.get('neck') else 'text_encoder'
    counted = [parameter for name, parameter in model.named_parameters()
               if 'text_encoder' not in name and unused not in name]
    total = sum(each.numel() for each in counted)
    learned = sum(each.numel() for each in counted if each.requires_grad)
    return [f'{total / 1e6:.1f} M', 'all' if learned == total else f'{learned:,}']


def rows(folder: Path) -> Iterator[list[str]]:
    """A row for each config of a folder."""
    figures = figures_of(folder / 'metafile.yml')
    for path in tqdm(sorted(folder.glob('*.py')), desc=folder.name, leave=False):
        cfg = Config.fromfile(path)
        data, size, schedule = describe(cfg)
        total, learned = parameters(cfg)
        yield [f'`{path.name}`', data, size,
               'none' if learned == '0' else schedule, total, learned, figures[path.stem]]


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table for each folder."""
    parser = tool_parser(__doc__)
    folders = sorted(path.parent.name for path in (ROOT / 'configs').glob('*/metafile.yml'))
    parser.add_argument('folders', nargs='*', choices=[*folders, []], default=[],
                        help='of configs (default: all)')
    args = parser.parse_args(argv)
    logging.getLogger('mmengine').setLevel(logging.WARNING)
    with one_line(args.traceback):
        for name in args.folders or folders:
            lines = [f'| {" | ".join(row)} |' for row in rows(ROOT / 'configs' / name)]
            print('\n'.join(['', HEADER, *lines]))


if __name__ == '__main__':
    main()
