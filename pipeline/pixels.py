"""Images as bytes and as pixels: encoded as they were photographed, or raw behind a small header.

What is raw is a binary PPM (RGB) or PGM (grey): any image library opens it as it does a PNG, and
NumPy can look at the pixels where they are, without decoding and without a copy. A 2048x1024 PNG
of Cityscapes takes some 30 ms to decode, each time it is drawn.

Source: netpbm, "ppm" and "pgm", the binary forms with 8 bits a sample.
"""

import io
import re
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Encoded = bytes | memoryview
Pixels = NDArray[np.uint8]

# A photograph whose pixels fill memory is refused where it enters, not in the middle of training.
# Pillow has the same limit, yet only warns of it.
MAX_PIXELS = 89_478_485
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

# Of all that Pillow opens, what photographs and label maps are kept in.
_FORMATS = ("JPEG", "PNG", "PPM")

_HEADER = re.compile(rb"P([56])\n([1-9][0-9]{0,5}) ([1-9][0-9]{0,5})\n255\n")
_MAX_HEADER_BYTES = 20


def size(image: Encoded) -> tuple[int, int]:
    """(height, width) that an image's header gives, of the pixels as they are stored.

    A camera's orientation tag turns nothing: label maps are drawn over the stored pixels.

    Raises:
        ValueError: neither JPEG nor PNG nor PPM, or larger than the limit.
    """
    try:
        with Image.open(io.BytesIO(image), formats=_FORMATS) as opened:
            width, height = opened.size
    except UnidentifiedImageError as error:
        raise ValueError("not an image, or neither JPEG nor PNG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"not a readable image: it has more pixels than the limit of {MAX_PIXELS}"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"not a readable image: {error}") from error
    return height, width


def decode(image: Encoded) -> Pixels:
    """Decodes an image to (H, W, 3) RGB; what is raw is a view, which cannot be written to.

    Grey becomes three equal channels, CMYK is converted, an alpha channel is left out, of 16 bits
    the upper 8 are kept.

    Raises:
        ValueError: not an image, or a damaged one.
    """
    raw = view(image)
    if raw is not None and raw.ndim == 3:
        return raw
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), flags)
    except cv2.error as error:  # no bytes, or a size beyond OpenCV's own limit
        raise ValueError("not an image") from error
    if decoded is None:
        raise ValueError("not an image, or a damaged one")
    return decoded.astype(np.uint8, copy=False)


def png(pixels: Pixels) -> bytes:
    """Encodes (H, W, 3) RGB pixels without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def raw(pixels: Pixels) -> bytes:
    """Puts (H, W, 3) RGB or (H, W) grey pixels behind a header."""
    height, width = pixels.shape[:2]
    magic = "P6" if pixels.ndim == 3 else "P5"
    header = f"{magic}\n{width} {height}\n255\n".encode()
    return b"".join([header, np.ascontiguousarray(pixels).data])


def view(image: Encoded) -> Pixels | None:
    """The pixels of what `raw` has made, where they are: (H, W, 3) or (H, W); else None.

    Raises:
        ValueError: pixels are missing, or there are too many.
    """
    header = _HEADER.match(bytes(image[:_MAX_HEADER_BYTES]))
    if not header:
        return None
    width, height = int(header[2]), int(header[3])
    shape = (height, width, 3) if header[1] == b"6" else (height, width)
    expected, found = height * width * (3 if len(shape) == 3 else 1), len(image) - header.end()
    if found != expected:
        raise ValueError(f"raw pixels are damaged: {found} bytes, expected {expected}")
    return np.frombuffer(image, np.uint8, expected, header.end()).reshape(shape)
