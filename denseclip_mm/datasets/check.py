"""Reading a dataset before training: what its masks hold, and what is wrong with them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from denseclip_mm.apis.checks.config import dataset_leaves
from denseclip_mm.datasets import sample
from denseclip_mm.datasets.coco import check_boxes
from denseclip_mm.datasets.report import Report, named
from denseclip_mm.models.class_order import MOST_CLASSES, TOO_MANY, disagreement
from denseclip_mm.models.vocabulary import read_class_names

from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS
from tqdm.contrib.concurrent import thread_map

VALUES = 10  # wrong values that have a message of their own
_HEADS = re.compile(r'decode_head|auxiliary_head|(.+\.)?(bbox|mask)_head')  # rpn_head has one class


@dataclass
class MaskReport(Report):
    """What the images and masks of a split hold; labels and void are counted.

    Attributes:
        pixels: how many have each label.
        outside: pixels of each file, by the value in the file that is neither a class nor void.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    outside: defaultdict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    def errors(self) -> list[str]:
        """What would stop the training or spoil it, a line each."""
        lines = self.lines([message for message in self.problems
                            if message not in sample.WARNINGS])
        if len(self.classes) > MOST_CLASSES:
            lines.append(TOO_MANY.format(f'the {self.split} set', len(self.classes)))
        worst = sorted(self.outside.items(), key=lambda item: sum(item[1].values()), reverse=True)
        wanted = f'which is no class (0 to {len(self.classes) - 1}) and not void ({sample.VOID})'
        cut = 'which LoadAnnotations cuts to {}; write labels of 8 bits'
        lines += [f'masks that hold {value}, {cut.format(value % 256) if value > 255 else wanted}: '
                  f'{named(list(files))}, {sum(files.values()):,} pixels'
                  for value, files in worst[:VALUES]]
        if worst[VALUES:]:
            lines.append(f'and {len(worst) - VALUES} more such values')
        return lines + self.disagreements

    def warnings(self) -> list[str]:
        """What may be meant so, a line each."""
        return self.absent(self.pixels) + self.lines(sample.WARNINGS)


def check_split(cfg: Config, split: str) -> Report:
    """Read every image and its labels, masks or boxes, as training would, showing a progress bar.

    Args:
        cfg: config with ``<split>_dataloader``; wrappers around its dataset are looked through.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The report, a ``MaskReport`` or, of a detector, a
        :class:`denseclip_mm.datasets.annotations.BoxReport`; its ``errors()`` are empty if all is
        well.

    Raises:
        FileNotFoundError: if an annotation file is missing.
        ValueError: if a dataset cannot be built, names no classes, reads files by other means than
            ``LoadImageFromFile`` and ``LoadAnnotations`` or, of a detector, ``CocoDataset``, or is
            joined with one of other classes.
    """
    scope = cfg.get('default_scope', 'mmseg')
    init_default_scope(scope)
    report = check_boxes(cfg, split) if scope == 'mmdet' else _check_masks(cfg, split)
    report.disagreements += compare_classes(cfg, report.classes, split)
    return report


def _check_masks(cfg: Config, split: str) -> MaskReport:
    report, loader = None, f'{split}_dataloader'
    channels = len(cfg.get('model', {}).get('data_preprocessor', {}).get('mean', 'rgb'))
    for key, leaf in dataset_leaves(f'{loader}.dataset', cfg[loader].dataset):
        loaders = _loaders(leaf, key)
        dataset = _build(leaf, key)
        classes = list(dataset.metainfo.get('classes', []))
        if not classes:
            raise ValueError(f'{key} names no classes; give metainfo=dict(classes=[...])')
        report = report or MaskReport(split, classes)
        if classes != report.classes:
            raise ValueError(f'{key} has other classes than the datasets it is joined with')
        if loaders[1].reduce_zero_label not in (None, dataset.reduce_zero_label):
            raise ValueError(
                f'{key} has reduce_zero_label={dataset.reduce_zero_label}, its LoadAnnotations '
                f'{loaders[1].reduce_zero_label}; set it in the dataset alone')
        _read_all(dataset, loaders, report, channels)
    return report


def compare_classes(cfg: Config, classes: list[str], split: str) -> list[str]:
    """Say, a line each, where a config's neck and heads disagree with the classes of its data.

    The neck's names may be others, but not the same in another order, as in
    :class:`denseclip_mm.engine.hooks.CheckClassesHook`.

    Examples:
        >>> cfg = Config(dict(model=dict(decode_head=dict(num_classes=3))))
        >>> compare_classes(cfg, ['road', 'tree'], 'train')
        ['decode_head.num_classes is 3, but the train set has 2 classes; make them equal']
    """
    model, lines = cfg.get('model', {}), []
    wanted = f'but the {split} set has {len(classes)} classes; make them equal'
    neck = model.get('neck') or {}
    if 'class_names' in neck:
        names = read_class_names(neck['class_names'])
        if fault := disagreement(names, classes, f'the {split} set'):
            lines.append(fault)
    for key, head in _heads(model, ''):
        if head.get('num_classes') != len(classes) and (
                'num_classes' in head or key.startswith(('decode', 'auxiliary'))):
            lines.append(f'{key}.num_classes is {head.get("num_classes")}, {wanted}')
    return lines


def _heads(entry: dict[str, Any], outer: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Heads that have the classes, by their keys."""
    for name, value in entry.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                if _HEADS.fullmatch(f'{outer}{name}'):
                    yield f'{outer}{name}', each
                yield from _heads(each, f'{outer}{name}.')


def _loaders(leaf: dict[str, Any], key: str) -> tuple[LoadImageFromFile, LoadAnnotations]:
    try:
        steps = {type(step): step for step in Compose(leaf.get('pipeline', [])).transforms}
    except Exception as error:  # whatever a config can get wrong
        raise ValueError(f'the pipeline of {key}: {error}') from error
    for stock in (LoadImageFromFile, LoadAnnotations):
        if stock not in steps:
            raise ValueError(f'the pipeline of {key} has no {stock.__name__}, which reads what is '
                             'checked here; choose other splits by --split')
    return steps[LoadImageFromFile], steps[LoadAnnotations]


def _build(leaf: dict[str, Any], key: str) -> BaseSegDataset:
    try:
        dataset = DATASETS.build(dict(leaf, pipeline=[], lazy_init=True, serialize_data=False))
        for name in ('img_path', 'seg_map_path'):
            folder = dataset.data_prefix.get(name)
            if not folder or not Path(folder).is_dir():
                raise FileNotFoundError(f'data_prefix.{name}: there is no folder {folder!r} '
                                        f'(looked from {Path.cwd()})')
        dataset.full_init()
    except Exception as error:  # whatever a config can get wrong
        raise ValueError(f'{key}: {error}') from error
    return dataset


def _read_all(dataset: BaseSegDataset, loaders: tuple[LoadImageFromFile, LoadAnnotations],
              report: MaskReport, channels: int) -> None:
    images, masks = dataset.data_prefix['img_path'], dataset.data_prefix['seg_map_path']
    if not dataset.data_list:
        report.problems[sample.EMPTY].append(images)
    becomes, known = sample.labels_of_values(dataset), {*range(len(report.classes)), sample.VOID}
    samples = thread_map(partial(sample.read, loaders=loaders, channels=channels),
                         dataset.data_list, desc=report.split, unit='image', leave=False)
    report.num_images += len(samples)
    for info, (problems, values) in zip(dataset.data_list, samples, strict=True):
        labels: Counter[int] = Counter()
        for value, pixels in values.items():
            label = becomes.get(value)  # None over 255, which LoadAnnotations would cut to 8 bits
            if label in known:
                labels[label] += pixels
            else:
                report.outside[value][info['seg_map_path']] = pixels
        report.pixels.update(labels)
        report.images.update(labels.keys())
        if labels and labels[sample.VOID] == sum(values.values()):
            problems[sample.ALL_VOID] = info['seg_map_path']
        for message, file in problems.items():
            report.problems[message].append(file)
    if not dataset.ann_file:  # which would be a list of the images that are meant
        files = partial(fileio.list_dir_or_file, list_dir=False, recursive=True)
        ending = dataset.seg_map_suffix
        stems = {name.removesuffix(dataset.img_suffix)
                 for name in files(images, suffix=dataset.img_suffix)}
        if alone := sorted(name for name in files(masks, suffix=ending)
                           if name.removesuffix(ending) not in stems):
            report.problems[sample.NO_IMAGE] += [f'{masks}/{name}' for name in alone]
