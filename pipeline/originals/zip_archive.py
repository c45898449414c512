"""Reading original zip archives as they are: members by their place, never extracted.

A zip ends in a directory of its members, which is all that `index` reads. A member is then read
with one look at the file, so many threads can read at once, and its bytes are compared with the
directory's size and checksum. Only regular files count: links and folders are passed over.

Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification", 4.3.7 and 4.4.
"""

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.originals import archive

_CHUNK_BYTES = 1 << 20

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
# Type bits of a Unix mode, which stand in the upper half of a member's attributes.
_TYPE_MASK, _REGULAR = 0o170000, (0, 0o100000)


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member stands in a zip, and what it must turn out to be.

    Attributes:
        offset: of its local header.
        stored_size: bytes in the archive.
        size: bytes after decompression.
        checksum: CRC-32 of these.
        deflated: whether it is compressed.
    """

    offset: int
    stored_size: int
    size: int
    checksum: int
    deflated: bool


def index(path: Path) -> dict[str, Member]:
    """Finds all members of a zip in its directory, in the order of their bytes.

    Raises:
        ValueError: no zip, cut short, encrypted, compressed in a rare way, two members of one
            name, or a name that leads out of the archive.
    """
    with _named(path), path.open("rb") as file:
        _check_beginning(path, file)
        with zipfile.ZipFile(file) as opened:
            infos = sorted(opened.infolist(), key=lambda info: info.header_offset)
    num_bytes = path.stat().st_size
    members: dict[str, Member] = {}
    for info in infos:
        if info.is_dir() or (info.external_attr >> 16) & _TYPE_MASK not in _REGULAR:
            continue
        name = archive.member_name(path, info.filename)
        if name in members:
            raise ValueError(f"{path}: member {name} occurs twice")
        if not 0 <= info.header_offset < num_bytes:
            raise ValueError(f"{path}: {name} stands outside of the file: not a zip, or cut short")
        members[name] = _member(path, name, info)
    return members


def read(path: Path, name: str, member: Member) -> bytes:
    """Reads one member.

    Raises:
        ValueError: damaged, or larger than memory should hold.
    """
    archive.check_size(path, name, member.size)
    return b"".join(_chunks(path, name, member))


@contextlib.contextmanager
def opened(path: Path, name: str, member: Member) -> Iterator[IO[bytes]]:
    """Opens one member of any size as a stream, read from its start to its end.

    Raises:
        ValueError: damaged; perhaps only at its end, where its checksum is compared.
    """
    with io.BufferedReader(_Stream(_chunks(path, name, member)), _CHUNK_BYTES) as stream:
        yield stream


def _member(path: Path, name: str, info: zipfile.ZipInfo) -> Member:
    if info.flag_bits & _ENCRYPTED:
        raise ValueError(f"{path}: {name} is encrypted")
    if info.compress_type not in _METHODS:
        raise ValueError(
            f"{path}: {name} is compressed by method {info.compress_type}, which is neither "
            "stored (0) nor deflate (8)"
        )
    return Member(
        info.header_offset,
        info.compress_size,
        info.file_size,
        info.CRC,
        info.compress_type == zipfile.ZIP_DEFLATED,
    )


def _chunks(path: Path, name: str, member: Member) -> Iterator[bytes]:
    """Yields a member's content; ends in an error unless it is of the size and checksum told."""
    size, checksum = 0, 0
    with path.open("rb") as file:
        file.seek(member.offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
            raise ValueError(f"{path}: {name} is damaged: it has no header where it should begin")
        _, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        file.seek(name_size + extra_size, io.SEEK_CUR)
        stored = _limited(file, member.stored_size)
        for chunk in _inflated(path, name, stored) if member.deflated else stored:
            size += len(chunk)
            if size > member.size:
                raise ValueError(f"{path}: {name} is larger than the {member.size} bytes it tells")
            checksum = zlib.crc32(chunk, checksum)
            yield chunk
    if size != member.size or checksum != member.checksum:
        raise ValueError(
            f"{path}: {name} is damaged: {size} bytes with checksum {checksum:08x}, expected "
            f"{member.size} with {member.checksum:08x}"
        )


def _limited(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(size, _CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk


def _inflated(path: Path, name: str, stored: Iterator[bytes]) -> Iterator[bytes]:
    """Decompresses in pieces of at most a chunk, whatever a few bytes would swell to."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in stored:
            while chunk and not decompressor.eof:
                yield decompressor.decompress(chunk, _CHUNK_BYTES)
                chunk = decompressor.unconsumed_tail
        while rest := decompressor.decompress(b"", _CHUNK_BYTES):
            yield rest
    except zlib.error as error:
        raise ValueError(f"{path}: {name} is damaged: {error}") from error


class _Stream(io.RawIOBase):
    """Chunks of bytes as a file to read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _check_beginning(path: Path, file: IO[bytes]) -> None:
    """A zip need not begin with a member, but the originals do, and other things are named."""
    start = file.read(8)
    if not start.startswith(b"PK"):
        what = "it is empty" if not start else f"it begins with {start!r}"
        raise ValueError(f"{path}: not a zip archive: {what}")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what zipfile raises on bad bytes into one kind of error that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a member's name is not UTF-8: {error}") from error
    except (zipfile.BadZipFile, NotImplementedError, struct.error, OverflowError) as error:
        raise ValueError(f"{path}: not a zip archive, or one cut short: {error}") from error
