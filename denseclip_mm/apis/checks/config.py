"""Reading a config for the tools, with the mistakes that cost hours named at once."""

import os
import warnings
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import find_spec
from inspect import signature
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

from denseclip_mm.apis.checks.mistakes import did_you_mean, entries_of
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_detector import NO_MMDET
from denseclip_mm.models.vocabulary import clean_name

from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmseg.apis import init_model
from mmseg.registry import DATASETS
from torch import nn

_KINDS = {  # of what mmengine takes for granted
    dict: ('model', 'optim_wrapper', 'default_hooks', 'env_cfg', 'randomness', 'visualizer',
           'log_processor', 'tta_model', 'train_dataloader', 'val_dataloader', 'test_dataloader',
           'train_cfg', 'val_cfg', 'test_cfg'),
    list: ('custom_hooks', 'vis_backends', 'test_pipeline', 'tta_pipeline'),
    str: ('work_dir', 'load_from', 'default_scope'),
}
_NORMALISATION = dict(mean=(-1e6, 1e6), std=(1e-6, 1e6))  # what pixels of up to 16 bits may have
_ENTRIES = {*signature(Runner.__init__).parameters, *chain(*_KINDS.values()), 'custom_imports'}


def load_config(path: str | Path | Config, *, options: dict[str, Any] | None, launcher: str,
                work_dir: str | None) -> Config:
    """Read a config as mmseg's tools do.

    Args:
        path: config file, or one of a package as in ``_base_``:
            ``denseclip_mm::demo/zero_shot_scenes.py``; or what was read of it, of which a copy is
            taken.
        options: what ``--cfg-options`` overrides.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        work_dir: where logs and checkpoints go; by default the config's own, or
            ``work_dirs/<name of the config>``.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: if it is another kind of file or neither file nor ``Config``, an entry cannot be
            of that kind, mean or standard deviation of the pixels leave nothing of a picture, an
            option is of no entry and spelt nearly like one, or the config has such an entry in
            place of one.

    Examples:
        >>> cfg = load_config('configs/demo/zero_shot_scenes.py', launcher='none', work_dir=None,
        ...                   options={'model.decode_head.tau': 0.05})
        >>> cfg.model.decode_head.tau, cfg.work_dir
        (0.05, 'work_dirs/zero_shot_scenes')
    """
    cfg = deepcopy(path) if isinstance(path, Config) else Config.fromfile(_checked_path(path))
    cfg.launcher = launcher
    known = _ENTRIES.union(cfg)
    for entry in {key.partition('.')[0] for key in options or {}} - known:
        if meant := did_you_mean(entry, known, cutoff=0.8):
            raise ValueError(f'there is no {entry!r} in the config{meant}')
    cfg.merge_from_dict(options or {})
    for entry in cfg:  # others are variables, which may be named anything
        if entry not in _ENTRIES and (
                meant := did_you_mean(entry, _ENTRIES.difference(cfg), cutoff=0.9)):
            raise ValueError(f'the config has an entry {entry!r}, which nothing reads{meant}')
    if work_dir is not None:
        cfg.work_dir = work_dir
    _check_kinds(cfg)
    _check_normalisation(cfg)
    if cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(cfg.filename or 'config').stem)
    return cfg


def _checked_path(path: str | Path) -> str:
    if not isinstance(path, str | Path):
        raise ValueError(f'a config is a file or a Config, got a {type(path).__name__}')
    path = str(path)
    if '::' in path:
        path = _config_of_package(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'there is no config {shorten(path, 200)!r} (looked from '
                                f'{Path.cwd()})')
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ValueError(f'{path!r} is no config, which ends with .py, .json, .yaml or .yml')
    return path


def _config_of_package(name: str) -> str:
    try:
        return Config._get_cfg_path(name, '')[0]
    except (AssertionError, ValueError):  # another package, or no folder in the name
        raise ValueError(f'{name!r} is no config of a package, as '
                         'denseclip_mm::demo/zero_shot_scenes.py is one') from None


def _check_kinds(cfg: Config) -> None:
    for kind, keys in _KINDS.items():
        for key in keys:
            if not isinstance(cfg.get(key), kind | None):
                raise ValueError(f'{key} has to be a {kind.__name__}, got {cfg.get(key)!r}')
    cfg.default_scope = cfg.get('default_scope') or 'mmseg'  # as init_model takes it
    if cfg.default_scope == 'mmdet' and find_spec('mmdet') is None:
        raise ValueError(NO_MMDET)
    if cfg.default_scope not in MODELS.children and find_spec(cfg.default_scope) is None:
        raise ValueError(f'default_scope={cfg.default_scope!r} is no package; that of mmseg is '
                         "'mmseg'")


def _check_normalisation(cfg: Config) -> None:
    """Refuse numbers that leave nothing of a picture, wherever a config normalises one."""
    for key, entry in entries_of(cfg._cfg_dict, ''):
        for name, (least, most) in _NORMALISATION.items():
            numbers = entry.get(name) if {'mean', 'std'} <= entry.keys() else None
            if isinstance(numbers, list | tuple) and not all(
                    isinstance(number, int | float) and least <= number <= most
                    for number in numbers):
                raise ValueError(f'{key} has {name}={shorten(str(numbers), 60)}, which leaves '
                                 'nothing of a picture; these are numbers of '
                                 f'{least:g} to {most:,.0f}')


def check_data(cfg: Config, *loaders: str) -> None:
    """Refuse a run whose data are not where the config says.

    Args:
        cfg: the config.
        loaders: dataloaders that the run will use, such as ``train_dataloader``.

    Raises:
        FileNotFoundError: if a folder is missing; says which, and the option that names another.
        ValueError: if an entry is of a kind that it cannot be.
    """
    for loader in loaders:
        outer = (cfg.get(loader) or {}).get('dataset', {})
        for key, dataset in dataset_leaves(f'{loader}.dataset', outer):
            if not isinstance(dataset, dict):
                raise ValueError(f'{key} has to be a dict, got {dataset!r}')
            for name, kind in dict(data_root=str, data_prefix=dict).items():
                if not isinstance(dataset.get(name), kind | None):
                    raise ValueError(f'{key}.{name} has to be a {kind.__name__}, got '
                                     f'{dataset[name]!r}')
            root = dataset.get('data_root')
            folders = [('data_root', root)] if root else []
            folders += [(f'data_prefix.{name}', str(Path(root or '') / folder))
                        for name, folder in (dataset.get('data_prefix') or {}).items()
                        if name in ('img', 'img_path', 'seg_map_path') and '://' not in folder]
            for name, folder in folders:
                if not Path(folder).is_dir():
                    raise FileNotFoundError(
                        f'{loader}: there is no folder {folder!r} (looked from {Path.cwd()}); put '
                        'or link the data there, or name another by --cfg-options '
                        f'{key}.{name}=...')


def dataset_leaves(key: str, dataset: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Datasets inside wrappers such as RepeatDataset and ConcatDataset, by their keys.

    Args:
        key: of the config entry that ``dataset`` is.
        dataset: a dataset's config.

    Examples:
        >>> outer = dict(type='RepeatDataset', times=2, dataset=dict(type='ADE20KDataset'))
        >>> dict(dataset_leaves('train_dataloader.dataset', outer))
        {'train_dataloader.dataset.dataset': {'type': 'ADE20KDataset'}}
    """
    if not isinstance(dataset, dict):  # a mistake, which whoever asks will meet
        yield key, dataset
    elif 'dataset' in dataset:
        yield from dataset_leaves(f'{key}.dataset', dataset['dataset'])
    elif 'datasets' in dataset:
        for index, each in enumerate(dataset['datasets']):
            yield from dataset_leaves(f'{key}.datasets.{index}', each)
    else:
        yield key, dataset


def build_model(cfg: Config, device: str) -> nn.Module:
    """The segmentor or detector of a config, by mmseg or mmdet: random, in evaluation mode.

    Args:
        cfg: the config, kept as the model's ``cfg``.
        device: where it goes.
    """
    if cfg.get('default_scope') != 'mmdet':
        return init_model(cfg, device=device)
    from mmdet.apis import init_detector
    with warnings.catch_warnings(record=True):  # of the weights, which come later
        model = init_detector(deepcopy(cfg), palette='random', device=device)
    model.cfg = cfg  # in which some detectors would have left traces of being built
    return model


def classes_of(model: nn.Module, meta: dict[str, Any]) -> tuple[list[str], list | None]:
    """Names of a model's classes, and their palette where checkpoint or dataset knows it.

    Args:
        model: of :func:`build_model`.
        meta: what the checkpoint says of the dataset (``dataset_meta``).
    """
    outer = (model.cfg.get('test_dataloader') or {}).get('dataset', {})
    _, dataset = next(dataset_leaves('', outer))
    kind = dataset.get('type')
    with DATASETS.switch_scope_and_registry(model.cfg.get('default_scope')) as datasets:
        known = getattr(datasets.get(kind) if isinstance(kind, str) else kind, 'METAINFO', {})
    colour_of = {}
    for source in (known, dataset.get('metainfo', {}), meta):
        classes, palette = (source.get(key) or () for key in ('classes', 'palette'))
        if len(classes) == len(palette):  # else it is of the classes that these took the place of
            colour_of.update(zip(map(clean_name, classes), palette, strict=True))
    neck = getattr(model, 'neck', None)
    if isinstance(neck, PixelTextNeck):
        names = list(neck.class_names)
    else:
        names = list(meta.get('classes') or dataset.get('metainfo', {}).get('classes')
                     or known.get('classes') or ())
        count = getattr(model, 'num_classes', None) or max(  # of a detector: that of its last head
            getattr(module, 'num_classes', 0) for module in model.modules())
        if len(names) != count:
            names = [f'class {index}' for index in range(count)]
    colours = [colour_of.get(clean_name(name)) for name in names]
    return names, None if None in colours else [tuple(map(int, colour)) for colour in colours]
