"""What is true of PASCAL VOC 2012: its 21 classes, its colours, its void label.

Source: VOC2012 development kit, sections "Segmentation" and `VOClabelcolormap`.
"""

from pipeline.classes import Classes, Colour


def colour(label: int) -> Colour:
    """VOClabelcolormap: the label's bits, dealt to red, green and blue in turn, top bit first."""
    red = green = blue = 0
    for bit in range(8):
        red |= (label >> (3 * bit) & 1) << (7 - bit)
        green |= (label >> (3 * bit + 1) & 1) << (7 - bit)
        blue |= (label >> (3 * bit + 2) & 1) << (7 - bit)
    return red, green, blue


_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

CLASSES = Classes(
    names=_NAMES, colours=tuple(colour(label) for label in range(len(_NAMES))), ignore_index=255
)
