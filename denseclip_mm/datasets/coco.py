"""COCO files of a config: refused before a run that they would spoil, and read whole before that.

mmdet labels boxes by the order of the categories in the file, leaves out what it cannot use, and
looks keys up when it needs them; CocoMetric reads the file again when the training is over.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from os.path import isfile, join, realpath
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checks.config import dataset_leaves
from denseclip_mm.datasets import sample
from denseclip_mm.datasets.annotations import BoxReport, judge
from denseclip_mm.datasets.coco_file import Use, is_local

from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmseg.registry import DATASETS
from tqdm.contrib.concurrent import thread_map

LOST = 'pictures that are not there: {}; put them there, or name their folder by data_prefix.img'
OTHER_SIZE = 'pictures of another size than the file says: {}; write that of the picture'
A_FEW = 20  # pictures that are read before a run: of a wrong size are mostly all
_judge = lru_cache(maxsize=4)(lambda use, changed: judge(use))  # of a run: by tool and hook


def check_annotations(cfg: Config, *loaders: str) -> list[str]:
    """Refuse a run of a detector whose COCO files cannot be right.

    Args:
        cfg: the config.
        loaders: dataloaders that the run will use, such as ``train_dataloader``.

    Returns:
        What may be meant so, a line each. Datasets that read their files in ways of their own are
        not looked at.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is no COCO file, mmdet would give its boxes other labels than the
            classes', or training or measuring would end on it or learn nothing.
    """
    warnings = []
    for loader in loaders:
        if not cfg.get(loader):
            continue
        for report in _reports(cfg, loader.removesuffix('_dataloader'), whole=False):
            if errors := report.errors():
                more = f' (and {len(errors) - 1} more)' if errors[1:] else ''
                raise ValueError(f'{loader}: {errors[0]}{more}; tools/check_dataset.py lists all')
            warnings += report.warnings()
    return warnings


def check_boxes(cfg: Config, split: str) -> BoxReport:
    """Read the COCO files and every picture of a split as training would, showing a progress bar.

    Args:
        cfg: config with ``<split>_dataloader``; wrappers around its dataset are looked through.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The report; its ``errors()`` are empty if all is well.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is no COCO file, a dataset cannot be built, or reads files by other
            means than ``CocoDataset`` and ``LoadImageFromFile``.
    """
    first, *others = _reports(cfg, split, whole=True)
    for report in others:
        first.joined.append(report)
        first.num_images += report.num_images
        first.bare += report.bare
        first.boxes.update(report.boxes)
        first.images.update(report.images)
    return first


def _reports(cfg: Config, split: str, whole: bool) -> Iterator[BoxReport]:
    """Of each dataset of a split, and of another file that it is measured by."""
    metrics = [] if split == 'train' else list(_metrics(cfg, split))
    channels = len(cfg.get('model', {}).get('data_preprocessor', {}).get('mean', 'rgb'))
    classes = ()
    leaves = list(dataset_leaves(f'{split}_dataloader.dataset', cfg[f'{split}_dataloader'].dataset))
    for key, leaf in leaves:
        dataset = _build(leaf, key, cfg.get('default_scope'), whole)
        if dataset is None:
            continue
        use = _use(dataset, leaf, key, split, metrics)
        if use.classes != (classes := classes or use.classes):
            raise ValueError(f'{key} has other classes than the datasets it is joined with')
        report = _read(use, whole)
        if whole or leaf.get('indices') is None:  # else it need not have the others
            _look_at_pictures(report, dataset.data_prefix['img'], leaf, channels, whole)
        for metric in metrics if len(leaves) == 1 else ():
            if not _is_same(metric['ann_file'], use.path):
                report.joined.append(_measured(metric, report, whole))
        yield report


def _metrics(cfg: Config, split: str) -> Iterator[dict[str, Any]]:
    """The CocoMetrics that measure by a file."""
    listed = cfg.get(f'{split}_evaluator') or []
    for metric in [listed] if isinstance(listed, dict) else listed:
        if (isinstance(metric, dict) and metric.get('type') in ('CocoMetric', 'mmdet.CocoMetric')
                and metric.get('ann_file') and not metric.get('format_only')):
            yield metric


def _build(leaf: dict[str, Any], key: str, scope: str | None, whole: bool) -> Any:
    """The dataset with nothing loaded, if it reads its file as ``CocoDataset`` does."""
    with DATASETS.switch_scope_and_registry(scope) as registry:
        kind = leaf.get('type')
        kind = registry.get(kind) if isinstance(kind, str) else kind
        reads = {getattr(getattr(kind, name, None), '__module__', '')
                 for name in ('load_data_list', 'parse_data_info')}
        if reads == {'mmdet.datasets.coco'}:
            try:
                return registry.build(dict(leaf, pipeline=[], lazy_init=True))
            except Exception as error:  # whatever a config can get wrong
                if whole:
                    raise ValueError(f'{key}: {error}') from error
                return None  # mmengine meets it, too, and one_line names the entry
    if whole:
        raise ValueError(f'{key} is a {leaf.get("type")}, which reads its file in a way of its '
                         'own; CocoDataset is checked here, so choose other splits by --split')
    return None


def _use(dataset: Any, leaf: dict[str, Any], key: str, split: str,
         metrics: list[dict[str, Any]]) -> Use:
    classes = dataset.metainfo.get('classes')
    if not isinstance(classes, list | tuple) or not classes:
        raise ValueError(f"{key}: metainfo.classes has to be a list of names, got {classes!r}; "
                         "write metainfo=dict(classes=['cat'])")
    for name, value in dict(ann_file=dataset.ann_file,
                            data_prefix=dataset.data_prefix.get('img') is not None).items():
        if not value:
            raise ValueError(f"{key} has no {name}; write ann_file='annotations/train.json' and "
                             "data_prefix=dict(img='train')")
    steps = [step for step in leaf.get('pipeline', []) if isinstance(step, dict)]
    measuring = [metric for metric in metrics if _is_same(metric['ann_file'], dataset.ann_file)]
    masks = any(step.get('with_mask') for step in steps)
    filters = {} if dataset.test_mode else dataset.filter_cfg or {}
    return Use(
        path=dataset.ann_file, split=split, classes=tuple(classes),
        masks=masks or any(map(_of_masks, measuring)), measured=bool(measuring),
        polygons=masks and not any(step.get('with_mask') and step.get('poly2mask', True)
                                   for step in steps),
        filled=bool(filters.get('filter_empty_gt')), min_size=filters.get('min_size', 0),
        backend_args=dataset.backend_args)


def _measured(metric: dict[str, Any], of: BoxReport, whole: bool) -> BoxReport:
    """The report of a file that is not the dataset's, which ought to hold the same images."""
    report = _read(Use(path=metric['ann_file'], split=of.split, classes=of.use.classes,
                       masks=_of_masks(metric), measured=True,
                       backend_args=metric.get('backend_args')), whole)
    images = [{number: image['file_name'] for number, image in each.pictures.items()}
              for each in (report, of)]
    if images[0] != images[1] and all(images):
        report.faults.append(
            f'{of.split}_evaluator measures by it, but it has other images than {of.use.path}, '
            'which the model sees; give both the same ann_file')
    return report


def _of_masks(metric: dict[str, Any]) -> bool:
    kinds = metric.get('metric', 'bbox')
    return 'segm' in ([kinds] if isinstance(kinds, str) else kinds)


def _is_same(path: str, other: str) -> bool:
    return path == other or realpath(path) == realpath(other)


def _read(use: Use, whole: bool) -> BoxReport:
    """A report to add to."""
    if whole:
        return judge(use)
    report = _judge(use, Path(use.path).stat().st_mtime_ns if isfile(use.path) else 0)
    return replace(report, joined=[], faults=list(report.faults),
                   problems=defaultdict(list, report.problems))


def _look_at_pictures(report: BoxReport, folder: str, leaf: dict[str, Any], channels: int,
                      whole: bool) -> None:
    """Add those that are lost, and what is wrong with the others, or with a few of them."""
    paths = {join(folder, image['file_name']): image for image in report.pictures.values()}
    if is_local(folder, report.use.backend_args):
        there = {path: image for path, image in paths.items() if isfile(path)}
        if lost := [path for path in paths if path not in there]:
            report.problems[LOST] = lost
        paths = there
    loaders = [step for step in leaf.get('pipeline', []) if isinstance(step, dict)
               and step.get('type') in ('LoadImageFromFile', 'mmdet.LoadImageFromFile')]
    if not loaders:
        return
    load = LoadImageFromFile(**{key: value for key, value in loaders[0].items() if key != 'type'})
    chosen = list(paths)[::1 if whole else max(1, len(paths) // A_FEW)]
    for path, (problems, size, _) in zip(chosen, thread_map(
            partial(sample.read_image, load_image=load, channels=channels), chosen,
            desc=report.split, unit='image', leave=False, disable=not whole), strict=True):
        for message, what in problems.items():
            report.problems[message].append(what)
        said = int(paths[path]['height']), int(paths[path]['width'])
        if size not in (None, said):
            report.problems[OTHER_SIZE].append(f'{path}: {size}, but the file says {said}')
