"""Checkpoints and weights of strangers: text that would run, numbers that are none, sizes."""

import copy
import importlib.util
import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import denseclip_mm  # noqa: F401  (first: it repairs what importing mmseg needs)
from denseclip_mm.apis.checkpoints.load import load_checkpoint
from denseclip_mm.apis.checks.config import build_model, load_config
from denseclip_mm.backbones import CLIPResNet
from denseclip_mm.files import read_state_dict, read_tensors
from denseclip_mm.text import CLIPTextTower, TextEmbeddings

import mmengine.config.config
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner.checkpoint import load_checkpoint as load_by_mmengine
from mmseg.apis import MMSegInferencer, init_model
from yapf.yapflib import yapf_api

HERE = Path(__file__).parent


def _sibling(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, HERE / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


files, kills = _sibling('files'), _sibling('kills')
outcome_of = files.outcome_of
SHORT_RUN = """
train_cfg = dict(max_iters=4, val_interval=100)
default_hooks = dict(
    _delete_=True, loss=dict(type='CheckLossHook'),
    checkpoint=dict(type='ResumableCheckpointHook', by_epoch=False, interval=2))
randomness = dict(seed=0)
"""


def attacks(folder: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """Kind, case and outcome of each attack."""
    torch.set_num_threads(1)
    (folder / 'config.py').write_text(kills.TRAINING.replace('WORKERS', '0') + SHORT_RUN)
    code, output = run('train', [
        'config.py', '--work-dir', 'whole', '--cfg-options', 'train_cfg.max_iters=2'], folder)
    assert code == 0, output
    whole = read_tensors(folder / 'whole/iter_2.pth')
    yield 'fuzzed checkpoints, train.py --resume', 'none', _must(resume(folder, whole))
    yield from texts(folder, whole, long)
    yield from other_kinds(folder, whole, long)
    yield from sizes(folder, long)
    yield from fuzzed(folder, whole, 150 if long else 10)
    yield from normalisations(folder, long)


def run(tool: str, words: list[Any], folder: Path) -> tuple[int | None, str]:
    """A tool in a process of its own, which does not spend its time on the looks of a config."""
    def quick() -> None:
        for module in (mmengine.config.config, yapf_api):  # one stack imports it when it needs it
            module.FormatCode = lambda text, **options: (text, True)
    return kills.run(tool, words, folder, quick)


def _must(outcome: str) -> str:
    """The outcome of what has nothing wrong with it: an error would be another mistake."""
    return outcome if outcome == 'fine' else 'wrong'


def resume(folder: Path, content: Any) -> str:
    """How train.py --resume ends, from this as the only checkpoint."""
    work = folder / 'work'
    work.mkdir(exist_ok=True)
    for old in work.glob('*.pth'):
        old.unlink()
    torch.save(content, work / 'iter_2.pth')
    ended = kills.outcome(*run(
        'train', ['config.py', '--work-dir', 'work', '--resume'], folder))
    if ended != 'fine':
        return ended
    state, meta = read_state_dict(work / 'iter_4.pth')
    is_sound = meta['iter'] == 4 and all(value.isfinite().all() for value in state.values())
    return 'fine' if is_sound else 'wrong'


# --- text that would run -------------------------------------------------------------------------


def _stock_resume(folder: Path, path: Path) -> None:
    """As mmseg's own tools do, of a config without our hooks."""
    cfg = Config.fromfile(folder / 'config.py')
    cfg.update(work_dir=str(folder / 'stock'), load_from=str(path), resume=True, custom_hooks=[],
               experiment_name=f'stock{random.random()}', val_dataloader=None, val_cfg=None,
               val_evaluator=None, default_hooks=dict(checkpoint=dict(
                   type='CheckpointHook', by_epoch=False, interval=100)))
    Runner.from_cfg(cfg).train()


def texts(folder: Path, whole: dict[str, Any], long: bool) -> Iterator[tuple[str, str, str]]:
    """A program in every place where a checkpoint has text, or had it once."""
    mark = folder / 'mark'
    program = f"open({str(mark)!r}, 'w').write('ran')\nmodel = dict(type='EncoderDecoder')\n"
    module = f"custom_imports = dict(imports=['{mark.name}_module'])\nmodel = dict()\n"
    (folder / f'{mark.name}_module.py').write_text(program)
    path = folder / 'text.pth'
    config = str(folder / 'config.py')
    entries: dict[str, Callable[[dict], str]] = {
        'train.py --resume': lambda content: resume(folder, content),
        'Runner.resume': lambda content: outcome_of(lambda: _stock_resume(folder, path)),
        'init_model': lambda content: outcome_of(
            lambda: init_model(config, str(path), device='cpu')),
        'MMSegInferencer': lambda content: outcome_of(
            lambda: MMSegInferencer(None, weights=str(path), device='cpu')),
    }
    if long:
        entries['test.py'] = lambda content: kills.outcome(*run(
            'test', ['config.py', path, '--work-dir', 'tested'], folder))
    for place in (('meta', 'config'), ('meta', 'cfg'), ('message_hub', 'runtime_info', 'cfg'),
                  ('meta', 'dataset_meta', 'classes'), ('meta', 'experiment_name')):
        for kind, text in dict(program=program, module=module, base=(
                f"_base_ = '{folder}/{mark.name}_module.py'\n")).items():
            if not long and (kind != 'program' or place[-1] in ('classes', 'experiment_name')):
                continue
            content = copy.deepcopy(whole)
            _put(content, place, text)
            torch.save(content, path)
            for entry, call in entries.items():
                outcome = call(content)
                if mark.exists():
                    outcome = 'executed'
                    mark.unlink()
                yield 'text in checkpoints', f'{kind} as {".".join(place)} in {entry}', outcome


def _put(content: Any, place: tuple, value: Any) -> None:
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


# --- numbers of other kinds ----------------------------------------------------------------------


def other_kinds(folder: Path, whole: dict[str, Any], long: bool) -> Iterator[tuple[str, str, str]]:
    """Weights that are whole numbers, truth values or complex numbers."""
    kinds = [torch.int16, torch.int32, torch.int64, torch.bool, torch.uint8, torch.uint16,
             torch.complex64] if long else [torch.int64, torch.bool, torch.complex64]
    path, config = folder / 'kind.pth', folder / 'config.py'
    clip = dict(Config.fromfile(config).clip)
    towers = {'visual.': CLIPResNet(model=clip, pretrained=str(path), image_size=64),
              'text.': CLIPTextTower(model=clip, pretrained=str(path))}
    weights = {prefix + key: value for prefix, tower in towers.items()
               for key, value in tower.tower.state_dict().items() if 'position_grid' not in key}
    rows = TextEmbeddings(embed_dim=4, texts=['a', 'b'], path=str(path))
    model = build_model(load_config(str(config), options=None, launcher='none', work_dir=None),
                        'cpu')
    entries: dict[str, tuple[Any, Callable[[], object]]] = {
        'pretrained of the backbone': (weights, towers['visual.'].init_weights),
        'pretrained of the text tower': (weights, towers['text.'].init_weights),
        'TextEmbeddings': (torch.ones(2, 4), rows.init_weights),
        'load_checkpoint': (whole, lambda: load_checkpoint(model, path)),
        "mmengine's load_checkpoint": (whole, lambda: load_by_mmengine(model, str(path))),
    }
    for entry, (content, load) in entries.items():
        for kind in kinds:
            torch.save(_converted(content, kind), path)
            outcome = outcome_of(load)
            yield 'numbers of other kinds', f'{kind}, {entry}', (
                'wrong' if outcome == 'fine' else outcome)


def _converted(content: Any, kind: torch.dtype) -> Any:
    if isinstance(content, dict):
        return {key: _converted(value, kind) if key not in ('optimizer', 'message_hub', 'meta')
                else value for key, value in content.items()}
    is_weight = isinstance(content, torch.Tensor) and content.is_floating_point()
    return content.to(kind) if is_weight else content


# --- sizes ---------------------------------------------------------------------------------------


def sizes(folder: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """Model configs of a folder, one size of which is none, or has no end."""
    local = folder / 'clip'
    local.mkdir()
    keys = dict(vision_cfg=('layers', 'width', 'image_size', 'head_width', 'patch_size'),
                text_cfg=('layers', 'width', 'heads', 'context_length', 'vocab_size', 'mlp_ratio'))
    values = [10**9, 2**70, -1, 0, 1.5, '12', True, math.nan, [10**9] * 4, {}, [[1]]]
    cases = [((part, key), value) for part, names in keys.items() for key in names
             for value in (values if long else values[:2])]
    cases += [(('embed_dim', ), value) for value in values]
    cases += [((part, ), value) for part in keys for value in (3, None, [1], 'RN50')]
    clip = dict(embed_dim=32, vision_cfg=dict(image_size=64, layers=2, width=64, patch_size=16),
                text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2))
    for place, value in cases:
        if place[-1] == 'mlp_ratio' and value == 1.5:
            continue
        config = copy.deepcopy(clip)
        _put(config, place, value)
        (local / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=config)))
        outcome = outcome_of(lambda: CLIPTextTower(model=f'local-dir:{local}'))
        yield 'sizes of a model', f'{".".join(place)}={str(value)[:40]}', (
            'wrong' if outcome == 'fine' else outcome)


# --- fuzz ----------------------------------------------------------------------------------------


def _deep(levels: int, width: int) -> list:
    """Lists in lists; with a width above 1 as many as atoms in the world, of which few are held."""
    inner: list = []
    for _ in range(levels):
        inner = [inner] * width
    return inner


def _circle() -> list:
    circle: list = []
    circle.append(circle)
    return circle


VALUES: dict[str, Any] = {
    'None': None, '-1': -1, '0': 0, '2**70': 2**70, '10**9': 10**9, '1e308': 1e308, 'nan': math.nan,
    'inf': math.inf, 'True': True, 'text': 'x', 'a program': '__import__("os").abort()',
    'bytes': b'\0', '[]': [], '{}': {}, '()': (), 'a list': [None, 1, 'x'], 'a dict': {1: {}},
    '10^12 numbers from one': torch.zeros(1).expand(10**12),
    'nan tensor': torch.full((3, ), math.nan),
    'whole numbers': torch.ones(3, dtype=torch.int64), 'one number': torch.zeros(()),
    'complex': torch.zeros(3, dtype=torch.complex64), 'no numbers': torch.zeros(2, device='meta'),
    'sparse': torch.zeros(2, 2).to_sparse(), '60 levels of 10': _deep(60, 10),
    '150 levels': _deep(150, 1), 'a circle': _circle(),
}


def fuzzed(folder: Path, whole: dict[str, Any], count: int) -> Iterator[tuple[str, str, str]]:
    """One field of a training's checkpoint is another thing, or gone."""
    draw, path = random.Random(0), folder / 'fuzzed.pth'
    for number in range(count):
        content = copy.deepcopy(whole)
        inner, place = content, []
        while isinstance(inner, dict | list) and inner and (not place or draw.random() < 0.7):
            place.append(draw.choice([*inner] if isinstance(inner, dict) else range(len(inner))))
            outer, inner = inner, inner[place[-1]]
        value = draw.choice([*VALUES, 'gone'])
        if value == 'gone':
            del outer[place[-1]]
        else:
            outer[place[-1]] = VALUES[value]
        torch.save(content, path)
        case = f'{number}: {".".join(map(str, place))} is {value}'
        for reader in (read_state_dict, lambda path: CheckpointLoader.load_checkpoint(
                str(path), 'cpu')):
            yield 'fuzzed checkpoints, read', case, outcome_of(
                lambda reader=reader: reader(path))
        yield 'fuzzed checkpoints, train.py --resume', case, resume(folder, content)


# --- pixels --------------------------------------------------------------------------------------


def normalisations(folder: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """Mean and standard deviation that leave nothing of a picture, in every tool."""
    tools = {'train': ['--work-dir', 'none'], 'test': ['whole/iter_2.pth'], 'check_dataset': [],
             'predict': ['whole/iter_2.pth', files.ROOT / 'docs/images/demo.png', '--out', 'none'],
             'export': ['whole/iter_2.pth', '--out', 'none']}
    for tool, words in tools.items() if long else [('train', tools['train'])]:
        for key, values in dict(std=('[0, 1, 1]', '[nan] * 3', '[inf] * 3', '[-1] * 3', '[1e-50]'),
                                mean=('[inf, 0, 0]', '[nan] * 3', '[1e30] * 3')).items():
            for value in values if long else values[:2]:
                (folder / 'pixels.py').write_text(
                    f"_base_ = './config.py'\nmodel = dict(data_preprocessor=dict({key}=" + (
                        value.replace('nan', "float('nan')").replace('inf', "float('inf')"))
                    + '))\n')
                outcome = kills.outcome(*run(tool, ['pixels.py', *words], folder))
                yield 'pixels divided by nothing', f'{tool}.py, {key}={value}', (
                    'wrong' if outcome == 'fine' else outcome)
