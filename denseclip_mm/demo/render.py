"""Drawing of procedural scenes: coloured things on textured grounds.

Everything there is to draw is in three tables: ``HSV`` (colours), ``CONTOURS`` (shapes) and
``TEXTURES`` (grounds). Where it is not said otherwise, lengths are in units of 1/128 of the image
side, so that a scene looks the same at any size.

Shapes: images are (H, W, 3) float32 RGB in [0, 255] until ``render_scene`` returns them; fields
and masks are (H, W) float32; points are (x, y).
"""

import colorsys
import math
from collections.abc import Sequence

from denseclip_mm.demo.textures import TEXTURES, UNITS, noise, pixel_axes

import cv2
import numpy as np

_SUPERSAMPLING = 4
_SUBPIXEL_BITS = 4

# Hue in degrees, saturation, lowest value. Yellow and orange have to stay bright: dark they are
# olive and brown.
HSV = {
    'red': (357, 0.88, 0.75),
    'green': (128, 0.80, 0.60),
    'blue': (222, 0.85, 0.75),
    'yellow': (56, 0.90, 0.92),
    'purple': (272, 0.85, 0.65),
    'orange': (28, 0.95, 0.92),
}
_HUE_JITTER = 6


def _polygon(corners: int, *, radius: float = 1, start: float = 0) -> np.ndarray:
    """Corners of a regular polygon (N, 2); ``start`` is the first one's angle in degrees."""
    angles = np.deg2rad(start) + np.arange(corners) * (2 * np.pi / corners)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> np.ndarray:
    tips, notches = _polygon(5), _polygon(5, radius=0.42, start=36)
    return np.stack([tips, notches], axis=1).reshape(-1, 2)


def _cross() -> np.ndarray:
    quarter = np.array([[0.95, -0.3], [0.95, 0.3], [0.3, 0.3]])
    turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, times) for times in range(4)])


# Outlines within the unit circle; a second one is a hole.
CONTOURS = {
    'circle': [_polygon(64)],
    'square': [_polygon(4)],
    'triangle': [_polygon(3)],
    'star': [_star()],
    'cross': [_cross()],
    'ring': [_polygon(64), _polygon(64, radius=0.55)],
}

COLOURS = tuple(HSV)
SHAPES = tuple(CONTOURS)
GROUNDS = tuple(TEXTURES)
# The place of a name is its label.
CLASSES = tuple(f'{colour} {shape}' for colour in COLOURS for shape in SHAPES) + GROUNDS
# The split of CoOp's and CoCoOp's base-to-new protocol: two shapes of every colour, and two colours
# of every shape, have no captions and no labels in training.
NEW_CLASSES = tuple(f'{colour} {shape}' for i, colour in enumerate(COLOURS)
                    for j, shape in enumerate(SHAPES) if (j - i) % 6 in (2, 3))
BASE_CLASSES = tuple(name for name in CLASSES if name not in NEW_CLASSES)
RADII = (9, 22)  # of the circle around a thing, in units


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB in [0, 255] (3,) of a hue in degrees, a saturation and a value."""
    return 255 * np.float32(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value))


def shape_mask(shape: str, *, centre: Sequence[float], radius: float, angle: float,
               size: int) -> np.ndarray:
    """How much of each pixel a shape covers.

    Args:
        shape: one of ``SHAPES``.
        centre: (x, y) in pixels; (0, 0) is the centre of the first pixel.
        radius: of the circle around the shape, in pixels.
        angle: of the turn, in radians.
        size: side of the image in pixels.

    Returns:
        (size, size) float32 in [0, 1].
    """
    cos, sin = np.cos(angle), np.sin(angle)
    turn = radius * np.array([[cos, sin], [-sin, cos]])
    # Pixel x is subpixels 4x to 4x + 3, whose centre is 4x + 1.5.
    contours = [(contour @ turn + centre) * _SUPERSAMPLING + (_SUPERSAMPLING - 1) / 2
                for contour in CONTOURS[shape]]
    fixed_point = [np.rint(contour * 2 ** _SUBPIXEL_BITS).astype(np.int32) for contour in contours]
    mask = np.zeros((size * _SUPERSAMPLING,) * 2, np.uint8)
    cv2.fillPoly(mask, fixed_point, 255, shift=_SUBPIXEL_BITS)
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) / np.float32(255)


def _turned_axes(size: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in units (H, W) about the centre of the image, along and across an angle."""
    x, y = (axis - UNITS / 2 for axis in pixel_axes(size))
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _border(rng: np.random.Generator, size: int) -> np.ndarray:
    """Signed distance in pixels, roughly, to a straight, slanted or wavy border."""
    angle = float(rng.choice([0, math.pi / 2, rng.uniform(0, math.pi)]))
    height = float(rng.choice([0, rng.uniform(3, 8)]))
    across, along = _turned_axes(size, angle)
    wave = np.sin(along * (2 * math.pi / rng.uniform(30, 70)) + rng.uniform(0, 2 * math.pi))
    return (across + height * wave - rng.uniform(-24, 24)) * (size / UNITS)


def draw_grounds(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One or two grounds; returns the image and the labels (H, W) uint8."""
    first, second = rng.choice(len(GROUNDS), 2, replace=False)
    image = TEXTURES[GROUNDS[first]](rng, size)
    labels = np.full((size, size), CLASSES.index(GROUNDS[first]), np.uint8)
    if rng.random() < 0.7:
        distance = _border(rng, size)
        share = np.clip(distance + 0.5, 0, 1)[..., None]
        image = image + share * (TEXTURES[GROUNDS[second]](rng, size) - image)
        labels[distance >= 0] = CLASSES.index(GROUNDS[second])
    return image, labels


def draw_thing(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, colour: str,
               unit: float) -> None:
    """Lay a thing over the image, in place, with a dark rim and a soft shadow.

    Args:
        rng: the only source of chance.
        image: (H, W, 3) float32 RGB.
        mask: (H, W), as of :func:`shape_mask`.
        colour: one of ``COLOURS``.
        unit: pixels of a unit of length.
    """
    size = len(image)
    hue, saturation, value = HSV[colour]
    paint = rgb(hue + rng.uniform(-_HUE_JITTER, _HUE_JITTER),
                min(1, saturation * rng.uniform(0.9, 1.05)), rng.uniform(value, 0.96))
    slope, _ = _turned_axes(size, rng.uniform(0, 2 * math.pi))
    light = 1 + 0.006 * (slope - (mask * slope).sum() / mask.sum())
    light += 0.07 * noise(rng, size, *rng.uniform(1.5, 12, 2))
    # The rim tells a thing from a ground of its colour.
    light *= 0.5 + 0.5 * np.clip(2.4 * cv2.GaussianBlur(mask, (0, 0), 0.9 * unit) - 1.2, 0, 1)
    reach = round(7 * unit)
    shadow = 1 - 0.45 * cv2.blur(mask, (reach, reach), anchor=(reach - 1, reach - 1))
    left, top, width, height = cv2.boundingRect((shadow < 1).astype(np.uint8))
    window = slice(top, top + height), slice(left, left + width)
    shaded = image[window] * shadow[window][..., None]
    image[window] = shaded + mask[window][..., None] * (light[window][..., None] * paint - shaded)


def place(rng: np.random.Generator, placed: list[np.ndarray], radius: float,
          size: int) -> np.ndarray:
    """Centre of a thing: the one of two random points that is farther from the others."""
    margin = min(0.6 * radius, size / 2)
    points = rng.uniform(margin, size - margin, (2, 2))
    room = [min((np.linalg.norm(point - other) for other in placed), default=0) for point in points]
    return points[np.argmax(room)]


def render_scene(rng: np.random.Generator,
                 size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a random scene: one or two grounds under two to five things, later over earlier.

    Args:
        rng: the only source of chance.
        size: side of the square image in pixels.

    Returns:
        The image (H, W, 3), BGR uint8; its labels (H, W), uint8 places in ``CLASSES``; and the
        number of the thing (H, W), uint8 from 1 on, 0 on grounds.
    """
    unit = size / UNITS
    image, labels = draw_grounds(rng, size)
    things = np.zeros_like(labels)
    placed: list[np.ndarray] = []
    for number in range(1, 1 + rng.integers(2, 6)):
        colour, shape = COLOURS[rng.integers(len(COLOURS))], SHAPES[rng.integers(len(SHAPES))]
        radius = rng.uniform(*RADII) * unit
        placed.append(place(rng, placed, radius, size))
        mask = shape_mask(shape, centre=placed[-1], radius=radius,
                          angle=rng.uniform(0, 2 * math.pi), size=size)
        draw_thing(rng, image, mask, colour, unit)
        labels[mask >= 0.5] = CLASSES.index(f'{colour} {shape}')
        things[mask >= 0.5] = number
    return photograph(rng, image, unit), labels, things


def photograph(rng: np.random.Generator, image: np.ndarray, unit: float) -> np.ndarray:
    """The light, blur and grain of a picture: (H, W, 3) BGR uint8 of a drawing, which is lost.

    Args:
        rng: the only source of chance.
        image: (H, W, 3) float32 RGB.
        unit: pixels of a unit of length.
    """
    size = len(image)
    slope, _ = _turned_axes(size, rng.uniform(0, 2 * math.pi))
    image *= (1 + rng.uniform(0, 0.25) * slope / (UNITS / 2))[..., None]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7) * unit)
    image += rng.uniform(1, 5) * rng.standard_normal(image.shape, dtype=np.float32)
    bgr = np.clip(image[..., ::-1], 0, 255).astype(np.uint8)
    return np.ascontiguousarray(bgr)
