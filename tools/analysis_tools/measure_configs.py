#!/usr/bin/env python
"""Time and memory of each shipped config: a training step at its crop and batch size, and a test.

python tools/analysis_tools/measure_configs.py --amp
python tools/analysis_tools/measure_configs.py denseclip detection --device cpu --repeats 1

Images, labels, boxes and weights are random; they cost what real ones cost. A training step is the
config's own: its batch size, its optimizer, its data preprocessor, and with ``--amp`` what
``tools/train.py --amp`` has. The test has one image of the crop's size. Times are medians, without
the reading of data; memory is the peak of what PyTorch allocates on the GPU. A model that cannot be
built without files that are not here has a dash.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import denseclip_mm  # noqa: F401 (first: it repairs what mmseg's import needs)
from denseclip_mm.apis.checks.mistakes import one_line
from denseclip_mm.apis.command_line import positive, tool_parser

import torch
from benchmark_measure import Step, check_device, measure_time
from benchmark_steps import build, random_samples
from list_configs import ROOT, crop_size
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from tqdm import tqdm

HEADER = ('| config | images x size | training, ms | GB | test of one image, ms | GB |\n'
          '| --- | --- | --- | --- | --- | --- |')


def labelled_images(cfg: Config, count: int, num_classes: int) -> dict[str, Any]:
    """Random images of the crop's size, labelled as mmseg's or mmdet's data are."""
    height, width = crop_size(cfg)
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs
        return demo_mm_inputs(count, (3, height, width), num_items=[7] * count,
                              num_classes=num_classes, with_mask=True)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    return dict(inputs=list(images),
                data_samples=random_samples(count, (height, width), num_classes))


def measured(step: Step, repeats: int, device: torch.device) -> str:
    """Cells of a table: median ms, and GB at the peak where the device is a GPU."""
    is_gpu = device.type == 'cuda'
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    step()  # to warm up; what comes next does so once more
    seconds = measure_time({'': step}, repeats, device, tqdm(disable=True))['']
    memory = f'{torch.cuda.max_memory_allocated(device) / 1e9:.1f}' if is_gpu else '-'
    return f'{1e3 * statistics.median(seconds):.0f} | {memory}'


def row(path: Path, device: torch.device, amp: bool, repeats: int) -> str:
    """A row of the table.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    cfg = Config.fromfile(path)
    height, width = crop_size(cfg)
    count = cfg.train_dataloader.batch_size
    init_default_scope(cfg.default_scope)
    try:
        model = build(cfg, device)
    except FileNotFoundError:
        return f'| `{path.name}` | {count} x {height} x {width} | - | - | - | - |'
    head = model.decode_head if cfg.default_scope == 'mmseg' else (
        model.roi_head.bbox_head if hasattr(model, 'roi_head') else model.bbox_head)
    data = labelled_images(cfg, count, head.num_classes)
    training = '- | -'
    if any(parameter.requires_grad for parameter in model.parameters()):
        if amp:
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        optim_wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)

        def train() -> None:
            for name, loss in model.train_step(data, optim_wrapper).items():
                if not loss.isfinite().all():
                    raise FloatingPointError(f'{path}: {name} is {loss}')
        training = measured(train, repeats, device)
        model.zero_grad()
        del optim_wrapper
    model.eval()
    image = {key: values[:1] for key, values in data.items()}
    with torch.autocast(device.type, enabled=amp):
        test = measured(lambda: model.test_step(image), repeats, device)
    return f'| `{path.name}` | {count} x {height} x {width} | {training} | {test} |'


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table for each folder, a row as soon as it is measured."""
    parser = tool_parser(__doc__)
    folders = sorted(path.parent.name for path in (ROOT / 'configs').glob('*/metafile.yml'))
    parser.add_argument('folders', nargs='*', choices=[*folders, []], default=[],
                        help='of configs (default: all)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--repeats', type=positive, default=10)
    args = parser.parse_args(argv)
    check_device(parser, args)
    if args.amp and not args.device.startswith('cuda'):
        parser.error(f'--amp is for a GPU, and the device is {args.device}; leave it out')
    MMLogger.get_instance('mmengine').setLevel('ERROR')  # each parameter has its lines
    with one_line(args.traceback):
        for name in args.folders or folders:
            tqdm.write(f'\n{HEADER}')
            for path in tqdm(sorted((ROOT / 'configs' / name).glob('*.py')), desc=name,
                             leave=False):
                tqdm.write(row(path, torch.device(args.device), args.amp, args.repeats))


if __name__ == '__main__':
    main()
