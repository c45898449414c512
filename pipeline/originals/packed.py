"""Packing files as archives; the same files give the same bytes."""

import io
import tarfile
import zipfile
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

File = tuple[str, bytes]

_JPEG_QUALITY = 90
# What is compressed already is stored as it is.
_STORED = (".jpg", ".png")


def tar(files: Iterable[File], modified: int) -> bytes:
    """Packs a plain tar; `modified` is in seconds since 1970."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), modified
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_archive(files: Iterable[File], modified: tuple[int, int, int]) -> bytes:
    """Packs a zip; `modified` is year, month and day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            member = zipfile.ZipInfo(name, (*modified, 0, 0, 0))
            kind = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
            archive.writestr(member, content, kind)
    return buffer.getvalue()


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encodes (H, W, 3) RGB or (H, W) grey pixels."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def png(image: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Encodes (H, W, 4) RGBA, (H, W, 3) RGB or (H, W) grey pixels of 8 or 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
