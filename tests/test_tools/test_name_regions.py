"""The tool that names regions: forms of input, what it writes, mistakes in one line."""

import json
from pathlib import Path

from denseclip_mm.demo.things import draw_things

import cv2
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/demo/zero_shot_scenes.py'
IMAGE, MASKS, SHAPES = draw_things(5, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(IMAGE).save(tmp_path / 'x.png')
    labels = np.full(MASKS.shape[1:], 255, np.uint8)
    for number, mask in enumerate(MASKS):
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f'{number}.png')
        labels[mask] = number
    Image.fromarray(labels).save(tmp_path / 'labels.png')
    boxes = [[int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
             for y, x in map(np.nonzero, MASKS)]
    (tmp_path / 'coco.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='x.png')],
        annotations=[dict(image_id=1, bbox=box) for box in boxes])))
    return tmp_path


def name(succeed, folder: Path, *words: str) -> tuple[str, dict]:
    output = succeed('name_regions', CONFIG, 'none', 'x.png', '--names', ', '.join(SHAPES),
                     '--one-to-one', '--out', 'out', *words, cwd=folder)
    return output, json.loads((folder / 'out/regions.json').read_text())


@pytest.mark.parametrize('words', [
    ['--masks', '0.png', '1.png', '2.png', '3.png'],
    ['--labels', 'labels.png'],
    ['--labels', 'labels.png', '--how', 'colour', '--search-colours'],
])
def test_each_form(words: list[str], folder: Path, succeed) -> None:
    output, written = name(succeed, folder, *words)
    assert [region['name'] for region in written['regions']] == SHAPES
    for number, (region, mask) in enumerate(zip(written['regions'], MASKS, strict=True)):
        y, x = np.nonzero(mask)
        assert region['box'] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert list(region['scores']) == SHAPES
        score = region['scores'][SHAPES[number]]
        assert f'| {number} | {SHAPES[number]} | {score:.3f} |' in output
    assert ('opacity 1.00' in output) == ('--search-colours' in words)
    assert cv2.imread(str(folder / 'out/regions.png')).shape == (512, 512, 3)


def test_a_search_at_one_opacity(folder: Path, succeed) -> None:
    output, _ = name(succeed, folder, '--labels', 'labels.png', '--how', 'colour',
                     '--search-colours', '--opacity', '0.9')
    assert 'opacity 0.90' in output


def test_boxes(folder: Path, succeed) -> None:
    """Of COCO, by the name of the picture; they reach as far as the masks do."""
    _, written = name(succeed, folder, '--boxes', 'coco.json')
    _, of_masks = name(succeed, folder, '--labels', 'labels.png')
    assert [each['box'] for each in written['regions']] == [
        each['box'] for each in of_masks['regions']]


def test_too_many_regions(folder: Path, run_tool) -> None:
    labels = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128)
    Image.fromarray(labels).save(folder / 'each_pixel.png')
    (folder / 'many.json').write_text(json.dumps(dict(annotations=[
        dict(image_id=1, bbox=[place % 60, 3, 3, 3]) for place in range(1025)])))
    for words, count in (
            (['--labels', 'each_pixel.png'], '16,383'), (['--boxes', 'many.json'], '1,025'),
            (['--masks', *['0.png'] * 2000], '2,000')):
        done = run_tool('name_regions', CONFIG, 'none', 'x.png', '--names', 'star, ring', *words,
                        cwd=folder)
        assert done.stderr == (
            f'error: there are {count} regions, and at most 1,024 of a picture of 128 x 128 pixels '
            'are named at a time; give fewer\n')


def test_mistakes(folder: Path, run_tool) -> None:
    Image.new('L', (9, 5), 1).save(folder / 'small.png')
    for words, message in (
            (['--labels', 'small.png'], 'small.png has 9 x 5 pixels, the picture 128 x 128'),
            (['--labels', '0.png'], 'a label map of 0 and 255 alone looks like a mask'),
            (['--labels', 'no.png'], 'no.png is no picture that Pillow can read'),
            (['--masks', '0.png', 'x.png'], 'x.png has 3 channels; masks and labels have one'),
            (['--labels', '/dev/zero'], '/dev/zero is no regular file, so it was not read'),
            (['--boxes', '/dev/zero'], "there is no file '/dev/zero'"),
            (['--boxes', 'no.json'], "there is no file 'no.json'"),
            (['--boxes', 'x.png'], 'x.png is no COCO file'),
            (['--labels', 'labels.png', '--opacity', '2'], 'an opacity over 0 and up to 1'),
            (['--labels', 'labels.png', '--search-colours'],
             '--search-colours is for --how colour, not pool'),
            (['--labels', 'labels.png', '--template', 'red'], "once each, got 'red'")):
        done = run_tool('name_regions', CONFIG, 'none', 'x.png', '--names', 'star, ring', *words,
                        cwd=folder)
        assert done.returncode == 1 and done.stderr.count('\n') == 1
        assert done.stderr.startswith('error: ') and message in done.stderr
    assert not (folder / 'regions').exists()
