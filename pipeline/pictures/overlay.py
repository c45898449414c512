"""A picture with its label map shining through, and a legend of the classes on it."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline import label_map
from pipeline.classes import Classes
from pipeline.label_map import LabelMap

_OPACITY = 0.6
_STRIP = 256  # rows that are blended at a time
# Share of the picture that a class must have to be named: a few stray pixels are no object.
_MIN_SHARE = 0.0005


def draw(image: NDArray[np.uint8], label: LabelMap, classes: Classes) -> Image.Image:
    """Draws a picture of (H, W, 3) RGB, its (H, W) label map over it and a legend below.

    The first class is the background of most data sets: where its colour is black, as in VOC, the
    picture is left as it is.
    """
    counts = np.bincount(label.ravel(), minlength=classes.num_classes)
    named = np.flatnonzero(counts >= max(1.0, _MIN_SHARE * label.size)).tolist()
    is_background_seen = classes.colours[0] != (0, 0, 0)
    if not is_background_seen:
        named = [value for value in named if value > 0] or [0]
    blended = np.empty_like(image)
    for top in range(0, len(label), _STRIP):  # floats of the whole picture would be gigabytes
        strip = slice(top, top + _STRIP)
        colours = label_map.colourise(label[strip], classes).astype(np.float32)
        is_seen = is_background_seen | (label[strip] > 0)
        opacity = np.where(is_seen, np.float32(_OPACITY), np.float32(0))[..., None]
        blended[strip] = image[strip] * (1 - opacity) + colours * opacity + 0.5
    return _with_legend(Image.fromarray(blended), named, classes)


def _with_legend(picture: Image.Image, named: list[int], classes: Classes) -> Image.Image:
    size = max(11, round(picture.width / 45))
    font = ImageFont.load_default(size)
    pad, line = size // 2, round(size * 1.7)
    places, left, row = [], pad, 0
    for value in named:
        wide = round(1.6 * size + font.getlength(classes.names[value]) + 2 * pad)
        if left > pad and left + wide > picture.width:
            left, row = pad, row + 1
        places.append((value, left, row))
        left += wide
    whole = Image.new(
        "RGB", (picture.width, picture.height + (row + 1) * line + pad), (255, 255, 255)
    )
    whole.paste(picture, (0, 0))
    pen = ImageDraw.Draw(whole)
    for value, x, row in places:
        y = picture.height + pad + row * line
        pen.rectangle(
            (x, y, x + size, y + size), fill=classes.colours[value], outline=(120, 120, 120)
        )
        pen.text((x + 1.4 * size, y + size / 2), classes.names[value], (20, 20, 20), font, "lm")
    return whole
