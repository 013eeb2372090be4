"""Scenes with a mask of each thing, to name regions of."""

import math

from denseclip_mm.demo.render import (
    COLOURS,
    RADII,
    SHAPES,
    UNITS,
    draw_grounds,
    draw_thing,
    photograph,
    place,
    shape_mask,
)

import numpy as np


def draw_things(seed: int, index: int, image_size: int = 128,
                count: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A scene with things of different shapes, each of which is seen but for a fifth at most.

    Args:
        seed: of a set of scenes.
        index: of the scene, which depends on nothing else.
        image_size: side in pixels.
        count: number of things, at most that of ``SHAPES``.

    Returns:
        The image (H, W, 3), RGB uint8; masks of what is seen of each thing (count, H, W), bool; and
        their shapes, in the same order.

    Examples:
        >>> image, masks, shapes = draw_things(seed=0, index=0)
        >>> image.shape, masks.shape, len(set(shapes))
        ((128, 128, 3), (4, 128, 128), 4)
    """
    rng = np.random.default_rng([seed, index])
    unit = image_size / UNITS
    while True:
        image, _ = draw_grounds(rng, image_size)
        shapes = [str(shape) for shape in rng.choice(SHAPES, count, replace=False)]
        placed: list[np.ndarray] = []
        masks, areas = np.zeros((count, image_size, image_size), bool), np.zeros(count)
        for number, shape in enumerate(shapes):
            radius = rng.uniform(*RADII) * unit
            placed.append(place(rng, placed, radius, image_size))
            mask = shape_mask(shape, centre=placed[-1], radius=radius,
                              angle=rng.uniform(0, 2 * math.pi), size=image_size)
            draw_thing(rng, image, mask, COLOURS[rng.integers(len(COLOURS))], unit)
            masks[:number, mask >= 0.5] = False  # later things lie over earlier ones
            masks[number] = mask >= 0.5
            areas[number] = masks[number].sum()
        if (masks.sum((1, 2)) > 0.8 * areas).all():
            return photograph(rng, image, unit)[..., ::-1], masks, shapes
