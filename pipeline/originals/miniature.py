"""Small archives in the originals' exact layouts, generated: the pipeline's data on a laptop.

VOC 2012 and SBD show the same photographs under the same ids where they overlap, and overlap as
the originals do: SBD has images of VOC train and of VOC val. What a scene looks like is told in
`drawing`; this module labels it as each data set would, and packs it. The same seed gives the
same bytes, as far as the installed OpenCV and Pillow do.
"""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import cv2
import numpy as np
import scipy.io
import scipy.sparse

from pipeline import label_map
from pipeline.label_map import LabelMap
from pipeline.originals import miniature_cityscapes, miniature_coco, packed
from pipeline.originals.drawing import scene
from pipeline.originals.drawing.scene import Scene
from pipeline.originals.packed import File
from pipeline.voc import CLASSES

# Scenes in turn: VOC (t)rain, VOC (v)al, known to (s)BD alone. Trainaug is 48 + 80 = 128 images.
_PARTS = "tsvstsvsts" * 16
# Every so many images of VOC train and val are in SBD too: 8 of 48 and 8 of 32.
_SHARED = {"t": 6, "v": 4}
# Every so many images of SBD are in its val.txt; in the original, 2857 of 11355.
_SBD_VAL = 4
# Every so many of SBD's own images stand in VOC's archive without a label, as there all do.
_UNLABELLED = 5
# Scenes after all these make VOC test, 1456 images in the original.
_NUM_TEST = 12

# Width of VOC's void outline, pixels.
_VOID_WIDTH = 5
# How far SBD's polygons keep from the true contour, pixels.
_POLYGON_TOLERANCE = 1.5
# 2012-05-11, the date in the original's name.
_MODIFIED = 1336694400


def generate(name: str, seed: int) -> bytes:
    """Generates an archive.

    Args:
        name: of the original; see the table below.
        seed: of all that is drawn.

    Raises:
        ValueError: another name.
    """
    if name not in _ARCHIVES:
        raise ValueError(f"no miniature of {name!r}; there are {', '.join(_ARCHIVES)}")
    return _ARCHIVES[name](seed)


def voc2012(seed: int) -> bytes:
    """VOC 2012 as VOCtrainval_11-May-2012.tar has it: 48 images in train, 32 in val."""
    return packed.tar(_voc2012_files(seed), _MODIFIED)


def voc2012_test(seed: int) -> bytes:
    """VOC 2012 test as VOC2012test.tar has it: 12 images without labels."""
    return packed.tar(_voc2012_test_files(seed), _MODIFIED)


def sbd(seed: int) -> bytes:
    """SBD as benchmark.tgz has it: 96 images, of which 8 are in VOC train and 8 in VOC val."""
    return gzip.compress(packed.tar(_sbd_files(seed), _MODIFIED), mtime=0)


def voc_label(drawn: Scene) -> LabelMap:
    """Labels a scene as VOC does: (H, W) classes, with void along each figure's outline."""
    label = _class_label(drawn)
    ring = cv2.dilate(drawn.instances, np.ones((3, 3), np.uint8)) != drawn.instances
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_VOID_WIDTH, _VOID_WIDTH))
    label[cv2.dilate(ring.astype(np.uint8), disc) > 0] = CLASSES.ignore_index
    return label


def sbd_label(drawn: Scene) -> LabelMap:
    """Labels a scene as SBD does: (H, W) classes in coarse polygons, without void."""
    exact = _class_label(drawn)
    label = np.zeros_like(exact)
    for value in np.unique(exact[exact > 0]):
        contours, _ = cv2.findContours(
            (exact == value).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        polygons = [cv2.approxPolyDP(c, _POLYGON_TOLERANCE, closed=True) for c in contours]
        cv2.fillPoly(label, polygons, int(value))
    return label


def _class_label(drawn: Scene) -> LabelMap:
    values = [0, *(CLASSES.names.index(name) for name in drawn.names)]
    return np.array(values, np.uint8)[drawn.instances]


def _image_id(number: int) -> str:
    """Year and running number, as in VOC."""
    return f"{2007 + number * 5 // len(_PARTS)}_{32 + 7 * number:06d}"


def _numbers(part: str) -> list[int]:
    return [number for number, of in enumerate(_PARTS) if of == part]


def _sbd_numbers() -> list[int]:
    shared = [number for part, every in _SHARED.items() for number in _numbers(part)[::every]]
    return sorted(_numbers("s") + shared)


def _voc2012_files(seed: int) -> Iterator[File]:
    root = "VOCdevkit/VOC2012"
    train, val = _numbers("t"), _numbers("v")
    for name, numbers in (("train", train), ("val", val), ("trainval", sorted(train + val))):
        yield f"{root}/ImageSets/Segmentation/{name}.txt", _list(numbers)
    for number in sorted(train + val + _numbers("s")[::_UNLABELLED]):
        drawn, image_id = scene.draw(seed, number), _image_id(number)
        yield f"{root}/JPEGImages/{image_id}.jpg", packed.jpeg(drawn.image)
        if _PARTS[number] != "s":
            label = label_map.encode(voc_label(drawn), CLASSES)
            yield f"{root}/SegmentationClass/{image_id}.png", label


def _voc2012_test_files(seed: int) -> Iterator[File]:
    root = "VOCdevkit/VOC2012"
    numbers = range(len(_PARTS), len(_PARTS) + _NUM_TEST)
    yield f"{root}/ImageSets/Segmentation/test.txt", _list(numbers)
    for number in numbers:
        image = packed.jpeg(scene.draw(seed, number).image)
        yield f"{root}/JPEGImages/{_image_id(number)}.jpg", image


def _sbd_files(seed: int) -> Iterator[File]:
    root = "benchmark_RELEASE/dataset"
    numbers = _sbd_numbers()
    for number in numbers:
        drawn, image_id = scene.draw(seed, number), _image_id(number)
        yield f"{root}/cls/{image_id}.mat", _mat(sbd_label(drawn))
        yield f"{root}/img/{image_id}.jpg", packed.jpeg(drawn.image)
    val = numbers[::_SBD_VAL]
    yield f"{root}/train.txt", _list(number for number in numbers if number not in val)
    yield f"{root}/val.txt", _list(val)


def _list(numbers: Iterable[int]) -> bytes:
    return "".join(f"{_image_id(number)}\n" for number in numbers).encode()


def _mat(label: LabelMap) -> bytes:
    """The struct GTcls with its three fields; Boundaries are left empty, as nobody reads them."""
    boundaries = np.empty((CLASSES.num_classes - 1, 1), object)
    for index in range(len(boundaries)):
        boundaries[index, 0] = scipy.sparse.csc_array(label.shape, dtype=np.uint8)
    present = np.unique(label[label > 0])[:, None]
    struct = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": present}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"GTcls": struct}, do_compression=True)
    header = b"MATLAB 5.0 MAT-file, Platform: posix, Created on: Fri May 11 00:00:00 2012"
    return header.ljust(116) + buffer.getvalue()[116:]  # scipy's header has the time of day


_ARCHIVES: dict[str, Callable[[int], bytes]] = {
    "voc2012": voc2012,
    "voc2012test": voc2012_test,
    "sbd": sbd,
    "coco-train2017": partial(miniature_coco.images, "train2017"),
    "coco-val2017": partial(miniature_coco.images, "val2017"),
    "coco-annotations": miniature_coco.annotations,
    "cityscapes-leftImg8bit": miniature_cityscapes.images,
    "cityscapes-gtFine": miniature_cityscapes.fine_labels,
    "cityscapes-leftImg8bit-trainextra": miniature_cityscapes.extra_images,
    "cityscapes-gtCoarse": miniature_cityscapes.coarse_labels,
}
