"""Cityscapes in miniature: streets seen from a car, in the originals' four archives.

A street is a list of labelled polygons, painted from back to front as the original's annotations
are: label maps in 34 ids, instance ids of 16 bits, colours and the polygons themselves stand beside
each other. A license plate is a polygon that no label map shows; the test split's label maps know
the car's bonnet and the frame's border alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import cityscapes
from pipeline.label_map import LabelMap
from pipeline.originals import packed
from pipeline.originals.drawing import textures
from pipeline.originals.drawing.textures import Colour, Random, Texture
from pipeline.originals.packed import File

_HEIGHT, _WIDTH = 128, 256  # 1024 x 2048 in the original
_MODIFIED = (2016, 2, 17)

# Cities of each split and how many images each has.
_FINE = {
    "train": {"aachen": 8, "bochum": 8, "ulm": 8},
    "val": {"frankfurt": 5, "lindau": 3},
    "test": {"berlin": 6},
}
_COARSE = {"train_extra": {"augsburg": 7, "troisdorf": 5}}

# What is not among the 19 classes; the order of `_Street.shapes` is by these names too.
_VOID_IDS = {"ego vehicle": 1, "rectification border": 2, "out of roi": 3, "static": 4}
_ID_OF = _VOID_IDS | dict(zip(cityscapes.CLASSES.names, cityscapes.IDS, strict=True))
_PLATE = "license plate"
_HAS_INSTANCES = {"person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"}

# What a class is painted with. Grain tells apart what light and distance make alike.
_PAINT: dict[str, tuple[Colour, ...]] = {
    "road": ((98, 96, 100),),
    "sidewalk": ((168, 158, 152),),
    "building": ((156, 128, 108), (182, 170, 150), (134, 108, 100)),
    "wall": ((120, 112, 120),),
    "fence": ((112, 92, 72),),
    "pole": ((62, 66, 70),),
    "traffic light": ((236, 172, 40),),
    "traffic sign": ((232, 226, 60), (40, 80, 200)),
    "vegetation": ((58, 96, 44), (74, 110, 52)),
    "terrain": ((150, 178, 92),),
    "sky": ((198, 216, 236), (222, 224, 226)),
    "person": ((176, 52, 66), (60, 60, 130)),
    "rider": ((214, 84, 30),),
    "car": ((30, 40, 96), (150, 30, 34), (214, 214, 218)),
    "truck": ((236, 160, 60),),
    "bus": ((212, 190, 40),),
    "train": ((30, 128, 120),),
    "motorcycle": ((52, 30, 110),),
    "bicycle": ((24, 26, 30),),
    "static": ((84, 74, 64),),
    "ego vehicle": ((18, 18, 22),),
    "rectification border": ((0, 0, 0),),
    "out of roi": ((0, 0, 0),),
    _PLATE: ((240, 240, 236),),
}
_ROUGH = {"vegetation", "terrain", "building"}
# Coarse polygons keep this far from the outline, and leave out what is smaller.
_COARSE_MARGIN, _COARSE_PIXELS = 5, 60

_Points = list[tuple[float, float]]
_Shape = tuple[str, NDArray[np.int32]]


@dataclass(frozen=True)
class _Street:
    """One frame: (H, W, 3) RGB and its labelled polygons, from back to front."""

    image: NDArray[np.uint8]
    shapes: list[_Shape]


def images(seed: int) -> bytes:
    """leftImg8bit_trainvaltest.zip: 24 images to train, 8 to evaluate, 6 to submit."""
    return packed.zip_archive(_image_files(_FINE, seed), _MODIFIED)


def extra_images(seed: int) -> bytes:
    """leftImg8bit_trainextra.zip: 12 images."""
    return packed.zip_archive(_image_files(_COARSE, seed), _MODIFIED)


def fine_labels(seed: int) -> bytes:
    """gtFine_trainvaltest.zip."""
    return packed.zip_archive(_label_files(_FINE, "gtFine", seed), _MODIFIED)


def coarse_labels(seed: int) -> bytes:
    """gtCoarse.zip, which has train and val too."""
    splits = {split: _FINE[split] for split in ("train", "val")} | _COARSE
    return packed.zip_archive(_label_files(splits, "gtCoarse", seed), _MODIFIED)


def _frames(splits: dict[str, dict[str, int]]) -> Iterator[tuple[str, str, list[int]]]:
    """Yields split, image id and what the frame is drawn from."""
    for split, cities in splits.items():
        for city, count in cities.items():
            for number in range(count):
                image_id = f"{city}_{number:06d}_000019"
                yield split, f"{split}/{city}/{image_id}", [*city.encode(), number]


def _image_files(splits: dict[str, dict[str, int]], seed: int) -> Iterator[File]:
    yield "README", b"Generated.\n"
    for _, name, frame in _frames(splits):
        yield f"leftImg8bit/{name}_leftImg8bit.png", packed.png(_draw(seed, frame).image)


def _label_files(splits: dict[str, dict[str, int]], kind: str, seed: int) -> Iterator[File]:
    yield "README", b"Generated.\n"
    for split, name, frame in _frames(splits):
        shapes = _draw(seed, frame).shapes
        if kind == "gtCoarse":
            shapes = _coarse(shapes)
        if split == "test":
            shapes = [shape for shape in shapes if shape[0] in _VOID_IDS]
        ids, instance_ids = _label_maps(shapes)
        base = f"{kind}/{name}_{kind}"
        yield f"{base}_color.png", packed.png(_colours(ids))
        yield f"{base}_instanceIds.png", packed.png(instance_ids)
        yield f"{base}_labelIds.png", packed.png(ids)
        yield f"{base}_polygons.json", _polygons_json(shapes)


def _label_maps(shapes: list[_Shape]) -> tuple[LabelMap, NDArray[np.uint16]]:
    """(H, W) ids, and ids times 1000 plus a running number where things can be counted."""
    ids = np.zeros((_HEIGHT, _WIDTH), np.uint8)
    instance_ids = np.zeros((_HEIGHT, _WIDTH), np.uint16)
    counts: dict[str, int] = {}
    for name, points in shapes:
        if name == _PLATE:
            continue  # its id is -1, which no pixel can be
        value = _ID_OF[name]
        if name in _HAS_INSTANCES:
            counts[name] = counts.get(name, -1) + 1
            value = 1000 * value + counts[name]
        cv2.fillPoly(ids, [points], _ID_OF[name])
        cv2.fillPoly(instance_ids, [points], value)
    return ids, instance_ids


def _colours(ids: LabelMap) -> NDArray[np.uint8]:
    table = np.zeros((256, 4), np.uint8)
    table[:, 3] = 255
    table[list(cityscapes.IDS), :3] = cityscapes.CLASSES.colours
    return table[ids]


def _polygons_json(shapes: list[_Shape]) -> bytes:
    objects = [{"label": name, "polygon": points.tolist()} for name, points in shapes]
    document = {"imgHeight": _HEIGHT, "imgWidth": _WIDTH, "objects": objects}
    return json.dumps(document).encode()


def _coarse(shapes: list[_Shape]) -> list[_Shape]:
    """What an annotator outlines in seven minutes: the large things, well inside their outline."""
    ids, _ = _label_maps(shapes)
    coarse: list[_Shape] = []
    kernel = np.ones((_COARSE_MARGIN, _COARSE_MARGIN), np.uint8)
    for name, id_ in _ID_OF.items():
        inside = cv2.erode((ids == id_).astype(np.uint8), kernel)
        contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            if cv2.contourArea(contour) >= _COARSE_PIXELS:
                points = cv2.approxPolyDP(contour, 2.0, closed=True).reshape(-1, 2)
                coarse.append((name, np.asarray(points, np.int32)))
    return coarse


def _draw(seed: int, frame: list[int]) -> _Street:
    rng = np.random.default_rng([seed, *frame])
    canvas = np.zeros((_HEIGHT, _WIDTH, 3), np.float32)
    shapes: list[_Shape] = []
    for name, outline in _outlines(rng):
        points = np.round(outline).astype(np.int32)
        _paint(rng, canvas, name, points)
        shapes.append((name, points))
    lit = canvas * rng.uniform(0.85, 1.08)
    lit = cv2.GaussianBlur(lit, (0, 0), 0.5) + rng.normal(0, 3.0, canvas.shape)
    return _Street(np.clip(lit, 0, 255).astype(np.uint8), shapes)


def _paint(rng: Random, canvas: Texture, name: str, points: NDArray[np.int32]) -> None:
    colour = textures.choose(rng, *_PAINT[name])
    surface = textures.plain(rng, (_HEIGHT, _WIDTH), colour, 0.14 if name in _ROUGH else 0.04)
    cover = np.zeros((_HEIGHT, _WIDTH), np.uint8)
    cv2.fillPoly(cover, [points], 1)
    canvas[cover > 0] = surface[cover > 0]


def _outlines(rng: Random) -> Iterator[tuple[str, _Points]]:
    """The polygons of a street from back to front; x to the right, y down, pixels."""
    horizon = rng.uniform(52, 64)
    vanishing = rng.uniform(105, 150)
    yield "sky", _box(0, 0, _WIDTH - 1, horizon + 8)
    yield from _skyline(rng, horizon)
    yield "terrain", _box(0, horizon + 2, _WIDTH - 1, _HEIGHT - 1)
    for reach, name in ((1.5, "sidewalk"), (0.85, "road")):
        near = reach * 130
        yield (
            name,
            [
                (vanishing - 14 * reach, horizon),
                (vanishing + 14 * reach, horizon),
                (vanishing + near, _HEIGHT - 1),
                (vanishing - near, _HEIGHT - 1),
            ],
        )
    if rng.random() < 0.5:
        side = rng.choice([0.0, _WIDTH * 0.78])
        barrier = str(rng.choice(["wall", "fence"]))
        yield barrier, _box(side, horizon - 4, side + _WIDTH * 0.22, horizon + 12)
    for _ in range(int(rng.integers(1, 4))):
        yield from _post(rng, horizon)
    for depth in np.sort(rng.uniform(0.15, 0.8, int(rng.integers(2, 5)))):
        yield from _vehicle(rng, horizon, vanishing, float(depth))
    for depth in np.sort(rng.uniform(0.2, 0.8, int(rng.integers(1, 4)))):
        yield from _walker(rng, horizon, float(depth))
    yield "ego vehicle", [*_ellipse(_WIDTH / 2, _HEIGHT + 6, _WIDTH * 0.46, 16)]
    yield "rectification border", _box(0, 0, 2, _HEIGHT - 1)
    yield "out of roi", _box(0, 0, _WIDTH - 1, 1)


def _skyline(rng: Random, horizon: float) -> Iterator[tuple[str, _Points]]:
    x = -10.0
    while x < _WIDTH:
        width = rng.uniform(24, 60)
        if rng.random() < 0.7:
            yield "building", _box(x, rng.uniform(6, 36), x + width, horizon + 6)
        else:
            middle = x + width / 2
            yield "vegetation", _ellipse(middle, horizon - 8, width / 2, rng.uniform(14, 30))
        x += width


def _post(rng: Random, horizon: float) -> Iterator[tuple[str, _Points]]:
    x, top = rng.uniform(10, _WIDTH - 10), rng.uniform(14, 30)
    yield "pole", _box(x, top, x + 3, horizon + rng.uniform(14, 28))
    if rng.random() < 0.5:
        yield "traffic sign", _ellipse(x + 1, top, 6, 6)
    else:
        yield "traffic light", _box(x - 3, top - 6, x + 5, top + 8)


def _vehicle(
    rng: Random, horizon: float, vanishing: float, depth: float
) -> Iterator[tuple[str, _Points]]:
    """The nearer (depth up to 1) the larger, the lower and the further from the middle."""
    name = str(rng.choice(["car", "car", "car", "truck", "bus", "train", "bicycle", "motorcycle"]))
    size = 14 + 42 * depth
    middle = vanishing + rng.choice([-1, 1]) * (12 + 80 * depth)
    floor = horizon + 8 + 46 * depth
    if name in ("bicycle", "motorcycle"):
        yield name, _ellipse(middle, floor - size * 0.18, size * 0.42, size * 0.2)
        yield "rider", _ellipse(middle, floor - size * 0.55, size * 0.16, size * 0.38)
        return
    tall = {"car": 0.62, "truck": 1.1, "bus": 1.2, "train": 1.3}[name]
    left, right, top = middle - size / 2, middle + size / 2, floor - size * tall
    shoulder = floor - size * 0.36 if name == "car" else top
    inset = size * 0.18 if name == "car" else 0
    yield name, [
        (left, floor), (left, shoulder), (left + inset, top),
        (right - inset, top), (right, shoulder), (right, floor),
    ]  # fmt: skip
    yield _PLATE, _box(middle - size * 0.1, floor - size * 0.14, middle + size * 0.1, floor - 2)


def _walker(rng: Random, horizon: float, depth: float) -> Iterator[tuple[str, _Points]]:
    size = 14 + 34 * depth
    middle = rng.uniform(14, _WIDTH - 14)
    floor = horizon + 8 + 44 * depth
    yield "person", [
        *_ellipse(middle, floor - size * 0.9, size * 0.11, size * 0.11)[7:],
        (middle + size * 0.2, floor - size * 0.72), (middle + size * 0.14, floor),
        (middle - size * 0.14, floor), (middle - size * 0.2, floor - size * 0.72),
    ]  # fmt: skip
    if rng.random() < 0.3:
        yield "static", _box(middle + size * 0.2, floor - size * 0.3, middle + size * 0.5, floor)


def _box(left: float, top: float, right: float, bottom: float) -> _Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _ellipse(x: float, y: float, half_width: float, half_height: float) -> _Points:
    around = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    return [(x + half_width * np.cos(a), y + half_height * np.sin(a)) for a in around]
