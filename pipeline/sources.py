"""Which classes the splits of a data source have, known before any split is there."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from pipeline import cityscapes, voc
from pipeline.classes import Classes
from pipeline.originals.config import Custom

# By the folder of data/ that a source's stage writes to. COCO is packed with the classes of VOC.
_CLASSES = {"voc": voc.CLASSES, "coco": voc.CLASSES, "cityscapes": cityscapes.CLASSES}


def classes_of(data: str, custom: Mapping[str, Custom], place: str) -> Classes:
    """The classes of a split.

    Args:
        data: path of the split as params.yaml names it, e.g. data/voc/val.arrow.
        custom: section of params.yaml; at most one data set of the user's own.
        place: where the split is named, for the message.

    Raises:
        ValueError: no source of this path is known.
    """
    classes = dict(_CLASSES)
    for own in custom.values():
        classes["custom"] = own.table
    folders = PurePosixPath(data).parent.parts
    if len(folders) != 2 or folders[0] != "data" or folders[1] not in classes:
        known = ", ".join(f"data/{source}" for source in classes)
        raise ValueError(f"{place}: the classes of {data!r} are not known; known are {known}")
    return classes[folders[1]]
