"""What a training came to, in a few lines and a picture."""

import resource
import time
from pathlib import Path
from typing import Any

from denseclip_mm.apis.pictures import empty_figure
from denseclip_mm.files import atomic_write

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric

SCORES = ('mIoU', 'coco/bbox_mAP', 'coco/segm_mAP')
NAMED = 3  # classes at either end


class RunSummaryHook(Hook):
    """Logs what a training came to, and draws its losses and scores: ``learning.png``.

    Best and last score (mIoU, or box and mask AP), the classes that were best and worst in the
    last validation, time, memory, and where the files are. The picture is in the work folder; it
    has the losses of every iteration and the scores of every validation, those from before a
    resume, too.
    """

    priority = 'LOWEST'  # the last checkpoint is written

    def __init__(self) -> None:
        self.started = 0.0
        self.iou_of_class: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Time runs from here."""
        self.started = time.monotonic()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                       outputs: Any = None) -> None:
        """After the last one: the IoU of the classes, of what mmseg's metric has counted."""
        if batch_idx + 1 < len(runner.val_dataloader):
            return
        for metric in runner.val_evaluator.metrics:
            if isinstance(metric, IoUMetric) and metric.results:
                areas = torch.stack([sum(each[part] for each in metric.results) for part in (0, 1)])
                all_reduce(areas)
                classes = runner.val_dataloader.dataset.metainfo['classes']
                self.iou_of_class = {
                    name: 100 * float(common / union)
                    for name, common, union in zip(classes, *areas, strict=True) if union}

    def after_train(self, runner: Runner) -> None:
        """Log and draw."""
        if not is_main_process():
            return
        for line in self.summary(runner):
            runner.logger.info(line)

    def summary(self, runner: Runner) -> list[str]:
        """The lines; draws the picture that the last one names."""
        hub, lines = runner.message_hub, []
        for name in SCORES:
            if f'val/{name}' in hub.log_scalars:
                values, _ = hub.get_scalar(f'val/{name}').data
                lines.append(f'best {name} {max(values):.4g}, last {values[-1]:.4g}')
        order = sorted(self.iou_of_class, key=self.iou_of_class.get)
        for kind, names in (('best', order[:-NAMED - 1:-1]), ('worst', order[:NAMED])):
            if names:
                listed = (f'{each} {self.iou_of_class[each]:.1f}' for each in names)
                lines.append(f'{kind} classes by IoU: {", ".join(listed)}')
        seconds = time.monotonic() - self.started
        lines.append(f'time: {seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min '
                     f'{seconds % 60:.0f} s, largest memory: {_memory()}')
        for key, what in (('last_ckpt', 'last checkpoint'), ('best_ckpt', 'best checkpoint')):
            if path := hub.get_info(key):
                lines.append(f'{what}: {path}')
        picture = Path(runner.work_dir) / 'learning.png'
        draw_curves(runner, picture)
        return [*lines, f'losses and scores: {picture}', f'log: {runner.log_dir}']


def draw_curves(runner: Runner, path: Path) -> None:
    """Draw the losses of every iteration, and the scores of every validation beside them."""
    hub = runner.message_hub
    losses = {key.removeprefix('train/'): hub.get_scalar(key).data[0] for key in hub.log_scalars
              if key.startswith('train/') and 'loss' in key}
    scores = {key: hub.get_scalar(f'val/{key}').data[0] for key in SCORES
              if f'val/{key}' in hub.log_scalars}
    figure = empty_figure((10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    for name, values in losses.items():
        left.plot(range(1, len(values) + 1), values, label=name, linewidth=1)
    for name, values in scores.items():
        steps = [(place + 1) * runner.iter / len(values) for place in range(len(values))]
        right.plot(steps, values, label=name, marker='o')
    for axes, title in ((left, 'losses'), (right, 'scores of the validations')):
        axes.set(title=title, xlabel='iteration')
        if axes.lines:
            axes.legend()
    with atomic_write(path) as part:
        figure.savefig(part, format='png', dpi=100)


def _memory() -> str:
    """Of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU'
    return f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB'
