"""Configs with one mistake each, against every tool that reads one.

Left out are options that mmengine and mmseg take and never read: those of env_cfg and IoUMetric.
"""

import importlib.util
import os
import random
import shutil
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import denseclip_mm  # noqa: F401  (first: it repairs what importing mmseg needs)
from denseclip_mm.files import read_state_dict

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds that a tool may take
GONE = object()  # a key that is deleted
SIZE, CLASSES = 64, ['sky', 'road']
CLIP = dict(embed_dim=32, quick_gelu=True,
            vision_cfg=dict(image_size=SIZE, layers=[1, 1, 1, 1], width=8),
            text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2))
LOADING = [dict(type=step) for step in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')]

# Keys and wrong values. Each name is a line of the table; what is under MEANT may be so.
WHOLE = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg',
         'test_cfg', 'optim_wrapper', 'val_evaluator', 'test_evaluator', 'default_hooks',
         'custom_hooks', 'param_scheduler', 'test_pipeline', 'visualizer', 'vis_backends',
         'env_cfg', 'log_processor', 'log_level', 'default_scope', 'work_dir', 'tta_model',
         'randomness', 'auto_scale_lr')
NECK, HEAD, DATA = 'model.neck', 'model.decode_head', 'train_dataloader.dataset'
CHANGES: dict[str, tuple[str, Any]] = {f'{key} {kind}': (key, value) for kind, entries in {
    'misspelt': {
        'model.type': 'EncodrDecoder', 'model.backbone.type': 'ClipResNet', f'{NECK}.type': 'Neck',
        f'{NECK}.text_encoder.type': 'CLIPTextTowr', f'{NECK}.prompt.type': 'LearntContext',
        f'{NECK}.context_decoder.type': 'ContextDecodr', f'{NECK}.neck.type': 'FPM',
        f'{HEAD}.type': 'FPNHeads', f'{HEAD}.loss_decode.type': 'CrossEntropy',
        'model.data_preprocessor.type': 'SegPreProcessor', f'{DATA}.type': 'ADE20k',
        f'{DATA}.pipeline.0.type': 'LoadImage', 'train_dataloader.sampler.type': 'Infinite',
        'custom_hooks.0.type': 'CheckClassHook', 'default_hooks.logger.type': 'LogerHook',
        'optim_wrapper.type': 'OptimWrap', 'optim_wrapper.optimizer.type': 'AdamV',
        'param_scheduler.0.type': 'LinearLr', 'train_cfg.type': 'IterLoop',
        'val_evaluator.type': 'IouMetric', 'visualizer.type': 'SegVisualizer',
        'default_scope': 'mmsegm'},
    'unknown': {
        'model.neckk': dict(type='FPN'), 'model.backbone.imagesize': 64,
        f'{NECK}.gama': 1.0, f'{NECK}.prompt.num_contexts': 8, f'{NECK}.neck.num_out': 4,
        f'{NECK}.context_decoder.widths': 64, f'{HEAD}.num_class': 2, f'{DATA}.data_rot': 'data',
        f'{DATA}.pipeline.1.reduce_zero': True, 'train_dataloader.batchsize': 2,
        'custom_hooks.0.strict': True, 'default_hooks.checkpoint.intervals': 2,
        'optim_wrapper.optimizer.learning_rate': 0.1, 'param_scheduler.0.ends': 3,
        'train_cfg.max_iter': 2},
    'of a wrong type': {
        'model': 'EncoderDecoder', 'model.backbone': None, NECK: ['FPN'],
        f'{NECK}.neck.in_channels': 64, f'{NECK}.class_names': 3, f'{NECK}.prompt': 'CoOp',
        f'{NECK}.score_map_index': '3', f'{HEAD}.num_classes': '2', f'{HEAD}.in_index': 'all',
        'model.data_preprocessor.size': 64, 'model.data_preprocessor.mean': 'clip',
        'train_dataloader': ['x'], DATA: None, f'{DATA}.data_root': 7,
        f'{DATA}.data_prefix': 'images', f'{DATA}.metainfo': CLASSES, f'{DATA}.pipeline': 'load',
        'train_dataloader.batch_size': 'two', 'train_dataloader.num_workers': -1,
        'val_dataloader': 'val', 'optim_wrapper': 'AdamW', 'optim_wrapper.optimizer.lr': 'fast',
        'param_scheduler': 'poly', 'default_hooks': ['LoggerHook'], 'custom_hooks': 'all',
        'default_hooks.logger.interval': 'often', 'train_cfg': 4, 'train_cfg.max_iters': 'four',
        'val_evaluator': 'mIoU', 'test_evaluator': 5, 'env_cfg': 'fork', 'visualizer': 1,
        'randomness': 7, 'test_pipeline': 'load', 'custom_imports': 'denseclip',
        'custom_imports.imports': ['denseclip_m'], 'log_level': 'LOUD', 'load_from': 3,
        'log_processor': 'by_iter', 'tta_model': 2, 'vis_backends': 1, 'work_dir': 5},
    'wrong': {
        f'{NECK}.neck.in_channels': [32, 64, 128, 9], f'{NECK}.score_map_index': 0,
        f'{HEAD}.in_channels': [9] * 4, f'{HEAD}.in_index': [0, 1, 2, 7],
        f'{HEAD}.num_classes': 3, 'model.auxiliary_head.num_classes': 1,
        'model.auxiliary_head.in_index': 3, 'model.backbone.image_size': 0,
        'model.data_preprocessor.size': None, f'{NECK}.class_names': ['sky'],
        f'{NECK}.context_decoder.num_heads': 5, f'{DATA}.data_root': 'nowhere',
        f'{DATA}.data_prefix.img_path': 'pictures', f'{DATA}.metainfo.classes': ['sky'],
        'model.backbone.pretrained': 'nowhere.pt', f'{NECK}.prompt.num_context': 90,
        'load_from': 'nowhere.pth', 'param_scheduler.0.end': -3},
    'None': dict.fromkeys((*WHOLE, f'{DATA}.pipeline', HEAD, NECK)),
    'deleted': dict.fromkeys((
        *WHOLE, 'custom_imports', 'load_from', 'resume', 'model.type', 'model.backbone',
        f'{NECK}.prompt', f'{NECK}.class_names', f'{DATA}.type', f'{HEAD}.num_classes',
        f'{DATA}.pipeline', 'optim_wrapper.optimizer', 'optim_wrapper.optimizer.type'), GONE),
}.items() for key, value in entries.items()}
TEXTS = {  # what is written instead of the config, or after it
    'a bracket that is not closed': 'model = dict(',
    'a quote that is not closed': "load_from = 'x",
    'a line that is indented': '  load_from = None',
    'an unknown name': 'model.update(neck=NECK)',
    'a division by zero': 'load_from = 1 / 0',
    'a base that is not there': "_base_ = './missing.py'",
    'a base of no config': "_base_ = './names.txt'",
    'a base of mmseg that is not there': "_base_ = 'mmseg::missing.py'",
    'a base that is a number': '_base_ = 3',
    'a circle of bases': "_base_ = './circle.py'",
    'its own base': "_base_ = './config.py'",
    'two bases with one key': "_base_ = ['./good.py', './again.py']",
    'a base variable that is not there': "_base_ = './good.py'\nload_from = _base_.missing",
    'a base key that is no dict': "_base_ = './good.py'\nload_from = dict(a=1)\nresume = dict(b=2)",
    'a reserved key': "filename = 'x'",
    'an import of a module that is not there': 'import denseclip_m',
    'an empty file': '',
    'a text': 'This is no config.',
    'bytes': '\0\1\2',
}
WORDS = {  # of the command line
    'an option without a value': ['--cfg-options', 'model.neck.gamma'],
    'an option with an open bracket': ['--cfg-options', 'model.neck.gamma=[1'],
    'an option inside a number': ['--cfg-options', 'resume.a.b=1'],
    'an option past a list': ['--cfg-options', 'custom_hooks.7.type=x'],
    'an option that names no number': ['--cfg-options', 'custom_hooks.first.type=x'],
    'a path with a comma': ['--cfg-options', f'{DATA}.data_root=a,b',
                            'test_dataloader.dataset.data_root=a,b'],
}
MEANT = ('test_', 'tta_', 'vis_', 'resume', 'log_', 'load_from deleted', 'randomness deleted',
         'auto_scale_lr', 'visualizer None', 'visualizer deleted', 'work_dir None', 'work_dir del',
         'default_hooks None', 'default_hooks deleted', 'custom_hooks None', 'custom_hooks deleted',
         'param_scheduler None', 'param_scheduler deleted', 'env_cfg deleted', 'default_scope None',
         'default_scope deleted', 'custom_imports deleted')  # what train.py may take
READ = {  # what the tools read of the good config, and so may not overlook
    'train': ('model', 'train_dataloader', 'train_cfg', 'val_', 'optim_wrapper', 'param_scheduler',
              'default_hooks', 'custom_hooks', 'custom_imports', 'default_scope', 'load_from'),
    'test': ('model', 'test_dataloader', 'test_evaluator', 'custom_imports', 'custom_hooks'),
    'predict': ('model', 'test_dataloader.dataset.', 'custom_imports'),
    'check_dataset': ('model.neck.class_names', 'train_dataloader.dataset')}
UNREAD = ('.train_cfg', '.test_cfg', 'backbone.model.text_cfg', 'text_encoder.model.vision_cfg')
LONG = ('max_iters', 'val_interval', 'interval', 'batch_size', 'num_workers', 'width', 'layers',
        'image_size', 'size', 'vocab_size', 'context_length', 'heads', 'num_layers', 'embed_dim',
        'out_channels', 'channels', 'num_outs')  # of which much takes long, as was asked for
SHORT = ('an unknown name', 'model.neck.prompt.type misspelt', 'model.neck.prompt.num_contexts '
         'unknown', 'model.neck.neck.in_channels wrong', 'val_dataloader None')


def attacks(folder: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """Run every tool on every faulty config.

    Args:
        folder: of what is written.
        long: all cases; else a few of train.py.

    Yields:
        The tool, the case, and the outcome: 'fine', 'clear', 'trace', 'wrong' or 'hang'.
    """
    torch.set_num_threads(1)
    good = make_good(folder)
    code, output = run('train', [good], folder)
    assert code == 0, output
    cases = {**CHANGES, **TEXTS, **WORDS}
    for name in cases if long else SHORT:
        path, words = folder / 'config.py', []
        if name in WORDS:
            path, words = good, WORDS[name]
        elif name in TEXTS:
            path.write_text(TEXTS[name])
        else:
            write(change(good, *CHANGES[name]), path)
        for tool, call in calls(path, folder, words).items() if long else [('train', [path])]:
            yield f'configs, {tool}.py', name, outcome(*run(tool, call, folder), needed=(
                tool == 'train' and not name.startswith(MEANT)))
    yield from fuzz(folder, good, 150 if long else 8)


# --- random changes ------------------------------------------------------------------------------


def fuzz(folder: Path, good: Path, number: int) -> Iterator[tuple[str, str, str]]:
    """Change the good config at random, and train, test, predict or check the data by it.

    A run that ends well is silently wrong if a key that was misspelt is named in no line of it, or
    if it leaves not what it is for: a checkpoint of finite weights, a figure, a picture each.
    """
    draw = random.Random(0)
    whole = shutil.copytree(folder / 'work', folder / 'whole')  # has the checkpoint
    for index in range(number):
        cfg = Config.fromfile(good).to_dict()
        tool = draw.choice(['train', 'train', 'test', 'predict', 'check_dataset'])
        told = mutate(cfg, draw, READ[tool])
        path, out = folder / 'fuzzed.py', folder / 'fuzzed'
        shutil.rmtree(out, ignore_errors=True)
        cfg['work_dir'] = str(out)
        write(cfg, path)
        checkpoint = [] if tool in ('train', 'check_dataset') else [whole / 'iter_2.pth']
        more = [folder / 'data/images', '--out', out] if tool == 'predict' else []
        code, output = run(tool, [path, *checkpoint, *more], folder)
        ended = outcome(code, output, needed=False)
        if ended == 'fine' and not (
                _did(tool, out, output) and told.partition(' misspelt ')[2] in output):
            ended = 'wrong'
        yield 'fuzz of configs', f'{index}, {tool}.py: {told}', ended


def mutate(cfg: dict[str, Any], draw: random.Random, read: tuple[str, ...]) -> str:
    """Change one entry of a config whose name begins with one of these; says how."""
    entries = [each for each in _entries(cfg)
               if each[2].startswith(read) and not any(part in each[2] for part in UNREAD)]
    entry, key, name = draw.choice(entries)
    value, kind = entry[key], draw.choice(['deleted', 'retyped', 'negated', 'huge', 'swapped',
                                           'misspelt'])
    if kind == 'misspelt' and isinstance(key, str) and len(key) > 3:
        place = draw.randrange(1, len(key) - 1)
        typo = key[:place] + key[place + 1] + key[place] + key[place + 2:]
        entry[typo] = entry.pop(key)
        return f'{name} misspelt {typo}' if typo != key else f'{name} as it was'
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ('negated', 'huge') and number and not (kind == 'huge' and key in LONG):
        entry[key] = -value if kind == 'negated' else value * 10**9 or 10**9
    elif kind == 'swapped':
        other, theirs, their_name = draw.choice(entries)
        if not (f'{name}.'.startswith(f'{their_name}.') or f'{their_name}.'.startswith(f'{name}.')):
            entry[key], other[theirs] = other[theirs], entry[key]
            return f'{name} swapped with {their_name}'
    elif kind == 'retyped':
        entry[key] = draw.choice([each for each in (None, 'x', 3, 0.5, [], {}, [value], True)
                                  if type(each) is not type(value)])
    else:
        kind = 'deleted'
        del entry[key]
    return f'{name} {kind}'


def _entries(value: Any, outer: str = '') -> Iterator[tuple[Any, Any, str]]:
    """Every place of a config: what it is in, its key there, and its keys from the top."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key, f'{outer}{key}'
        if isinstance(each, dict | list):
            yield from _entries(each, f'{outer}{key}.')


def _did(tool: str, out: Path, output: str) -> bool:
    """Whether a tool left what it is for."""
    if tool == 'train':
        files = sorted(out.glob('*_*.pth'))
        return bool(files) and all(
            value.isfinite().all() for value in read_state_dict(files[-1])[0].values())
    if tool == 'predict':
        return len([*out.rglob('*.png')]) >= 4
    return 'aAcc' in output if tool == 'test' else bool(output)


def make_good(folder: Path) -> Path:
    """A config without mistakes, of a tiny model and four pictures."""
    rng = np.random.default_rng(0)
    for split in ('images', 'masks'):
        (folder / 'data' / split).mkdir(parents=True)
    for index in range(4):
        for split, pixels in (('images', rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)),
                              ('masks', rng.integers(0, 2, (SIZE, SIZE), np.uint8))):
            Image.fromarray(pixels).save(folder / f'data/{split}/{index}.png')
    cfg = Config.fromfile(ROOT / 'configs/demo/denseclip_fpn_scenes.py')
    for tower in (cfg.model.backbone, cfg.model.neck.text_encoder):
        tower.model, tower.pretrained = CLIP, None
    cfg.model.data_preprocessor.size = (SIZE, SIZE)
    cfg.model.backbone.image_size = SIZE
    cfg.model.neck.class_names = CLASSES
    cfg.model.neck.neck.in_channels = [32, 64, 128, 256]
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(num_classes=len(CLASSES), sampler=None)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].batch_size = 2
        cfg[key].dataset = dict(
            type='BaseSegDataset', data_root=str(folder / 'data'), metainfo=dict(classes=CLASSES),
            img_suffix='.png', data_prefix=dict(img_path='images', seg_map_path='masks'),
            pipeline=LOADING)
    cfg.test_pipeline = LOADING
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2)]
    cfg.default_hooks.checkpoint.interval = 2
    cfg.work_dir = str(folder / 'work')
    write(cfg.to_dict(), folder / 'good.py')
    write(cfg.to_dict(), folder / 'again.py')
    (folder / 'circle.py').write_text("_base_ = './config.py'")
    (folder / 'names.txt').write_text('a')
    return folder / 'good.py'


def write(cfg: dict[str, Any], path: Path) -> None:
    """A config as assignments."""
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in cfg.items()))


def change(good: Path, key: str, value: Any) -> dict[str, Any]:
    """The good config with another value of a key, or without it."""
    cfg = Config.fromfile(good).to_dict()
    *outer, last = [int(word) if word.isdecimal() else word for word in key.split('.')]
    entry = cfg
    for word in outer:
        entry = entry[word]
    if value is GONE:
        del entry[last]
    else:
        entry[last] = value
    return cfg


def calls(config: Path, folder: Path, words: list[str]) -> dict[str, list[Any]]:
    """The words for each tool."""
    checkpoint = folder / 'work/iter_2.pth'
    every = {'train': [config, *words], 'test': [config, checkpoint, *words],
             'check_dataset': [config, *words]}
    return every if words else {
        **every,
        'predict': [config, checkpoint, folder / 'data/images', '--out', folder / 'predicted'],
        'export': [config, checkpoint, '--out', folder / 'out', '--formats', 'pth']}


def run(tool: str, words: list[Any], folder: Path) -> tuple[int | None, str]:
    """A tool in a process of its own, which need not import anything anew: its code and output."""
    log = folder / 'log.txt'
    process = get_context('fork').Process(target=_call, args=(tool, words, folder, log))
    process.start()
    process.join(PATIENCE)
    process.kill()
    return process.exitcode, log.read_text(errors='replace')


def _call(tool: str, words: list[Any], folder: Path, log: Path) -> None:
    with log.open('w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, 'w', closefd=False) for stream in (1, 2))
    os.chdir(folder)
    spec = importlib.util.spec_from_file_location('tool', ROOT / f'tools/{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(word) for word in words])


def outcome(code: int | None, output: str, needed: bool) -> str:
    """What came of it; a run that ends well although the mistake matters to it is wrong."""
    if code in (None, -9):  # not yet ended, or killed by now
        return 'hang'
    if 'Traceback' in output:
        return 'trace'
    if code == 0:
        return 'wrong' if needed else 'fine'
    errors = [line for line in output.splitlines() if 'error: ' in line]
    return 'clear' if errors and 'weights_only' not in output else 'wrong'
