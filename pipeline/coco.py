"""What is true of COCO: which of its 80 categories are the 20 classes of PASCAL VOC.

Source: "categories" in annotations/instances_train2017.json of annotations_trainval2017.zip; the
classes are VOC's, in COCO's spelling.
"""

from typing import NamedTuple


class Category(NamedTuple):
    """A COCO category and the VOC class that it is."""

    name: str
    voc_class: str


# By COCO's category id.
CATEGORIES = {
    1: Category("person", "person"),
    2: Category("bicycle", "bicycle"),
    3: Category("car", "car"),
    4: Category("motorcycle", "motorbike"),
    5: Category("airplane", "aeroplane"),
    6: Category("bus", "bus"),
    7: Category("train", "train"),
    9: Category("boat", "boat"),
    16: Category("bird", "bird"),
    17: Category("cat", "cat"),
    18: Category("dog", "dog"),
    19: Category("horse", "horse"),
    20: Category("sheep", "sheep"),
    21: Category("cow", "cow"),
    44: Category("bottle", "bottle"),
    62: Category("chair", "chair"),
    63: Category("couch", "sofa"),
    64: Category("potted plant", "pottedplant"),
    67: Category("dining table", "diningtable"),
    72: Category("tv", "tvmonitor"),
}
