"""Killed runs, full disks, damaged checkpoints, odd pictures."""

import contextlib
import importlib.util
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import denseclip_mm  # noqa: F401  (first: it repairs what importing mmseg needs)
from denseclip_mm.demo.scenes import draw
from denseclip_mm.engine import WholeFileBackend
from denseclip_mm.files import read_tensors

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ZERO_SHOT = ROOT / 'configs/demo/zero_shot_scenes.py'
PATIENCE = 300  # seconds that a tool may take
KILLS = 10
TRAINING = f"""
_base_ = '{ROOT}/configs/demo/denseclip_fpn_scenes.py'
clip = dict(embed_dim=32, quick_gelu=True,
            vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=8),
            text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2))
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(model=dict(_delete_=True, **clip), pretrained=None, image_size=64),
    neck=dict(text_encoder=dict(model=dict(_delete_=True, **clip), pretrained=None),
              neck=dict(in_channels=[32, 64, 128, 256])))
train_dataloader = dict(batch_size=2, num_workers=WORKERS, dataset=dict(image_size=64, pipeline=[
    dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')]))
val_dataloader = dict(num_workers=WORKERS, persistent_workers=WORKERS > 0,
                      dataset=dict(image_size=64, length=2))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=12, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=1, save_best='mIoU'))
"""
DETECTOR = f"""
_base_ = '{ROOT}/configs/detection/denseclip_mask_rcnn_scenes.py'
train_dataloader = dict(batch_size=2, dataset=dict(ann_file='scene://128/things-0-8.json'))
val_dataloader = dict(dataset=dict(ann_file='scene://128/things-1-2.json'))
val_evaluator = dict(ann_file='scene://128/things-1-2.json')
test_dataloader, test_evaluator = val_dataloader, val_evaluator
train_cfg = dict(max_iters=12, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=1, save_best='coco/bbox_mAP'))
"""


def attacks(folder: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """Kill, fill, damage.

    Args:
        folder: of what is written.
        long: all counts; else what takes seconds.

    Yields:
        The kind, the case, and the outcome: 'fine', 'clear', 'trace', 'wrong' or 'hang'.
    """
    torch.set_num_threads(1)
    yield from killed_writers(folder / 'writers', 200 if long else 10)
    yield from odd_pictures(folder / 'pictures')
    for workers in (0, 1, 2) if long else (0, ):
        work = folder / f'train{workers}'
        work.mkdir()
        (work / 'config.py').write_text(TRAINING.replace('WORKERS', str(workers)))
        if not long:
            (work / 'config.py').open('a').write('train_cfg.update(max_iters=2)\n')
        code, output = run('train', ['config.py', '--work-dir', 'unbroken'], work)
        assert code == 0, output
        yield from damaged_checkpoints(work, long)
        yield from full_disks(work, long)
        if long:
            other = f'train_dataloader.num_workers={(workers + 1) % 3}'
            yield from killed_trainings(work, KILLS, ['--cfg-options', other])
    if long and importlib.util.find_spec('mmdet'):
        work = folder / 'detector'
        work.mkdir()
        (work / 'config.py').write_text(DETECTOR)
        code, output = run('train', ['config.py', '--work-dir', 'unbroken'], work)
        assert code == 0, output
        yield from killed_trainings(work, KILLS // 2, [])


def killed_writers(folder: Path, count: int) -> Iterator[tuple[str, str, str]]:
    """A process writes the same file again and again; whenever it is killed, the file is whole."""
    chance = random.Random(0)
    target = folder / 'iter_1.pth'
    WholeFileBackend().put(bytes(1_000_000), target)
    for number in range(count):
        process = start(write_forever, target)
        time.sleep(chance.uniform(0.02, 0.1))
        process.kill()
        process.join()
        content = target.read_bytes()
        whole = len(content) == 1_000_000 and len(set(content)) == 1
        yield 'kills of a writer', str(number), 'fine' if whole else 'wrong'


def write_forever(target: Path) -> None:
    """Write a file of one byte's repetitions, another one each time."""
    while True:
        for value in range(256):
            WholeFileBackend().put(bytes([value]) * 1_000_000, target)


def killed_trainings(work: Path, count: int,
                     options: list[str]) -> Iterator[tuple[str, str, str]]:
    """A killed and resumed training has the weights of the unbroken one, to the bit.

    Half of the kills come at a random time, half inside of saving.

    Args:
        work: folder of the config and of the unbroken training.
        count: of kills.
        options: of the resumed run, which change nothing: another number of data workers.

    Yields:
        As :func:`attacks`.
    """
    chance = random.Random(0)
    began = time.monotonic()
    code, output = run('train', ['config.py', '--work-dir', 'again', *options], work)
    seconds = time.monotonic() - began
    assert code == 0, output
    expected = read_tensors(work / 'unbroken/iter_12.pth')['state_dict']
    assert equal(expected, read_tensors(work / 'again/iter_12.pth')['state_dict'])
    for number in range(count):
        killed = work / f'killed{number}'
        words = ['config.py', '--work-dir', killed.name]
        if number % 2:
            step = chance.randrange(20, 60)
            process = start(call, 'train', words, work, lambda step=step: die_at(step))
            process.join(PATIENCE)
            case = f'at file operation {step}'
        else:
            process = start(call, 'train', words, work)
            while not list(killed.glob('*.pth')) and process.is_alive():
                time.sleep(0.01)
            delay = chance.uniform(0, seconds / 2)
            process.join(delay)
            process.kill()
            process.join()
            case = f'{delay:.2f} s after the first checkpoint'
        left = sorted(path.name for path in killed.glob('*.pth'))
        code, output = run('train', [*words, '--resume', *options], work)
        if code == 1 and not left and 'there is no checkpoint to resume from' in output:
            yield 'kills of a training', case, 'clear'
            continue
        ended = outcome(code, output)
        if ended == 'fine':
            resumed = read_tensors(killed / 'iter_12.pth')['state_dict']
            ended = 'fine' if equal(expected, resumed) else 'wrong'
        yield 'kills of a training', f'{case}, left {left}', ended
        shutil.rmtree(killed)


def die_at(step: int) -> None:
    """Kill this process at its n-th writing, placing or removing of a file."""
    steps = iter(range(1, 1_000_000))

    def dying(function: Callable) -> Callable:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if next(steps) == step:
                if function is Path.write_bytes:  # half of it
                    function(args[0], args[1][:len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return wrapper

    Path.write_bytes = dying(Path.write_bytes)
    os.replace, os.remove, os.rmdir = map(dying, (os.replace, os.remove, os.rmdir))


def damaged_checkpoints(work: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """The newest checkpoint is damaged: the one before is taken, and the damage named."""
    last = max((work / 'unbroken').glob('iter_*.pth'), key=lambda path: path.stat().st_mtime)
    good, chance = last.read_bytes(), random.Random(0)
    damages = {
        'empty': b'', 'a text': b'checkpoint', 'cut by a byte': good[:-1],
        'cut in half': good[:len(good) // 2], 'zeros': bytes(len(good))}
    for _ in range(20 if long else 0):
        place = chance.randrange(len(good) // 2)
        damages[f'cut at {place}'] = good[:place]
    for case, content in damages.items() if long else list(damages.items())[:1]:
        for older in (True, False):
            damaged = work / 'damaged'
            damaged.mkdir()
            if older:
                (damaged / last.name).write_bytes(good)
            (damaged / 'iter_99.pth').write_bytes(content)
            os.utime(damaged / 'iter_99.pth', (time.time() + 9, ) * 2)
            code, output = run('train', ['config.py', '--work-dir', 'damaged', '--resume'], work)
            ended = outcome(code, output)
            if older and (ended != 'fine' or 'skipped: damaged/iter_99.pth' not in output):
                ended = 'wrong'
            if not older and ended == 'fine':
                ended = 'wrong'
            yield 'damaged checkpoints', f'{case}, {"one" if older else "none"} before', ended
            shutil.rmtree(damaged)


def full_disks(work: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """A disk is full while a training saves: one line, and the checkpoint before is left."""
    (before, ) = (work / 'unbroken').glob('iter_*.pth')
    content = before.read_bytes()
    for size in (100_000, len(content) // 2, len(content) - 1) if long else (100_000, ):
        full = work / 'full'
        full.mkdir()
        (full / 'iter_2.pth').write_bytes(content)
        step = read_tensors(before)['meta']['iter']
        code, output = run(
            'train', ['config.py', '--work-dir', 'full', '--resume', '--cfg-options',
                      f'train_cfg.max_iters={step + 2}'], work, lambda size=size: fill(size))
        ended = outcome(code, output)
        left = [path.read_bytes() for path in full.glob('*.pth')]
        yield 'full disks', f'{size} bytes', 'clear' if (
            ended == 'clear' and left == [content]) else 'wrong' if ended == 'fine' else ended
        shutil.rmtree(full)


def fill(size: int) -> None:
    """Let no file of this process grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def odd_pictures(folder: Path) -> Iterator[tuple[str, str, str]]:
    """predict.py reads a picture or names it, and goes on with the rest."""
    (folder / 'in').mkdir(parents=True)
    for height, width in ((1, 300), (300, 1), (2, 2000), (2000, 2), (1, 1)):
        Image.new('RGB', (width, height)).save(folder / f'in/{height}x{width}.png')
    scene = Image.fromarray(draw(3, 0, 128)[0][..., ::-1])
    for kind, ending in dict(JPEG='jfif', GIF='gif', AVIF='avif', JPEG2000='jp2', PPM='ppm',
                             TGA='tga', ICO='ico', WEBP='webp', TIFF='tif').items():
        scene.save(folder / f'in/{kind}.{ending}', kind)
    for mode in ('1', 'L', 'LA', 'P', 'RGBA', 'I;16'):
        scene.convert('L' if mode == 'I;16' else mode).convert(mode).save(
            folder / f'in/mode {mode}.png')
    scene.convert('CMYK').save(folder / 'in/mode CMYK.jpg')
    for name, content in {
            'heif.heic': b'\0\0\0\x18ftypheic' + bytes(99), 'drawing.svg': b'<svg/>',
            'empty.png': b'', 'text.jpg': b'text', 'cut.bmp': b'BM' + bytes(20)}.items():
        (folder / 'in' / name).write_bytes(content)
    code, output = run('predict', [ZERO_SHOT, 'none', 'in', '--outputs', 'labels'], folder)
    ended = outcome(code, output)
    named = output.split('error: left out\n')[-1]
    for path in sorted((folder / 'in').iterdir()):
        there = folder / 'predicted/labels' / f'{path.stem}.png'
        if there.is_file():
            size = Image.open(path).size
            yield 'odd pictures', path.name, 'fine' if Image.open(there).size == size else 'wrong'
        elif ended in ('trace', 'hang'):
            yield 'odd pictures', path.name, ended
        else:
            yield 'odd pictures', path.name, 'clear' if f'in/{path.name}: ' in named else 'wrong'


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal to the bit."""
    return first.keys() == second.keys() and all(
        np.array_equal(first[key].numpy(), second[key].numpy()) for key in first)


def start(function: Callable, *args: Any) -> BaseProcess:
    """A process of its own, which need not import anything anew."""
    process = get_context('fork').Process(target=function, args=args)
    process.start()
    return process


def run(tool: str, words: list[Any], folder: Path,
        before: Callable[[], None] = lambda: None) -> tuple[int | None, str]:
    """A tool in a process of its own: its exit code, None if it hangs, and its output."""
    process = start(call, tool, words, folder, before)
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        return None, ''
    return process.exitcode, (folder / 'log.txt').read_text(errors='replace')


def call(tool: str, words: list[Any], folder: Path,
         before: Callable[[], None] = lambda: None) -> None:
    """Run a tool in this process, as from a command line in ``folder``, and end the process."""
    with (folder / 'log.txt').open('w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, 'w', closefd=False, errors=errors)
                              for stream, errors in ((1, 'strict'), (2, 'backslashreplace')))
    os.chdir(folder)
    spec = importlib.util.spec_from_file_location('tool', ROOT / f'tools/{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before()
    code = 0
    try:
        module.main([str(word) for word in words])
    except SystemExit as stop:  # as Python ends with it
        code = int(stop.code is not None and stop.code != 0)
        if isinstance(stop.code, str):
            sys.stderr.write(f'{stop.code}\n')
    except BaseException:
        code = 1
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def outcome(code: int | None, output: str) -> str:
    """What came of a tool."""
    if code is None:
        return 'hang'
    if 'Traceback' in output:
        return 'trace'
    if code == 0:
        return 'fine'
    return 'clear' if 'error: ' in output.strip().splitlines()[-1] else 'wrong'
