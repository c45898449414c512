"""Label maps as palette PNGs: what VOC ships, what `predict` writes, what the test server takes."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline import pixels
from pipeline.classes import Classes
from pipeline.pixels import Encoded

LabelMap = NDArray[np.uint8]

# A JPEG is opened to be refused by its name: what it keeps of a label value is near it.
_FORMATS = ("PNG", "PPM", "JPEG")

# The colour of void in VOC's own label maps (VOClabelcolormap of 255).
VOID_COLOUR = (224, 224, 192)


def decode(encoded: Encoded) -> LabelMap:
    """Decodes a palette or grey PNG into its (H, W) label values; colours play no part.

    A raw label map is a view, which cannot be written to.

    Raises:
        ValueError: not a PNG, or one whose pixels are not single 8-bit values.
    """
    raw = pixels.view(encoded)
    if raw is not None and raw.ndim == 2:
        return raw
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            if image.mode not in ("P", "L"):
                raise ValueError(f"label map has mode {image.mode}, not 8-bit palette or grey")
            if image.format == "JPEG":
                raise ValueError("label map is a JPEG, which alters label values; expected a PNG")
            return np.array(image, dtype=np.uint8)
    except UnidentifiedImageError as error:
        raise ValueError("label map is not an image") from error
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"label map is not a readable image: {error}") from error


def encode(label: LabelMap, classes: Classes) -> bytes:
    """Encodes (H, W) label values as an 8-bit palette PNG in the classes' colours."""
    image = Image.fromarray(label, mode="P")
    image.putpalette(_palette(classes))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def colourise(label: LabelMap, classes: Classes) -> NDArray[np.uint8]:
    """Paints (H, W) label values as (H, W, 3) RGB in the classes' colours."""
    return np.frombuffer(_palette(classes), np.uint8).reshape(256, 3)[label]


def illegal_counts(counts: NDArray[np.int64], classes: Classes) -> list[int]:
    """Values that are neither a class nor void, ascending, given (256,) counts of all values."""
    values = np.flatnonzero(counts)
    return [int(v) for v in values if v >= classes.num_classes and v != classes.ignore_index]


def _palette(classes: Classes) -> bytes:
    table = np.zeros((256, 3), np.uint8)
    table[: classes.num_classes] = classes.colours
    table[classes.ignore_index] = VOID_COLOUR
    return table.tobytes()
