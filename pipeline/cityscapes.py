"""What is true of Cityscapes: its 19 classes, their colours, and the ids its label maps are in.

Label maps come and are submitted in 34 ids; training and evaluation know 19 of them, which are
numbered anew (trainId). All other ids are void.

Source: cityscapesScripts, cityscapesscripts/helpers/labels.py.
"""

import numpy as np

from pipeline.classes import Classes
from pipeline.label_map import LabelMap

# Class, id and colour, in the order of trainId.
_TABLE = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
# Ids 0 to 33 occur; a license plate is -1, which some tools write as 255.
_NUM_IDS = 34
_LICENSE_PLATE = 255

CLASSES = Classes(
    names=tuple(name for name, _, _ in _TABLE),
    colours=tuple(colour for _, _, colour in _TABLE),
    ignore_index=255,
)

# The id of each class, as the test server wants it.
IDS = tuple(id_ for _, id_, _ in _TABLE)

_CLASS_OF_ID = np.full(256, CLASSES.ignore_index, np.uint8)
_CLASS_OF_ID[list(IDS)] = np.arange(CLASSES.num_classes)
_ID_OF_CLASS = np.array(IDS, np.uint8)


def classes_of_ids(ids: LabelMap) -> LabelMap:
    """Turns an (H, W) label map of ids into one of the 19 classes, void where there is none.

    Raises:
        ValueError: a value that is no id.
    """
    values = np.flatnonzero(np.bincount(ids.ravel(), minlength=256))
    illegal = [int(v) for v in values if v >= _NUM_IDS and v != _LICENSE_PLATE]
    if illegal:
        raise ValueError(
            f"values {illegal} are not ids of Cityscapes (0..{_NUM_IDS - 1}, {_LICENSE_PLATE})"
        )
    return _CLASS_OF_ID[ids]


def ids_of_classes(label: LabelMap) -> LabelMap:
    """The inverse, for the test server: an (H, W) label map of the 19 classes, none of it void."""
    return _ID_OF_CLASS[label]
