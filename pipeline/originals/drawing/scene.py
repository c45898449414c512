"""A picture with exact labels: a ground, a few figures on it, light and grain.

A scene is a pure function of (seed, number), so two archives that show the same photograph can
each draw it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.originals.drawing import grounds
from pipeline.originals.drawing.figures import FIGURES
from pipeline.originals.drawing.shapes import Part, Points
from pipeline.originals.drawing.textures import Random, Size, Texture, noise

# Strokes are at least this wide, pixels: VOC's void outline takes about five of them.
_MIN_STROKE = 8
# Height of a figure, as a share of a person's.
_STATURE = {"bird": 0.70, "bottle": 0.78, "cat": 0.72, "chair": 0.85, "person": 1.0, "sheep": 0.75}
# Half of a figure's width, as a share of its height.
_REACH = {"bird": 0.7, "bottle": 0.17, "cat": 0.68, "chair": 0.42, "person": 0.35, "sheep": 0.7}
# Binary places of the coordinates that OpenCV draws with.
_SHIFT = 4


@dataclass(frozen=True)
class Scene:
    """A drawn picture.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        instances: (H, W) uint8, 0 on the ground and k on the k-th figure.
        names: VOC class of the k-th figure at k - 1; others may hide it.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    names: list[str]


@dataclass(frozen=True)
class Pose:
    """Where and how a figure stands: its feet (x, y), its height in pixels, its turn, mirrored."""

    x: float
    y: float
    height: float
    angle: float
    flipped: bool

    def place(self, points: Points) -> Points:
        """Figure coordinates to pixels."""
        side, up = points[:, 0] * (-1 if self.flipped else 1), points[:, 1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = np.stack([cos * side - sin * up, sin * side + cos * up], axis=1)
        return np.asarray(turned * self.height + (self.x, self.y))


def draw(seed: int, number: int) -> Scene:
    """Draws a scene, 176 to 257 pixels on each side."""
    rng = np.random.default_rng([seed, number])
    size = _size(rng)
    canvas, horizon = grounds.draw(rng, size)
    instances = np.zeros(size, np.uint8)
    num_figures = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.20]))
    names = [sorted(FIGURES)[rng.integers(len(FIGURES))] for _ in range(num_figures)]
    poses = _poses(rng, size, horizon, names)
    for pose in poses:
        _shadow(canvas, pose)
    for index, (name, pose) in enumerate(zip(names, poses, strict=True), start=1):
        for part in FIGURES[name](rng, size):
            _paint(canvas, instances, index, part, pose)
    return Scene(_developed(rng, canvas), instances, names)


def _size(rng: Random) -> Size:
    longer, shorter = int(rng.integers(224, 258)), int(rng.integers(176, 217))
    return (longer, shorter) if rng.random() < 0.3 else (shorter, longer)


def _poses(rng: Random, size: Size, horizon: int, names: list[str]) -> list[Pose]:
    """Side by side with some overlap, the furthest first, nearer ones taller."""
    height, width = size
    slots = rng.permutation(len(names)) + 0.5
    feet = np.sort(rng.uniform(horizon + 0.35 * (height - horizon), height - 4, len(names)))
    poses = []
    for name, slot, y in zip(names, slots, feet, strict=True):
        near = 0.72 + 0.28 * (y - horizon) / (height - horizon)
        tall = near * rng.uniform(0.78, 1.0) * (0.92 if len(names) == 1 else 0.78) * height
        tall = min(tall * _STATURE[name], y - 6, 0.47 * width / _REACH[name])
        room = _REACH[name] * tall
        x = width * slot / len(names) + rng.uniform(-0.12, 0.12) * width
        x = float(np.clip(x, room * 0.9, width - room * 0.9))
        poses.append(Pose(x, float(y), float(tall), rng.uniform(-0.07, 0.07), rng.random() < 0.5))
    return poses


def _shadow(canvas: Texture, pose: Pose) -> None:
    mask = np.zeros(canvas.shape[:2], np.float32)
    axes = (int(0.36 * pose.height), max(int(0.05 * pose.height), 2))
    cv2.ellipse(mask, (int(pose.x), int(pose.y) - 2), axes, 0, 0, 360, 1.0, -1)
    canvas *= 1 - 0.38 * cv2.GaussianBlur(mask, (0, 0), 5)[..., None]


def _paint(
    canvas: Texture, instances: NDArray[np.uint8], index: int, part: Part, pose: Pose
) -> None:
    """Paints a part, soft-edged and rounded by light; labels the pixels it covers by half."""
    cover = np.zeros(instances.shape, np.uint8)
    points = np.round(pose.place(part.points) * (1 << _SHIFT)).astype(np.int32)
    if part.stroke:
        width = max(round(part.stroke * pose.height), _MIN_STROKE)
        cv2.polylines(cover, [points], False, 255, width, cv2.LINE_AA, _SHIFT)
    else:
        cv2.fillPoly(cover, [points], 255, cv2.LINE_AA, _SHIFT)
    x, y, width, height = cv2.boundingRect(cover)
    if min(width, height) < 2:
        return
    here = np.s_[y : y + height, x : x + width]
    roundness = max(0.025 * pose.height, 1.5)
    blurred = cv2.GaussianBlur(cover[here], (0, 0), roundness, borderType=cv2.BORDER_CONSTANT)
    relief = blurred / np.float32(255)
    down, right = np.gradient(relief)
    light = 0.80 + 0.22 * relief + 1.28 * down + 0.96 * right  # falls from the upper left
    share = cover[here][..., None] / np.float32(255)
    canvas[here] += share * (part.texture[here] * light[..., None] - canvas[here])
    instances[here][cover[here] >= 128] = index


def _developed(rng: Random, canvas: Texture) -> NDArray[np.uint8]:
    """Uneven light, a little blur, a little grain: what a camera adds."""
    size = (canvas.shape[0], canvas.shape[1])
    lit = canvas * (1 + 0.08 * noise(rng, size, 120))[..., None] * rng.uniform(0.9, 1.06)
    soft = cv2.GaussianBlur(lit, (0, 0), 0.55)
    return np.clip(soft + rng.normal(0, 3.0, canvas.shape), 0, 255).astype(np.uint8)
