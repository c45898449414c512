"""Reads the images and label maps of a user's own data: what they are, and whether all can be used.

Source: Exif 2.3, tag 0x0112, for the orientation.
"""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline import pixels
from pipeline.label_map import LabelMap
from pipeline.originals.config import VOID, Colours, Custom, Values

_FORMATS = {"JPEG", "MPO", "PNG"}  # MPO: a camera's JPEG with a second picture behind the first
_IMAGE_MODES = {"L", "P", "RGB"}

# Pillow's modes: grey, palette, colour, and 1 bit.
_LABEL_MODES = {"values": {"L", "P", "1"}, "colours": {"L", "P", "1", "RGB"}}
_LABEL_MODES_DESCRIBED = {
    "values": "8-bit grey or palette PNG (colour-coded maps are kind 'colours')",
    "colours": "8-bit RGB or palette PNG",
}

_ORIENTATION = 0x0112  # EXIF's tag
_ON_ITS_SIDE = range(5, 9)  # of its values
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH = 24  # offset of that byte in a PNG

_MAX_CODES_SHOWN = 5
# Of a label map: looking all of it up takes 36 bytes a pixel.
_ROWS_AT_A_TIME = 256

# What Pillow raises on bytes that are no image, or a damaged one.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def image_size(custom: Custom, content: bytes) -> tuple[int, int]:
    """(height, width) of an image as its label map must have it.

    Raises:
        ValueError: damaged, too large, or with pixels that later stages would read otherwise.
    """
    with _opened(content) as image:
        if image.format not in _FORMATS:
            raise ValueError(f"is {image.format}, whatever its name says; save it as JPEG or PNG")
        if image.mode not in _IMAGE_MODES or _is_16_bit(content):
            raise ValueError(f"has {_pixels(image, content)}; save it as 8-bit RGB or grey")
        width, height = image.size
        if height * width > pixels.MAX_PIXELS:
            raise ValueError(f"has more pixels than the limit of {pixels.MAX_PIXELS}; shrink it")
        if custom.orientation == "displayed" and _turn(image) in _ON_ITS_SIDE:
            height, width = width, height
        if custom.larger_images == "refuse" and fitting(custom, height, width) != (height, width):
            raise ValueError(
                f"is {height}x{width} pixels (height x width), more than max_height x max_width, "
                f"{custom.max_height}x{custom.max_width}; set larger_images: shrink, or raise "
                f"these, and height and width of the rows' inference and the models' validation"
            )
        _loaded(image)
    return height, width


def fitting(custom: Custom, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the largest image of this shape within max_height x max_width.

    One that fits keeps its size: nothing is enlarged.
    """
    factor = min(1.0, custom.max_height / height, custom.max_width / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def label_values(custom: Custom, content: bytes) -> LabelMap:
    """(H, W) label values of the packed split.

    Raises:
        ValueError: no PNG, damaged, of another coding, or a pixel is of no class and not void.
    """
    with _opened(content) as image:
        if image.format != "PNG":
            raise ValueError(f"is {image.format}, whatever its name says; label maps are PNG")
        if _is_16_bit(content) or image.mode not in _LABEL_MODES[custom.coding.kind]:
            raise ValueError(
                f"has {_pixels(image, content)}; coding.kind {custom.coding.kind!r} takes "
                f"{_LABEL_MODES_DESCRIBED[custom.coding.kind]}"
            )
        _loaded(image)
        if isinstance(custom.coding, Colours):
            return _translated(np.asarray(image.convert("RGB")), custom.coding)
        grey = image.convert("L") if image.mode == "1" else image
        return _translated(np.asarray(grey), custom.coding)


def packed(custom: Custom, content: bytes, height: int, width: int) -> bytes:
    """The same bytes, or those of a PNG with the pixels as they are to be packed.

    That is turned as EXIF has the image displayed, where label maps fit it so, and of this size.
    """
    with _opened(content) as image:
        turn = _TURNS.get(_turn(image)) if custom.orientation == "displayed" else None
        if turn is None and image.size == (width, height):
            return content  # without a look at the pixels, which `image_size` has had
        upright = _loaded(image) if turn is None else _loaded(image).transpose(turn)
        converted = upright.convert("L" if image.mode == "L" else "RGB")
        shrunk = cv2.resize(np.asarray(converted), (width, height), interpolation=cv2.INTER_AREA)
        buffer = io.BytesIO()
        Image.fromarray(shrunk.astype(np.uint8, copy=False)).save(buffer, "PNG")
        return buffer.getvalue()


def shrunk_label(label: LabelMap, height: int, width: int) -> LabelMap:
    """(height, width) label values, each that of the pixel in whose area its centre lies."""
    if label.shape == (height, width):
        return label
    shrunk = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return shrunk.astype(np.uint8, copy=False)


def is_on_its_side(content: bytes) -> bool:
    """Whether EXIF turns an image by a quarter, so that its height is displayed as its width."""
    with _opened(content) as image:
        return _turn(image) in _ON_ITS_SIDE


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Opens an image by its header.

    Damage in EXIF alone is common and no matter here: Pillow's warnings of it are left out.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise ValueError("not an image that can be read") from error
    except _DAMAGE as error:
        raise ValueError(f"not a readable image: {error}") from error
    with image:
        yield image


def _loaded(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except _DAMAGE as error:
        raise ValueError(f"damaged: {error}") from error
    return image


def _translated(stored: NDArray[np.uint8], coding: Values | Colours) -> LabelMap:
    """(H, W) values or (H, W, 3) colours as label values; void is 255."""
    if isinstance(coding, Values):
        meant = [one.value for one in coding.classes]
        void = coding.void
    else:
        meant = [_packed(one.colour) for one in coding.classes]
        void = None if coding.void is None else _packed(coding.void)
    known = {code: label for label, code in enumerate(meant)}
    known |= {} if void is None else {void: VOID}
    ascending = np.array(sorted(known), np.int32)
    labels = np.array([known[code] for code in ascending.tolist()], np.uint8)
    translated = np.empty(stored.shape[:2], np.uint8)
    strange = []
    for start in range(0, len(stored), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        codes = _codes(stored[rows])
        place = np.searchsorted(ascending, codes).clip(max=len(ascending) - 1)
        strange.append(codes[ascending[place] != codes])
        translated[rows] = labels[place]
    if any(codes.size for codes in strange):
        raise ValueError(_strange(np.concatenate(strange), coding))
    return translated


def _codes(stored: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(H, W) values as they are, or (H, W, 3) colours as 24 bits."""
    wide = stored.astype(np.int32)
    return wide if wide.ndim == 2 else wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _strange(codes: NDArray[np.int32], coding: Values | Colours) -> str:
    """Names what is of no class, the most frequent first."""
    values, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MAX_CODES_SHOWN]
    named = ", ".join(
        f"{_shown(int(values[index]), coding)} ({counts[index]:,} pixels)" for index in order
    )
    more = len(values) - len(order)
    noun = "value" if isinstance(coding, Values) else "colour"
    rest = f" and {more} more" if more > 0 else ""
    advice = "; were they smoothed or saved as JPEG once?" if more > 0 else ""
    return f"{noun} {named}{rest} of no class in coding.classes and not void{advice}"


def _shown(code: int, coding: Values | Colours) -> str:
    is_value = isinstance(coding, Values)
    return str(code) if is_value else f"[{code >> 16}, {code >> 8 & 255}, {code & 255}]"


def _packed(colour: Sequence[int]) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _is_16_bit(content: bytes) -> bool:
    """Pillow opens a PNG of 16 bits a channel as one of 8 and drops the rest without a word."""
    return content.startswith(_PNG_SIGNATURE) and content[_PNG_BIT_DEPTH] == 16


def _pixels(image: Image.Image, content: bytes) -> str:
    if _is_16_bit(content):
        return "16 bits a channel"
    if image.mode in ("LA", "PA", "RGBA"):
        return f"transparency (mode {image.mode})"
    return f"pixels of mode {image.mode}"


def _turn(image: Image.Image) -> int:
    """EXIF's orientation: 1 as stored, 2 to 4 mirrored or upside down, 5 to 8 on its side."""
    try:
        with warnings.catch_warnings(action="ignore"):
            turn = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE as error:
        raise ValueError(f"has damaged EXIF: {error}") from error
    return turn if turn in range(1, 9) else 1
