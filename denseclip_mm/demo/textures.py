"""Textures of the grounds of procedural scenes.

A texture draws a square image: from a source of chance and a side in pixels, (H, W, 3) float32 RGB
in [0, 255]. Lengths are in units of 1/128 of the image side.
"""

import cv2
import numpy as np

UNITS = 128


def noise(rng: np.random.Generator, size: int, width: float, height: float) -> np.ndarray:
    """Smooth noise of about unit variance, with grains of ``width`` by ``height`` units."""
    rows, columns = (max(2, round(UNITS / grain)) for grain in (height, width))
    grains = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(grains, (size, size), interpolation=cv2.INTER_CUBIC)


def pixel_axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in units: x as a row (1, W), y as a column (H, 1)."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (UNITS / size)
    return centres[None, :], centres[:, None]


def _mix(low: tuple[int, int, int], high: tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    """The colours between two RGB colours, ``share`` (H, W) of the way from the first."""
    low_rgb, high_rgb = np.float32(low), np.float32(high)
    return low_rgb + np.clip(share, 0, 1)[..., None] * (high_rgb - low_rgb)


def _grass(rng: np.random.Generator, size: int) -> np.ndarray:
    blades = 0.24 * noise(rng, size, 1.5, 7) + 0.12 * noise(rng, size, 24, 24)
    return _mix((50, 72, 30), (138, 156, 78), 0.5 + blades)


def _sand(rng: np.random.Generator, size: int) -> np.ndarray:
    grains = 0.24 * noise(rng, size, 1.2, 1.2) + 0.16 * noise(rng, size, 36, 14)
    return _mix((168, 142, 104), (228, 208, 168), 0.5 + grains)


def _water(rng: np.random.Generator, size: int) -> np.ndarray:
    _, y = pixel_axes(size)
    phase = y * (2 * np.pi / rng.uniform(7, 11)) + 1.5 * noise(rng, size, 28, 12)
    swell = 0.32 * np.sin(phase) + 0.12 * noise(rng, size, 9, 2)
    return _mix((34, 78, 104), (136, 180, 196), 0.42 + swell)


def _brick_wall(rng: np.random.Generator, size: int) -> np.ndarray:
    x, y = pixel_axes(size)
    width, height = rng.uniform(18, 26), rng.uniform(8, 11)
    y = y / height + rng.random()
    row = y.astype(int)
    x = x / width + rng.random() + row % 2 * np.float32(0.5)
    column = x.astype(int)
    tones = rng.normal(0.5, 0.22, (row.max() + 1, column.max() + 1)).astype(np.float32)
    tone = tones[row, column] + 0.1 * noise(rng, size, 1.5, 1.5)
    wall = _mix((112, 60, 50), (178, 112, 92), tone)
    wall[(x - column < 1.6 / width) | (y - row < 1.6 / height)] = (184, 178, 170)
    return wall


def _wooden_floor(rng: np.random.Generator, size: int) -> np.ndarray:
    _, y = pixel_axes(size)
    width = rng.uniform(12, 18)
    y = y + rng.uniform(0, width)
    plank = (y // width).astype(int)
    tone = rng.normal(0.5, 0.2, plank.max() + 1).astype(np.float32)[plank]
    floor = _mix((108, 72, 44), (190, 142, 96), tone + 0.16 * noise(rng, size, 40, 1.3))
    floor *= np.where(y % width < 1.2, np.float32(0.45), np.float32(1))[..., None]
    return floor if rng.random() < 0.5 else floor.swapaxes(0, 1)


def _snow(rng: np.random.Generator, size: int) -> np.ndarray:
    drifts = 0.3 * noise(rng, size, 34, 22) + 0.06 * noise(rng, size, 1.2, 1.2)
    return _mix((176, 194, 222), (240, 244, 250), 0.6 + drifts)


TEXTURES = {
    'grass': _grass,
    'sand': _sand,
    'water': _water,
    'brick wall': _brick_wall,
    'wooden floor': _wooden_floor,
    'snow': _snow,
}
