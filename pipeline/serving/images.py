"""Pictures as a caller of the served model has them: arrays, encoded bytes, or base64 in JSON.

An MLflow server hands JSON over as a DataFrame, a dictionary, or an array of text or of numbers,
by the key that the request used; callers in Python hand over arrays and bytes.
"""

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.pictures import reading
from pipeline.pixels import MAX_PIXELS

Image = NDArray[np.uint8]

# The one column of a DataFrame, and the one key of a dictionary.
COLUMN = "image"

# How label maps are answered: as arrays, or as palette PNGs in base64. The first is the default.
ENCODINGS = ("array", "png")


def read(request: Any) -> tuple[list[Image], bool]:
    """Takes the pictures out of a request.

    Args:
        request: a picture or several. A picture is an (H, W, 3) array of RGB in 0..255, or an
            encoded file (JPEG, PNG, ...), as bytes or as base64 text. Several are a list of
            pictures, an (N, H, W, 3) array, or a DataFrame with a column "image". A dictionary has
            one picture or several under "image".

    Returns:
        (H, W, 3) uint8 pictures of any sizes, encoded ones turned as they are displayed; and
        whether the request was one picture, not several.

    Raises:
        ValueError: names the picture by its place, from 0 on.
    """
    if isinstance(request, pd.DataFrame):
        request = {name: request[name].tolist() for name in request.columns}
    if isinstance(request, Mapping):
        request = _column(request)
    if isinstance(request, pd.Series) or (
        isinstance(request, np.ndarray) and request.dtype.kind in "USO"
    ):
        request = request.tolist()
    if _is_one(request):
        return [_picture(request, "the image")], True
    if not isinstance(request, Sequence | np.ndarray):
        raise ValueError(f"expected an image or a list of images, found {_kind(request)}")
    if len(request) == 0:
        raise ValueError("expected at least one image, found none")
    return [_picture(one, f"image {place}") for place, one in enumerate(request)], False


def check_encoding(encoding: str) -> None:
    """Raises a ValueError unless it is one of ENCODINGS."""
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding: {encoding!r} is not one of {', '.join(ENCODINGS)}")


def _column(request: Mapping[Any, Any]) -> Any:
    if set(request) != {COLUMN}:
        names = ", ".join(repr(name) for name in request) or "nothing"
        raise ValueError(f"expected {COLUMN!r} alone, found {names}")
    return request[COLUMN]


def _is_one(request: Any) -> bool:
    """Of nested lists of numbers none is taken for a picture: it would be a list of rows."""
    is_encoded = isinstance(request, str | bytes | bytearray | memoryview)
    return is_encoded or (isinstance(request, np.ndarray) and request.ndim != 4)


def _picture(one: Any, place: str) -> Image:
    try:
        if isinstance(one, np.ndarray | list):
            return _pixels(np.asarray(one))
        if isinstance(one, str):
            one = base64.b64decode(one, validate=True)
        if isinstance(one, bytes | bytearray | memoryview):
            return reading.decode(io.BytesIO(one))
    except binascii.Error as error:
        raise ValueError(f"{place}: not base64 text: {error}") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    raise ValueError(f"{place}: expected pixels or an encoded image, found {_kind(one)}")


def _pixels(array: NDArray[Any]) -> Image:
    """Checks pixels; those of JSON are integers of 64 bits."""
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"expected shape (H, W, 3), found {array.shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(f"it has more pixels than the limit of {MAX_PIXELS}")
    if array.dtype.kind not in "iu":
        raise ValueError(f"expected integers in 0..255, found {array.dtype}")
    if array.min() < 0 or array.max() > 255:
        raise ValueError(f"expected integers in 0..255, found {array.min()}..{array.max()}")
    return array.astype(np.uint8, copy=False)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
