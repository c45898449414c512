"""Finds pictures in a folder and decodes them as a viewer would show them.

Training reads pixels as they are stored, since label maps are drawn over those; a user's picture
has no label map, and is turned as its camera says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline import pixels

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class Picture:
    """A file, and what is on it.

    Attributes:
        file: that it was read from.
        image: (H, W, 3) uint8 RGB, turned as it is displayed; None where it cannot be read.
        mistake: why it cannot be read, else empty.
    """

    file: Path
    image: NDArray[np.uint8] | None
    mistake: str


def find(folder: Path) -> tuple[list[Path], list[Path]]:
    """All files in a folder and the folders in it, in order: those named as pictures, and others.

    Hidden files are neither. Links to folders are followed, but for those to a folder that they are
    in. A folder that may not be read stands among the others itself.

    Raises:
        ValueError: there is no picture, or no folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder of pictures")
    files = sorted(_walk(folder, set()))
    pictures, others = (
        [path for path in files if (path.suffix.lower() in _SUFFIXES) is wanted]
        for wanted in (True, False)
    )
    if not pictures:
        raise ValueError(
            f"{folder}: no picture among its {len(files)} files; pictures are named "
            f"{', '.join(sorted(_SUFFIXES))}"
        )
    return pictures, others


def _walk(folder: Path, above: set[Path]) -> Iterator[Path]:
    place = folder.resolve()
    above = above | {place, *place.parents}
    try:
        paths = list(folder.iterdir())
    except PermissionError:
        yield folder  # as a file that cannot be read
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.resolve() not in above:
                yield from _walk(path, above)
        elif path.is_file() or path.is_symlink():  # of a link that leads nowhere, reading tells
            yield path


def read(file: Path) -> Picture:
    """Decodes a picture; one that cannot be read is no error here, so that others still are."""
    try:
        return Picture(file, decode(file), "")
    except ValueError as error:
        return Picture(file, None, str(error))


def decode(source: Path | BinaryIO) -> NDArray[np.uint8]:
    """Decodes a picture to (H, W, 3) RGB, turned as it is displayed.

    Raises:
        ValueError: it cannot be read, or has too many pixels.
    """
    try:
        with Image.open(source, formats=_FORMATS) as opened:
            return _rgb(ImageOps.exif_transpose(opened))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"it has more pixels than the limit of {pixels.MAX_PIXELS}") from error
    except UnidentifiedImageError as error:  # Pillow's own message names an object in memory
        raise ValueError(f"not a readable picture: none of {', '.join(_FORMATS)}") from error
    # Pillow's decoders give up on damaged bytes with whatever they stumble over.
    except Exception as error:
        raise ValueError(f"not a readable picture: {' '.join(str(error).split())}") from error


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):  # grey of 16 bits or more: white is 65535
        grey = np.asarray(image).astype(np.float64)
        scaled = grey / 257 if image.mode != "F" else grey
        return np.repeat(scaled.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")  # as a page shows it
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))
