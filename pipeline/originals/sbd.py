"""Reads SBD, the Semantic Boundaries Dataset, and says which of its images make up trainaug.

trainaug = VOC train + (SBD train + SBD val - VOC val), with VOC's own label wherever both have
one: 10,582 images (Sec. 4). SBD labels VOC's photographs in VOC's classes, without void.

The archive is compressed, so it is read from start to end three times: for the lists, for the
label maps (as PNG, all of them fit in memory), for the images (which do not). Nothing is assumed
of the order of its members.

Source: Hariharan et al., "Semantic Contours from Inverse Detectors" (ICCV 2011), benchmark.tgz.
"""

import io
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import scipy.io

from pipeline import label_map
from pipeline.label_map import LabelMap
from pipeline.originals import archive
from pipeline.splits import Sample, checked_sample
from pipeline.voc import CLASSES

# MAT-File Format, level 5: the first element stands behind the header; one kind is compressed.
_MAT_HEADER_BYTES = 128
_MAT_COMPRESSED = 15


@dataclass(frozen=True)
class Lists:
    """SBD's id lists.

    Attributes:
        root: folder of the data set with its final slash, "benchmark_RELEASE/dataset/".
        train: ids of train.txt, 8498 in the original.
        val: ids of val.txt, 2857 in the original; not the images of VOC val.
    """

    root: str
    train: list[str]
    val: list[str]


def read_lists(path: Path) -> Lists:
    """Reads train.txt and val.txt.

    Raises:
        ValueError: a list is missing, empty or has an id twice, or the lists share an id.
    """
    found: dict[str, list[str]] = {}
    wanted = {("dataset", "train.txt"), ("dataset", "val.txt")}
    for name, content in archive.stream(path, lambda name: _last_two(name) in wanted):
        found[name] = archive.read_ids(content, f"{path}: {name}")
        if len(found) == 2:
            break
    roots = {name.rpartition("/")[0] + "/" for name in found}
    if len(found) != 2 or len(roots) != 1:
        raise ValueError(
            f"{path}: not SBD: expected benchmark_RELEASE/dataset/train.txt and val.txt, found "
            f"{', '.join(sorted(found)) or 'neither'}"
        )
    root = roots.pop()
    lists = Lists(root, found[f"{root}train.txt"], found[f"{root}val.txt"])
    if shared := sorted(set(lists.train) & set(lists.val)):
        raise ValueError(
            f"{path}: {len(shared)} ids are in train.txt and in val.txt, {shared[0]} first"
        )
    return lists


def added_ids(
    voc_train: Collection[str],
    voc_val: Collection[str],
    sbd_train: Collection[str],
    sbd_val: Collection[str],
) -> set[str]:
    """The ids that SBD adds to VOC train: all of its own that neither VOC train nor val has."""
    return {*sbd_train, *sbd_val} - set(voc_train) - set(voc_val)


def check_count(
    expected_images: int, voc_train: Collection[str], voc_val: Collection[str], lists: Lists
) -> None:
    """Checks trainaug's size by the lists alone, before any image is read.

    Raises:
        ValueError: another size; says how it comes about, with the first ids of each part.
    """
    added = added_ids(voc_train, voc_val, lists.train, lists.val)
    num_images = len(voc_train) + len(added)
    if num_images != expected_images:
        sbd_ids = {*lists.train, *lists.val}
        raise ValueError(
            f"trainaug: expected_images is {expected_images}, but there are {num_images}: "
            f"VOC train {_counted(voc_train)} + added {_counted(added)}, where added is "
            f"SBD train {_counted(lists.train)} + SBD val {_counted(lists.val)} "
            f"- of which in VOC val {_counted(sbd_ids & set(voc_val))} "
            f"- of which in VOC train {_counted(sbd_ids & set(voc_train))}"
        )


def read_labels(path: Path, root: str, image_ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yields id and encoded label map, as VOC ships them, in the archive's order.

    Args:
        path: the archive.
        root: of its lists.
        image_ids: which images.

    Raises:
        ValueError: a label map is missing or not SBD's.
    """
    for image_id, content in _read(path, f"{root}cls/", ".mat", image_ids):
        try:
            label = decode(content)
        except ValueError as error:
            raise ValueError(f"{path}: {root}cls/{image_id}.mat: {error}") from error
        yield image_id, label_map.encode(label, CLASSES)


def samples(path: Path, root: str, labels: Mapping[str, bytes], source: str) -> Iterator[Sample]:
    """Yields the labelled images in the archive's order.

    Args:
        path: the archive.
        root: of its lists.
        labels: encoded label map by image id.
        source: what the samples say they are from.

    Raises:
        ValueError: an image is missing or does not fit its label map, see `checked_sample`.
    """
    for image_id, image in _read(path, f"{root}img/", ".jpg", labels):
        yield checked_sample(image_id, image, labels[image_id], CLASSES, source)


def decode(content: bytes) -> LabelMap:
    """Decodes a .mat file: (H, W) label values, the Segmentation field of the struct GTcls.

    Raises:
        ValueError: not a .mat file with such a field.
    """
    try:
        _check_compression(content)
        segmentation = scipy.io.loadmat(io.BytesIO(content), variable_names=["GTcls"])["GTcls"][
            "Segmentation"
        ][0, 0]
    except Exception as error:  # scipy's reader raises whatever a damaged file makes it trip over
        raise ValueError(f"no readable GTcls.Segmentation: {error!r}") from error
    if not isinstance(segmentation, np.ndarray) or segmentation.dtype != np.uint8:
        raise ValueError(
            f"GTcls.Segmentation is {getattr(segmentation, 'dtype', type(segmentation).__name__)}, "
            "not uint8"
        )
    if segmentation.ndim != 2 or not segmentation.size:
        raise ValueError(f"GTcls.Segmentation has shape {segmentation.shape}, not (height, width)")
    return np.ascontiguousarray(segmentation)  # MATLAB's order is by columns


def _check_compression(content: bytes) -> None:
    """Lets zlib compare its checksum: on damaged data scipy's reader may crash the process."""
    kind, size = struct.unpack_from("<II", content, _MAT_HEADER_BYTES)
    if kind == _MAT_COMPRESSED:
        start = _MAT_HEADER_BYTES + 8
        zlib.decompress(content[start : start + size])


def _read(
    path: Path, folder: str, suffix: str, image_ids: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    names = {f"{folder}{image_id}{suffix}": image_id for image_id in image_ids}
    for name, content in archive.stream(path, names.__contains__):
        yield names.pop(name), content
    if names:
        raise ValueError(
            f"{path}: {len(names)} listed images have no file in it, first {min(names)}"
        )


def _last_two(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts[-2:]


def _counted(image_ids: Collection[str], num_examples: int = 3) -> str:
    examples = [*sorted(image_ids)[:num_examples], "..."] if image_ids else ["none"]
    return f"{len(image_ids)} ({', '.join(examples)})"
