"""Captioned scenes: what is said, what is drawn, and what is left to the new classes."""

import re

from denseclip_mm.demo.captions import GROUP, Group, render_group
from denseclip_mm.demo.render import (
    BASE_CLASSES,
    CLASSES,
    COLOURS,
    GROUNDS,
    HSV,
    NEW_CLASSES,
    SHAPES,
    rgb,
)

import numpy as np
import pytest
import torch


def groups(count: int, size: int, seed: int = 0) -> list[Group]:
    rng = np.random.default_rng(seed)
    return [render_group(rng, size) for _ in range(count)]


def things(caption: str) -> list[str]:
    return [' '.join(found) for found in re.findall(rf'({"|".join(COLOURS)}) (\w+)', caption)]


def test_split_covers_every_colour_and_shape_on_both_sides() -> None:
    assert len(NEW_CLASSES) == 12
    assert set(NEW_CLASSES) | set(BASE_CLASSES) == set(CLASSES)
    assert not set(NEW_CLASSES) & set(BASE_CLASSES)
    assert set(GROUNDS) < set(BASE_CLASSES)
    for words in (COLOURS, SHAPES):
        for word in words:
            assert sum(word in name.split() for name in NEW_CLASSES) == 2
            assert sum(word in name.split() for name in BASE_CLASSES) == 4


@pytest.mark.parametrize('size', [32, 64, 128])
def test_captions_of_a_group_differ_in_the_shapes_alone(size: int) -> None:
    named, empty, wordings = set(), 0, set()
    for images, captions, _ in groups(300, size):
        assert len(images) == len(captions) == GROUP == len(set(captions))
        assert all(image.shape == (size, size, 3) and image.dtype == np.uint8 for image in images)
        named.update(thing for caption in captions for thing in things(caption))
        words = '|'.join(SHAPES) if things(captions[0]) else '|'.join(GROUNDS)
        without = {re.sub(words, '?', caption) for caption in captions}
        assert len(without) == 1, captions
        empty += not things(captions[0])
        wordings |= without
        if size < 96:
            assert all(len(things(caption)) <= 1 for caption in captions)
    assert named == {name for name in BASE_CLASSES if name not in GROUNDS}
    assert 10 < empty < 60
    assert len(wordings) > 100


def test_the_named_colour_is_drawn() -> None:
    """Single things of 64 x 64 scenes: nearest colour of the pixels that stand out most."""
    right = []
    paints = torch.tensor(np.stack([rgb(*HSV[colour]) for colour in COLOURS]))
    for images, captions, _ in groups(60, 64, seed=1):
        for image, caption in zip(images, captions, strict=True):
            for thing in things(caption):
                pixels = torch.tensor(image[..., ::-1].reshape(-1, 3).copy()).float()
                saturation = (pixels.amax(1) - pixels.amin(1)) / pixels.amax(1).clamp(min=1)
                vivid = pixels[saturation.topk(60).indices].mean(0, keepdim=True)
                vivid, colours = (x / x.norm(dim=1, keepdim=True) for x in (vivid, paints))
                right.append(COLOURS[int((vivid @ colours.T).argmax())] == thing.split()[0])
    assert np.mean(right) > 0.85


@pytest.mark.parametrize('size', [64, 128])
def test_a_part_is_one_thing_or_ground_of_the_scene(size: int) -> None:
    of_things, of_grounds, absent = 0, set(), 0
    for _, captions, part_captions in groups(300, size, seed=3):
        for caption, part_caption in zip(captions, part_captions, strict=True):
            part, ground = things(part_caption), re.findall('|'.join(GROUNDS), part_caption)
            assert len(part) + len(ground) == 1, part_caption
            assert set(part) <= set(things(caption)), (caption, part_caption)
            absent += bool(ground) and ground[0] not in caption
            assert part_caption.endswith('.') == caption.endswith('.')
        of_things += bool(part)
        of_grounds.update(ground)
    assert 180 < of_things < 225  # nine of ten groups have things, of which three quarters tell
    assert of_grounds == set(GROUNDS)
    assert absent  # what a caption leaves out may be told by that of a part


def test_articles() -> None:
    captions = [caption for group in groups(300, 64, seed=2)
                for caption in group.captions + group.part_captions]
    assert not any(re.search(r'\ban? orange', caption) and 'a orange' in caption
                   for caption in captions)
    assert any('an orange' in caption for caption in captions)
    assert any(caption.endswith('.') for caption in captions)
    assert not any('  ' in caption or caption.startswith(' ') for caption in captions)


def test_same_chance_same_scenes() -> None:
    one, other = groups(3, 64, seed=4), groups(3, 64, seed=4)
    assert [group[1:] for group in one] == [group[1:] for group in other]
    assert all(np.array_equal(a, b) for x, y in zip(one, other, strict=True)
               for a, b in zip(x.images, y.images, strict=True))
