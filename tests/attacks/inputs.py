"""What people hand over: odd files in folders, damaged pictures, formulas, regions; and Ctrl-C."""

import csv
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import time
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import denseclip_mm  # noqa: F401  (first: it repairs what importing mmseg needs)
from denseclip_mm.apis.pictures import load_image
from denseclip_mm.demo.scenes import draw
from denseclip_mm.models.vocabulary import read_class_names

import cv2
import numpy as np
import regex
from mmcv.transforms import LoadImageFromFile
from PIL import Image

_spec = importlib.util.spec_from_file_location('kills', Path(__file__).with_name('kills.py'))
kills = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kills)

Attack = tuple[str, str, str]
SEED = 12
VISIBLE = 4  # of 255: the mean error of a picture that another one was made of
PREDICT = [kills.ZERO_SHOT, 'none', 'in', '--outputs', 'labels']


def attacks(folder: Path, long: bool) -> Iterator[Attack]:
    """Hand over and interrupt.

    Args:
        folder: of what is written.
        long: all counts; else what takes seconds.

    Yields:
        The kind, the case, and the outcome.
    """
    for name in ('files', 'names', 'regions', 'damaged', 'stopped'):
        (folder / name / 'in').mkdir(parents=True)
    yield from odd_files(folder / 'files')
    yield from unseen_names(150 if long else 10)
    yield from formulas(folder / 'names')
    yield from too_many_regions(folder / 'regions')
    yield from damaged_pictures(folder / 'damaged', 150 if long else 10)
    yield from stopped_tools(folder / 'stopped', 10 if long else 1, train=long)


def odd_files(folder: Path) -> Iterator[Attack]:
    """Pipes, devices, links, names: each file is predicted or named, and the rest goes on."""
    inside, scene = folder / 'in', draw(3, 0, 128)[0]
    cv2.imwrite(str(inside / 'a.png'), scene)
    (folder / 'outside').mkdir()
    for path in (os.fsencode(inside) + b'/\xff.png', folder / 'outside/z.png',
                 inside / '\u202e.png', inside / '=1.png', inside / 'tab\there.png'):
        shutil.copy(inside / 'a.png', path)
    os.mkfifo(inside / 'pipe.png')
    os.mkfifo(inside / 'pipe.mp4')
    for name, target in {'endless.png': '/dev/zero', 'endless.mp4': '/dev/zero', 'random.jpg':
                         '/dev/urandom', 'gone.png': 'nowhere', 'self.png': 'self.png',
                         'linked': folder / 'outside', 'circle': inside}.items():
        (inside / name).symlink_to(target)
    (folder / 'outside/back').symlink_to(inside)
    (inside / 'list.mp4').write_text('ffconcat version 1.0\nfile /dev/zero\n')
    (inside / 'playlist.avi').write_text('#EXTM3U\n#EXTINF:1,\n/dev/zero\n')
    code, output = kills.run('predict', PREDICT, folder, limit)
    ended = kills.outcome(code, output)
    named = output.split('error: left out\n')[-1]
    for path in [*sorted(inside.iterdir()), inside / 'linked/z.png']:
        if path.is_dir():
            continue
        there = folder / 'predicted/labels' / path.relative_to(inside).with_suffix('.png')
        shown = str(path.relative_to(folder)).encode(errors='backslashreplace').decode()
        fate = 'fine' if there.is_file() else 'clear' if f'{shown}: ' in named else 'wrong'
        yield 'odd files', repr(path.name), ended if ended in ('trace', 'hang') else fate
    if code is not None:
        with (folder / 'predicted/shares.csv').open(newline='', encoding='utf-8') as stream:
            cells = [cell for row in csv.reader(stream) for cell in row[:2]]
        yield 'odd files', 'shares.csv', 'wrong' if any(map(computed, cells)) else 'fine'


def limit() -> None:
    """Let a process have 4 GB of addresses more than those that it was forked with."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    most = pages * resource.getpagesize() + 2**32
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def computed(cell: str) -> bool:
    """Whether a spreadsheet may compute a cell."""
    return unicodedata.normalize('NFKC', cell)[:1] in ('=', '+', '-', '@', '\t', '\r', '\n')


def formulas(folder: Path) -> Iterator[Attack]:
    """Beginnings of names and of files."""
    begins = ['=', '+', '-', '@', '\t', '\r', '\n', '\x0b', '\x1b', ' =', '\xa0=', '\uff1d',
              '\uff20', '\ufe62', '\u207a']
    scene = draw(3, 0, 128)[0]
    for place, begin in enumerate(begins):
        cv2.imwrite(str(folder / f'in/{begin}{place}.png'), scene)
    names = folder / 'names.txt'
    names.write_text('\n'.join(
        f'{begin.strip() or "x"}{place} grass' for place, begin in enumerate(begins)),
        encoding='utf-8')
    code, output = kills.run('predict', [*PREDICT, '--classes', names.name], folder)
    ended = kills.outcome(code, output)
    if ended == 'fine':
        with (folder / 'predicted/shares.csv').open(newline='', encoding='utf-8') as stream:
            rows = [*csv.reader(stream)]
        cells = [cell for row in rows for cell in row[:2]]
        pictures = {row[0] for row in rows[1:]}
        ended = 'wrong' if len(pictures) != len(begins) or any(
            computed(cell.lstrip()) or computed(cell) for cell in cells) else 'fine'
    yield 'formulas', f'{len(begins)} beginnings', ended


def unseen_names(count: int) -> Iterator[Attack]:
    """Names of nothing to see, alone and behind a name."""
    codes = (*range(0x3400), *range(0xd7a4, 0xe100), *range(0xfe00, 0x10000),
             *range(0xe0000, 0xe01f0))
    unseen = [chr(code) for code in codes if regex.match(r'[\p{C}\p{Z}]', chr(code))]
    unseen += ['\u115f', '\u1160', '\u3164', '\uffa0', '\u2800', '\u034f', '\ufe0f', '\ud83d']
    for each in random.Random(SEED).sample(unseen, count - 8) + unseen[-8:]:
        for names in (['cat', each], ['cat', f'dog;{each}']):
            yield 'unseen names', ascii(names), outcome_of(read_class_names, names)


def outcome_of(function: object, *args: object) -> str:
    """What comes of a call that has to be refused."""
    try:
        function(*args)
    except ValueError as error:
        return 'clear' if '\n' not in str(error) else 'wrong'
    except Exception:
        return 'trace'
    return 'wrong'


def too_many_regions(folder: Path) -> Iterator[Attack]:
    """Labels, boxes and masks without end."""
    cv2.imwrite(str(folder / 'x.png'), draw(3, 0, 128)[0])
    labels = np.arange(300 * 300, dtype=np.uint32).astype(np.uint16).reshape(300, 300)
    cv2.imwrite(str(folder / 'labels.png'), labels)
    cv2.imwrite(str(folder / 'small.png'), labels[:128, :128])
    cv2.imwrite(str(folder / 'large.png'), cv2.resize(draw(3, 0, 128)[0], (300, 300)))
    boxes = [dict(image_id=1, bbox=[place % 60, place // 60 % 60, 3, 3]) for place in range(10**5)]
    (folder / 'boxes.json').write_text(json.dumps(dict(annotations=boxes)))
    (folder / 'list.json').write_text(json.dumps(boxes))
    for picture, words in (
            ('large.png', ['--labels', 'labels.png']), ('x.png', ['--labels', 'small.png']),
            ('x.png', ['--boxes', 'boxes.json']), ('x.png', ['--boxes', 'list.json']),
            ('x.png', ['--masks', *['x.png'] * 3000]), ('x.png', ['--labels', '/dev/zero']),
            ('/dev/zero', ['--labels', 'small.png']), ('x.png', ['--boxes', '/dev/zero'])):
        code, output = kills.run(
            'name_regions', [kills.ZERO_SHOT, 'none', picture, '--names', 'a, b', *words], folder,
            limit)
        ended = kills.outcome(code, output)
        yield 'too many regions', ' '.join([picture, *words[:2]]), (
            'wrong' if ended == 'fine' else ended)


def encodings() -> dict[str, bytes]:
    """A picture in every format that a reader here knows."""
    pixels = draw(3, 0, 128)[0]
    picture, files = Image.fromarray(pixels[..., ::-1]), {}

    def save(name: str, kind: str, mode: str = 'RGB', **options: object) -> None:
        stream = io.BytesIO()
        picture.convert(mode).save(stream, kind, **options)
        files[name] = stream.getvalue()
    for kind in ('PNG', 'BMP', 'GIF', 'PPM', 'TIFF', 'JPEG2000'):
        save(kind, kind)
    for kind in ('JPEG', 'WEBP', 'AVIF'):
        save(kind, kind, quality=95)
    save('JPEG, progressive', 'JPEG', progressive=True, quality=95)
    save('JPEG, CMYK', 'JPEG', 'CMYK', quality=95)
    save('PNG, palette', 'PNG', 'P')
    save('WEBP, lossless', 'WEBP', lossless=True)
    for compression in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg'):
        save(f'TIFF, {compression}', 'TIFF', compression=compression)
    save('TIFF, grey', 'TIFF', 'L', compression='tiff_lzw')
    for name, ending, content, options in (
            ('PNG, 16 bits', '.png', pixels.astype(np.uint16) * 257, []),
            ('TIFF, 16 bits', '.tif', pixels.astype(np.uint16) * 257, []),
            ('TIFF of OpenCV, LZW', '.tif', pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 5]),
            ('TIFF of OpenCV, deflate', '.tif', pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 8]),
            ('PGM, 16 bits', '.pgm', pixels[..., 0].astype(np.uint16) * 257, []),
            ('RAS', '.ras', pixels, [])):
        files[name] = cv2.imencode(ending, content, options)[1].tobytes()
    return files


def damaged(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """A file that is cut, or has bits or bytes changed."""
    how = chance.choice(['cut', 'bit', 'bits', 'zeros', 'noise'])
    changed, place = bytearray(content), chance.randrange(len(content))
    if how == 'cut':
        return f'cut at {place}', content[:place]
    if how in ('bit', 'bits'):
        for _ in range(1 if how == 'bit' else 4):
            changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    else:
        length = min(chance.choice([4, 64]), len(content) - place)
        changed[place:place + length] = (
            bytes(length) if how == 'zeros' else chance.randbytes(length))
    return f'{how} at {place}', bytes(changed)


def damaged_pictures(folder: Path, count: int) -> Iterator[Attack]:
    """A damaged picture is refused, looks as it did, or is one to all readers.

    Most formats have no check sums, so a changed byte may be other pixels to whoever reads it.
    """
    chance, step, files = random.Random(SEED), LoadImageFromFile(), encodings()
    path = folder / 'picture'
    right = {}
    for name, content in files.items():
        path.write_bytes(content)
        right[name] = load_image(path, step)['img']
    for number in range(count):
        name = list(files)[number % len(files)]
        case, content = damaged(files[name], chance)
        path.write_bytes(content)
        try:
            given = load_image(path, step)['img']
        except ValueError as error:
            yield 'damaged pictures', f'{name}, {case}', (
                'clear' if len(str(error).splitlines()) == 1 else 'wrong')
            continue
        with warnings.catch_warnings(action='ignore'):
            try:
                other = np.asarray(Image.open(path).convert('RGB'))[..., ::-1]
            except Exception:
                other = None
        fine = unlike(given, right[name]) <= VISIBLE or (
            other is not None and unlike(given, other) <= VISIBLE)
        yield 'damaged pictures', f'{name}, {case}', 'fine' if fine else 'wrong'


def unlike(first: np.ndarray, second: np.ndarray) -> float:
    """How far two pictures are from each other."""
    return float('inf') if first.shape != second.shape else float(
        np.abs(first.astype(int) - second).mean())


def stopped_tools(folder: Path, count: int, train: bool) -> Iterator[Attack]:
    """SIGINT and SIGTERM at any time end a tool in one line; what is there is whole."""
    chance = random.Random(SEED)
    for number in range(40):
        cv2.imwrite(str(folder / f'in/{number}.png'), draw(3, number, 128)[0])
    tools = [('predict', PREDICT[:3], folder / 'predicted/classes.json')]
    for workers in (0, 2) if train else ():
        (folder / f'train{workers}.py').write_text(
            kills.TRAINING.replace('WORKERS', str(workers)) + 'train_cfg.update(max_iters=2000)\n')
        tools.append(('train', [f'train{workers}.py', '--work-dir', f'work{workers}'],
                      folder / f'work{workers}/train{workers}.py'))
    for tool, words, begun in tools:
        for number in range(count):
            shutil.rmtree(begun.parent, ignore_errors=True)
            kind = (signal.SIGINT, signal.SIGTERM)[number % 2]
            process = kills.start(kills.call, tool, words, folder)
            while not begun.is_file() and process.is_alive():
                time.sleep(0.01)
            delay = chance.uniform(0, 2)
            process.join(delay)
            if process.is_alive():
                os.kill(process.pid, kind)
            process.join(kills.PATIENCE)
            output = (folder / 'log.txt').read_text(errors='replace')
            last = (output.strip().splitlines() or [''])[-1]
            ended = 'hang' if process.is_alive() else 'trace' if 'Traceback' in output else (
                'clear' if last.startswith('stopped: ') else
                'fine' if process.exitcode == 0 else 'wrong')
            for path in begun.parent.rglob('*.png'):
                Image.open(path).load()
            yield 'stopped tools', f'{" ".join(map(str, words))}, {kind.name} at {delay:.2f}', ended
