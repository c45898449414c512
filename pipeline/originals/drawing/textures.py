"""Surfaces: (H, W, 3) float32 RGB in 0..255, the size of the whole picture.

A class is told by its surface as much as by its shape, so that a small network can learn it from
a small crop within minutes.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Random = np.random.Generator
Colour = tuple[float, float, float]
Size = tuple[int, int]  # (height, width)
Texture = NDArray[np.float32]
Field = NDArray[np.floating[Any]]  # (H, W)


def choose(rng: Random, *colours: Colour) -> Colour:
    """One of the colours."""
    return colours[rng.integers(len(colours))]


def dimmed(colour: Colour) -> Colour:
    """The colour in shade."""
    red, green, blue = colour
    return 0.7 * red, 0.7 * green, 0.7 * blue


def noise(rng: Random, size: Size, cell: float, stretch: float = 1.0) -> Field:
    """Smooth noise, about -1..1, with blobs `cell` pixels wide and `cell * stretch` high."""
    height, width = size
    rows, columns = int(height / (cell * stretch)) + 3, int(width / cell) + 3
    grid = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    return np.asarray(
        cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32
    )


def tinted(colour: Colour, light: Field) -> Texture:
    """One colour under (H, W) light, 1 being its own brightness."""
    return np.asarray(light[..., None] * np.array(colour, np.float32), dtype=np.float32)


def mixed(first: Texture, second: Texture, share: Field) -> Texture:
    """`first` where share is 0, `second` where it is 1."""
    return np.asarray(first + (second - first) * share[..., None], dtype=np.float32)


def plain(rng: Random, size: Size, colour: Colour, grain: float = 0.05) -> Texture:
    """One colour, a little uneven."""
    return tinted(colour, 1 + grain * (noise(rng, size, 3) + noise(rng, size, 17)))


def stripes(
    rng: Random, size: Size, first: Colour, second: Colour, *, period: float, wobble: float
) -> Texture:
    """Two colours in bands, `period` pixels from one to the next; cloth has no wobble, fur has."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    angle = rng.uniform(-0.5, 0.5)
    across = (y * np.cos(angle) + x * np.sin(angle)) / period + wobble * noise(rng, size, 14)
    share = np.clip(0.5 + 1.6 * np.sin(2 * np.pi * across), 0, 1).astype(np.float32)
    return mixed(plain(rng, size, first), plain(rng, size, second), share)


def wool(rng: Random, size: Size, colour: Colour) -> Texture:
    """Curls: bright blobs with dark rims."""
    curls = np.abs(noise(rng, size, 7)) + 0.5 * np.abs(noise(rng, size, 4))
    return tinted(colour, 0.72 + 0.36 * np.clip(curls * 1.4, 0, 1))


def feathers(rng: Random, size: Size, colour: Colour) -> Texture:
    """A vivid colour, speckled."""
    flecks = np.clip(noise(rng, size, 3.0, 1.6) * 2 - 0.5, 0, 1)
    return mixed(plain(rng, size, colour, 0.1), plain(rng, size, (250, 245, 235)), 0.55 * flecks)


def wood(rng: Random, size: Size, colour: Colour) -> Texture:
    """Grain that runs upwards."""
    grain = noise(rng, size, 2.5, 16) + 0.6 * noise(rng, size, 9, 8)
    return tinted(colour, 1 + 0.22 * grain)


def glass(rng: Random, size: Size, colour: Colour) -> Texture:
    """Deep colour with cloudy depth."""
    return tinted(colour, 0.95 + 0.25 * noise(rng, size, 28, 2))
