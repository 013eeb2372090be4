"""Captioned scenes, to pretrain a CLIP on.

Scenes come in groups whose captions have the same words but for the shapes ('a red circle on
grass', 'a red square on grass'): in a batch of random scenes colour and ground would be enough to
tell captions apart, and no gradient would ever ask for the shape. Every scene has two captions, of
the whole and of one part ('a red circle'). Things of ``NEW_CLASSES`` are neither drawn nor named.
"""

from typing import NamedTuple

from denseclip_mm.demo.render import (
    BASE_CLASSES,
    COLOURS,
    GROUNDS,
    RADII,
    SHAPES,
    draw_grounds,
    draw_thing,
    photograph,
    place,
    shape_mask,
)
from denseclip_mm.demo.textures import TEXTURES, UNITS

import numpy as np

BASE_SHAPES = {colour: [shape for shape in SHAPES if f'{colour} {shape}' in BASE_CLASSES]
               for colour in COLOURS}
_THING_SHARE = 0.75  # of the captions of parts, in scenes with things
GROUP = 4  # scenes of a group: as many as a colour has base shapes

_OPENINGS = ('{}', 'a photo of {}', 'a picture of {}', 'an image of {}', 'there is {}',
             'here we see {}', 'a scene with {}', 'a small photo of {}',
             'in this picture there is {}')
_THING_WORDS = ('a', 'a', 'a', 'a', 'the', 'one', '')
_GROUND_WORDS = ('', '', '', 'the', 'a')
_PLACES = ('on', 'on', 'over', 'in front of')


def _noun(word: str, name: str) -> str:
    if word == 'a' and name[0] in 'aeiou':
        word = 'an'
    return f'{word} {name}'.strip()


def _listed(nouns: list[str]) -> str:
    return ' and '.join(filter(None, [', '.join(nouns[:-1]), nouns[-1]]))


class Group(NamedTuple):
    """Scenes that have their words in common, but for the shapes.

    Attributes:
        images: ``GROUP`` images (H, W, 3), BGR uint8.
        captions: one a scene.
        part_captions: one a scene, of a thing or a ground in it.
    """

    images: list[np.ndarray]
    captions: list[str]
    part_captions: list[str]


class Wording:
    """One way to put a scene into words, drawn by chance."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.opening = str(rng.choice(_OPENINGS))
        self.thing_word = str(rng.choice(_THING_WORDS))
        self.ground_word = str(rng.choice(_GROUND_WORDS))
        self.place = str(rng.choice(_PLACES))
        self.names_ground = rng.random() < 0.75
        self.full_stop = '.' if rng.random() < 0.5 else ''

    def part(self, name: str) -> str:
        """The caption of a part of a scene."""
        word = self.ground_word if name in GROUNDS else self.thing_word
        return self.opening.format(_noun(word, name)) + self.full_stop

    def caption(self, things: list[str], grounds: list[str]) -> str:
        """The caption of a scene with these things, or none, on these grounds."""
        ground = _listed([_noun(self.ground_word, name) for name in grounds])
        thing = _listed([_noun(self.thing_word, name) for name in things]) if things else ''
        if thing and self.names_ground:
            thing = f'{thing} {self.place} {ground}'
        return self.opening.format(thing or ground) + self.full_stop


def render_group(rng: np.random.Generator, size: int) -> Group:
    """Draw a group of scenes that differ in their shapes, or in their grounds if they are empty.

    Args:
        rng: the only source of chance.
        size: side of the images in pixels, 128 at most; smaller ones show a part of a scene, not a
            smaller scene.
    """
    wording = Wording(rng)
    side = max(size, round(UNITS * rng.uniform(0.8, 1.25)))
    unit = side / UNITS
    if rng.random() < 0.1:
        names = [GROUNDS[index] for index in rng.choice(len(GROUNDS), GROUP, replace=False)]
        images = [photograph(rng, TEXTURES[name](rng, side)[:size, :size].copy(), unit)
                  for name in names]
        return Group(images, [wording.caption([], [name]) for name in names],
                     [wording.part(name) for name in names])

    ground, labels = draw_grounds(rng, side)
    top, left = rng.integers(0, side - size + 1, 2)
    window = slice(top, top + size), slice(left, left + size)
    kinds, areas = np.unique(labels[window], return_counts=True)
    from_class = len(COLOURS) * len(SHAPES)
    grounds = [GROUNDS[kind - from_class] for kind, area in zip(kinds, areas, strict=True)
               if area > 0.1 * size**2]
    most = 1 if size < 96 else 3
    colours = rng.choice(COLOURS, rng.integers(1, most + 1), replace=False)
    part = rng.integers(len(colours)) if rng.random() < _THING_SHARE else None
    ground_part = rng.choice(grounds)
    group = Group([], [], [])
    for shape in BASE_SHAPES[colours[0]]:
        shapes = [shape, *(rng.choice(BASE_SHAPES[colour]) for colour in colours[1:])]
        group.images.append(_draw(rng, ground[window].copy(), colours, shapes, unit))
        names = [f'{colour} {name}' for colour, name in zip(colours, shapes, strict=True)]
        group.captions.append(wording.caption(names, grounds))
        group.part_captions.append(wording.part(ground_part if part is None else names[part]))
    return group


def _draw(rng: np.random.Generator, image: np.ndarray, colours: list[str], shapes: list[str],
          unit: float) -> np.ndarray:
    size = len(image)
    placed: list[np.ndarray] = []
    for colour, shape in zip(colours, shapes, strict=True):
        radius = rng.uniform(*RADII) * unit
        placed.append(place(rng, placed, radius, size))
        mask = shape_mask(shape, centre=placed[-1], radius=radius,
                          angle=rng.uniform(0, 2 * np.pi), size=size)
        draw_thing(rng, image, mask, colour, unit)
    return photograph(rng, image, unit)
