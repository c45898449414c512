"""Which classes the splits of a data source have, known before any split is there."""

from pathlib import PurePosixPath

from pipeline import cityscapes, voc
from pipeline.classes import Classes

# By the folder of data/ that a source's stage writes to. COCO is packed with the classes of VOC.
_CLASSES = {"voc": voc.CLASSES, "coco": voc.CLASSES, "cityscapes": cityscapes.CLASSES}


def classes_of(data: str, place: str) -> Classes:
    """The classes of a split.

    Args:
        data: path of the split as params.yaml names it, e.g. data/voc/val.arrow.
        place: where it is named, for the message.

    Raises:
        ValueError: no source of this path is known.
    """
    folders = PurePosixPath(data).parent.parts
    if len(folders) != 2 or folders[0] != "data" or folders[1] not in _CLASSES:
        known = ", ".join(f"data/{source}" for source in _CLASSES)
        raise ValueError(f"{place}: the classes of {data!r} are not known; known are {known}")
    return _CLASSES[folders[1]]
