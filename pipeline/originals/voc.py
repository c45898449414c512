"""Reads PASCAL VOC 2012 out of its archives: id lists, JPEG images and palette PNG label maps.

Image and label bytes are handed on untouched. The labels of test are not published: it gets label
maps that are void everywhere.

Source: VOCdevkit/VOC2012 in VOCtrainval_11-May-2012.tar and in VOC2012test.tar; VOC2012 development
kit, "Segmentation".
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from pipeline import label_map, pixels
from pipeline.originals import archive
from pipeline.originals.archive import Member
from pipeline.splits import Sample, checked_sample
from pipeline.voc import CLASSES

_LISTS = "ImageSets/Segmentation"


def read_lists(path: Path, members: Mapping[str, Member]) -> dict[str, list[str]]:
    """Reads the ids of "train", "val" and "trainval", in the lists' order.

    Args:
        path: the archive, a plain tar.
        members: its index.

    Raises:
        ValueError: a list is missing, empty or has an id twice; train and val share an id;
            trainval is not both together; an id has no image or no label map.
    """
    root = _root(path, members, "train")
    lists = {name: _read_list(path, members, root, name) for name in ("train", "val", "trainval")}
    train, val, trainval = (set(image_ids) for image_ids in lists.values())
    if shared := sorted(train & val):
        raise ValueError(
            f"{path}: {len(shared)} ids are in train.txt and in val.txt, {shared[0]} first"
        )
    if odd := sorted((train | val) ^ trainval):
        raise ValueError(
            f"{path}: trainval.txt is not train.txt and val.txt together: {len(odd)} ids are in "
            f"one of the two alone, {odd[0]} first"
        )
    for image_id in lists["trainval"]:
        for name in _names(root, image_id):
            if name not in members:
                raise ValueError(f"{path}: {image_id} is listed, but there is no {name}")
    return lists


def samples(
    path: Path, members: Mapping[str, Member], image_ids: Iterable[str], source: str
) -> Iterator[Sample]:
    """Yields the samples of these ids, in this order.

    Args:
        path: the archive, a plain tar.
        members: its index.
        image_ids: of a list that `read_lists` has checked.
        source: what the samples say they are from.

    Raises:
        ValueError: an image or label map is not what it should be, see `checked_sample`.
    """
    root = _root(path, members, "train")
    for image_id in image_ids:
        image, label = (archive.read(path, members[name]) for name in _names(root, image_id))
        yield checked_sample(image_id, image, label, CLASSES, source)


def read_test_list(path: Path, members: Mapping[str, Member]) -> list[str]:
    """Reads the ids of "test", in the list's order.

    Args:
        path: the archive of test, a plain tar.
        members: its index.

    Raises:
        ValueError: the list is missing, empty or has an id twice; an id has no image.
    """
    root = _root(path, members, "test")
    image_ids = _read_list(path, members, root, "test")
    for image_id in image_ids:
        name, _ = _names(root, image_id)
        if name not in members:
            raise ValueError(f"{path}: {image_id} is listed, but there is no {name}")
    return image_ids


def unlabelled_samples(
    path: Path, members: Mapping[str, Member], image_ids: Iterable[str], source: str
) -> Iterator[Sample]:
    """Yields the samples of test, in this order; their label maps are void.

    Args:
        path: the archive of test, a plain tar.
        members: its index.
        image_ids: from `read_test_list`.
        source: what the samples say they are from.

    Raises:
        ValueError: an image is none, see `checked_sample`.
    """
    root = _root(path, members, "test")
    for image_id in image_ids:
        image = archive.read(path, members[_names(root, image_id)[0]])
        try:
            height, width = pixels.size(image)
        except ValueError as error:
            raise ValueError(f"{source}: {image_id}: {error}") from error
        unknown = np.full((height, width), CLASSES.ignore_index, np.uint8)
        label = label_map.encode(unknown, CLASSES)
        yield checked_sample(image_id, image, label, CLASSES, source)


def _root(path: Path, members: Mapping[str, Member], split: str) -> str:
    """The folder of the data set with its final slash: "VOCdevkit/VOC2012/" in the original."""
    suffix = f"{_LISTS}/{split}.txt"
    roots = [
        name.removesuffix(suffix)
        for name in members
        if name == suffix or name.endswith(f"/{suffix}")
    ]
    if len(roots) != 1:
        raise ValueError(
            f"{path}: not VOC 2012: has {len(roots)} files {suffix}, expected VOCdevkit/VOC2012's"
        )
    return roots[0]


def _read_list(path: Path, members: Mapping[str, Member], root: str, split: str) -> list[str]:
    name = f"{root}{_LISTS}/{split}.txt"
    if name not in members:
        raise ValueError(f"{path}: there is no {name}")
    return archive.read_ids(archive.read(path, members[name]), f"{path}: {name}")


def _names(root: str, image_id: str) -> tuple[str, str]:
    return f"{root}JPEGImages/{image_id}.jpg", f"{root}SegmentationClass/{image_id}.png"
