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
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import denseclip_mm  # noqa: F401 (first: it repairs what mmseg's import needs)
from denseclip_mm.apis.mistakes import one_line, tool_parser

import numpy as np
import torch
from list_configs import ROOT, crop_size
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from tqdm import tqdm

HEADER = ('| config | images x size | training, ms | GB | test of one image, ms | GB |\n'
          '| --- | --- | --- | --- | --- | --- |')


def labelled_images(cfg: Config, count: int, num_classes: int) -> dict[str, list]:
    """Random images of the crop's size, labelled as mmseg's or mmdet's data are."""
    height, width = crop_size(cfg)
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs
        return demo_mm_inputs(count, (3, height, width), num_items=[7] * count,
                              num_classes=num_classes, with_mask=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, height, width), np.uint8)
    labels = rng.integers(0, num_classes, (count, 1, height // 8, width // 8)).repeat(8, 2)
    shape = (height, width)
    return dict(
        inputs=[torch.from_numpy(image) for image in images],
        data_samples=[SegDataSample(
            gt_sem_seg=PixelData(data=torch.from_numpy(each)),
            metainfo=dict(img_shape=shape, ori_shape=shape)) for each in labels.repeat(8, 3)])


def build(cfg: Config, device: str) -> nn.Module:
    """The model of a config with random weights, on a device."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    with torch.device(device):
        model = MODELS.build(cfg.model)
    return revert_sync_batchnorm(model).to(device)


def measured(step: Callable[[], Any], repeats: int, device: torch.device) -> str:
    """Cells of a table: median ms, and GB at the peak where the device is a GPU."""
    is_gpu = device.type == 'cuda'
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats + 2):  # two to warm up
        started = time.perf_counter()
        step()
        if is_gpu:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    memory = f'{torch.cuda.max_memory_allocated(device) / 1e9:.1f}' if is_gpu else '-'
    return f'{1e3 * statistics.median(seconds[2:]):.0f} | {memory}'


def row(path: Path, device: torch.device, amp: bool, repeats: int) -> str:
    """A row of the table.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    cfg = Config.fromfile(path)
    height, width = crop_size(cfg)
    count = cfg.train_dataloader.batch_size
    try:
        model = build(cfg, str(device))
    except FileNotFoundError:
        return f'| `{path.name}` | {count} x {height} x {width} | - | - | - | - |'
    head = model.decode_head if cfg.default_scope == 'mmseg' else (
        model.roi_head.bbox_head if hasattr(model, 'roi_head') else model.bbox_head)
    data = labelled_images(cfg, count, head.num_classes)
    training = '- | -'
    if any(parameter.requires_grad for parameter in model.parameters()):
        if amp:
            cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
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
    parser.add_argument('--repeats', type=int, default=10)
    args = parser.parse_args(argv)
    MMLogger.get_instance('mmengine').setLevel('ERROR')  # each parameter has its lines
    with one_line(args.traceback):
        for name in args.folders or folders:
            tqdm.write(f'\n{HEADER}')
            for path in tqdm(sorted((ROOT / 'configs' / name).glob('*.py')), desc=name,
                             leave=False):
                tqdm.write(row(path, torch.device(args.device), args.amp, args.repeats))


if __name__ == '__main__':
    main()
