"""Outlines and lines that figures are put together from.

Coordinates are (x, y) in units of the figure's height; its feet are at y = 0 and up is negative.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.originals.drawing.textures import Texture

Point = tuple[float, float]
Points = NDArray[np.float64]  # (N, 2)


@dataclass(frozen=True)
class Part:
    """One painted piece of a figure.

    Attributes:
        points: its outline; or its middle line, if it is a stroke.
        stroke: width of the stroke, 0 for a filled outline.
        texture: what it is painted with.
    """

    points: Points
    stroke: float
    texture: Texture


def polygon(texture: Texture, *points: Point) -> Part:
    """A filled outline with corners."""
    return Part(np.array(points), 0, texture)


def blob(texture: Texture, *points: Point, rounds: int = 3) -> Part:
    """A filled outline whose corners are cut (Chaikin's scheme) until they are round."""
    line = np.array(points)
    for _ in range(rounds):
        following = np.roll(line, -1, axis=0)
        line = _between(line, following)
    return Part(line, 0, texture)


def ellipse(
    texture: Texture, centre: Point, half_width: float, half_height: float, angle: float = 0.0
) -> Part:
    """A filled ellipse, turned clockwise by an angle in radians."""
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x, y = half_width * np.cos(around), half_height * np.sin(around)
    cos, sin = np.cos(angle), np.sin(angle)
    return Part(np.stack([cos * x - sin * y, sin * x + cos * y], axis=1) + centre, 0, texture)


def limb(texture: Texture, width: float, *joints: Point) -> Part:
    """A stroke from joint to joint."""
    return Part(np.array(joints), width, texture)


def curve(texture: Texture, width: float, *joints: Point) -> Part:
    """A stroke that bends softly, from the first joint to the last."""
    line = np.array(joints)
    for _ in range(3):
        line = np.concatenate([line[:1], _between(line[:-1], line[1:]), line[-1:]])
    return Part(line, width, texture)


def away(joint: Point, side: int, angle: float, length: float) -> Point:
    """The next joint: angle 0 hangs down, pi / 2 points outwards, pi up."""
    return joint[0] + side * length * np.sin(angle), joint[1] + length * np.cos(angle)


def _between(start: Points, end: Points) -> Points:
    cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1)
    return cut.reshape(-1, 2)
