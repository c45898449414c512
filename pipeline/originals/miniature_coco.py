"""COCO 2017 in miniature: two archives of images, one of annotations, in the originals' layouts.

Scenes are outlined as COCO's annotators do it: polygons in several parts where a figure is cut in
two, without holes; a crowd now and then, as run lengths; categories that VOC does not have, which
look different here too; a few grey images, small ones, and some without any annotation.
"""

import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.originals import packed
from pipeline.originals.drawing import scene
from pipeline.originals.drawing.scene import Scene
from pipeline.originals.packed import File

# First scene and number of images of each split; VOC and SBD show the scenes before them.
_SPLITS = {"train2017": (1000, 40), "val2017": (2000, 12)}
_MODIFIED = (2017, 9, 1)

# Every so many images are without annotations, grey, hold a crowd, or are this much smaller.
_BARE, _GREY, _CROWDED, _SMALL, _SHRUNK = 13, 9, 5, 11, 0.25
# Every so many figures are something that VOC does not know.
_FOREIGN = 4
_FOREIGN_NAMES = {
    "bird": "kite",
    "bottle": "vase",
    "cat": "teddy bear",
    "chair": "bench",
    "person": "giraffe",
    "sheep": "elephant",
}
# How far a polygon keeps from the true contour, pixels.
_TOLERANCE = 1.0

_CATEGORIES = {
    "person": {1: "person"},
    "vehicle": {
        2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck",
        9: "boat",
    },
    "outdoor": {
        10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench",
    },
    "animal": {
        16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant",
        23: "bear", 24: "zebra", 25: "giraffe",
    },
    "accessory": {27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase"},
    "sports": {
        34: "frisbee", 35: "skis", 36: "snowboard", 37: "sports ball", 38: "kite",
        39: "baseball bat", 40: "baseball glove", 41: "skateboard", 42: "surfboard",
        43: "tennis racket",
    },
    "kitchen": {
        44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl",
    },
    "food": {
        52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
        58: "hot dog", 59: "pizza", 60: "donut", 61: "cake",
    },
    "furniture": {
        62: "chair", 63: "couch", 64: "potted plant", 65: "bed", 67: "dining table", 70: "toilet",
    },
    "electronic": {
        72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard", 77: "cell phone",
    },
    "appliance": {78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator"},
    "indoor": {
        84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier",
        90: "toothbrush",
    },
}  # fmt: skip
_ID_OF = {name: id_ for group in _CATEGORIES.values() for id_, name in group.items()}


def images(split: str, seed: int) -> bytes:
    """train2017.zip or val2017.zip."""
    return packed.zip_archive(_image_files(split, seed), _MODIFIED)


def annotations(seed: int) -> bytes:
    """annotations_trainval2017.zip; what is not about instances is there in name only."""
    files = [(f"annotations/instances_{s}.json", _instances(s, seed)) for s in _SPLITS]
    others = [(f"annotations/captions_{split}.json", b"{}") for split in _SPLITS]
    return packed.zip_archive([*others, *files], _MODIFIED)


def _image_files(split: str, seed: int) -> Iterator[File]:
    for number in _numbers(split):
        image = _photograph(seed, number).image
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        content = packed.jpeg(grey if number % _GREY == 0 else image)
        yield f"{split}/{_image_id(number):012d}.jpg", content


def _numbers(split: str) -> range:
    first, count = _SPLITS[split]
    return range(first, first + count)


def _image_id(number: int) -> int:
    """Spread out, in no order, as COCO's are."""
    return number * 7919 % 581929


def _photograph(seed: int, number: int) -> Scene:
    """A scene, small now and then; foreign figures in false colours."""
    drawn = scene.draw(seed, number)
    image = drawn.image.copy()
    for index in range(len(drawn.names)):
        if _is_foreign(number, index):
            image[drawn.instances == index + 1] ^= 0xFF
    if number % _SMALL:
        return Scene(image, drawn.instances, drawn.names)
    size = (int(image.shape[1] * _SHRUNK), int(image.shape[0] * _SHRUNK))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    instances = cv2.resize(drawn.instances, size, interpolation=cv2.INTER_NEAREST)
    return Scene(small, np.asarray(instances, np.uint8), drawn.names)


def _is_foreign(number: int, index: int) -> bool:
    return (number + 3 * index) % _FOREIGN == 0


def _instances(split: str, seed: int) -> bytes:
    photographs = {number: _photograph(seed, number) for number in _numbers(split)}
    listed = [
        {
            "license": 1,
            "file_name": f"{_image_id(number):012d}.jpg",
            "height": drawn.image.shape[0],
            "width": drawn.image.shape[1],
            "id": _image_id(number),
        }
        for number, drawn in photographs.items()
    ]
    found = [
        annotation
        for number, drawn in photographs.items()
        if number % _BARE
        for annotation in _annotations(number, drawn)
    ]
    categories = [
        {"supercategory": group, "id": id_, "name": name}
        for group, names in _CATEGORIES.items()
        for id_, name in names.items()
    ]
    document = {
        "info": {"description": "COCO 2017 Dataset in miniature", "year": 2017},
        "licenses": [{"id": 1, "name": "generated"}],
        "images": listed,
        "annotations": found,
        "categories": categories,
    }
    return json.dumps(document).encode()


def _annotations(number: int, drawn: Scene) -> Iterator[dict[str, Any]]:
    for index, name in enumerate(drawn.names):
        mask = (drawn.instances == index + 1).astype(np.uint8)
        polygons = _polygons(mask)
        if not polygons:
            continue  # hidden behind others
        crowd = number % _CROWDED == 0 and index == 0
        top, left = (int(places.min()) for places in np.nonzero(mask))
        bottom, right = (int(places.max()) + 1 for places in np.nonzero(mask))
        yield {
            "segmentation": _runs(mask) if crowd else polygons,
            "area": float(np.count_nonzero(mask)),
            "iscrowd": int(crowd),
            "image_id": _image_id(number),
            "bbox": [left, top, right - left, bottom - top],
            "category_id": _ID_OF[_FOREIGN_NAMES[name] if _is_foreign(number, index) else name],
            "id": 10 * number + index,
        }


def _polygons(mask: NDArray[np.uint8]) -> list[list[float]]:
    """(x, y, x, y, ...) of each part's outer contour, whose points are pixel centres."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rounded = [cv2.approxPolyDP(c, _TOLERANCE, closed=True).reshape(-1, 2) for c in contours]
    return [[float(v) + 0.5 for v in part.ravel()] for part in rounded if len(part) >= 3]


def _runs(mask: NDArray[np.uint8]) -> dict[str, list[int]]:
    """Lengths of uncovered and covered runs in turn, by columns; the first may be 0."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    runs = np.diff(bounds).tolist()
    return {"counts": [0, *runs] if flat[0] else runs, "size": list(mask.shape)}
