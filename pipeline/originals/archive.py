"""Reading original archives as they are: tar and tar.gz, as streams, never extracted.

A plain tar can be read in any order once its headers are known (`index`, `read`). A compressed
one can only be read from its start to its end (`stream`), as often as needed. Neither holds more
than one member's content in memory. Only regular files count: links and the like are passed over.
"""

import contextlib
import gzip
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

# First bytes of what is handed over in place of a tar.
_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"PK": "a zip archive",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"<": "a web page",
}

# What one member may hold in memory; the originals' images have some hundred kilobytes.
_MAX_MEMBER_BYTES = 256 << 20

# An id becomes a file name later on, so it must not lead out of a folder.
_IMAGE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member's bytes stand in a plain tar."""

    offset: int
    size: int


def index(path: Path) -> dict[str, Member]:
    """Finds all members of a plain tar in one pass over its headers.

    Raises:
        ValueError: compressed, no tar, damaged, or two members of one name.
    """
    if _begins(path).startswith(_GZIP):
        raise ValueError(f"{path}: is gzip-compressed; expected a plain tar")
    with path.open("rb") as file:
        return {
            name: Member(member.offset_data, member.size)
            for name, member, _ in _members(path, file)
        }


def read(path: Path, member: Member) -> bytes:
    """Reads one member of a plain tar.

    Raises:
        ValueError: larger than memory should hold.
    """
    check_size(path, f"the member at byte {member.offset}", member.size)
    with path.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def stream(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of the wanted members in the archive's order, to its very end.

    Args:
        path: a tar or tar.gz.
        wanted: says of a name, without a leading "./", whether that member is read.

    Raises:
        ValueError: no tar, damaged, or two members of one name; perhaps only after the last
            member, where gzip keeps its checksum.
    """
    compressed = _begins(path).startswith(_GZIP)
    with path.open("rb") as raw, gzip.open(raw) if compressed else raw as file:
        for name, member, tar in _members(path, cast(IO[bytes], file)):
            if wanted(name):
                check_size(path, name, member.size)
                with _named(path):
                    content = cast(IO[bytes], tar.extractfile(member)).read()
                yield name, content
        with _named(path):
            while file.read(1 << 20):  # only at its end does gzip compare its checksum
                pass


def read_ids(content: bytes, place: str) -> list[str]:
    """Reads a list of image ids, one a line.

    Args:
        content: of the list.
        place: names the list in errors.

    Raises:
        ValueError: no id, a line that is none, or an id twice.
    """
    lines = (line.strip() for line in content.decode("utf-8", "replace").splitlines())
    image_ids = [line for line in lines if line]
    if not image_ids:
        raise ValueError(f"{place}: lists no image")
    seen: set[str] = set()
    for image_id in image_ids:
        if not _IMAGE_ID.fullmatch(image_id):
            raise ValueError(f"{place}: {image_id!r} is not an image id")
        if image_id in seen:
            raise ValueError(f"{place}: {image_id} is listed twice")
        seen.add(image_id)
    return image_ids


def member_name(path: Path, name: str) -> str:
    """A member's name in its plainest form, without a leading "./".

    Nothing is ever extracted; yet what tries to leave its archive is not what was asked for.

    Raises:
        ValueError: absolute, or leads out of the archive.
    """
    plain = posixpath.normpath(name)
    if plain.startswith("/") or plain.split("/")[0] == "..":
        raise ValueError(f"{path}: member {name!r} leads out of the archive")
    return plain


def check_size(path: Path, name: str, size: int) -> None:
    """Raises a ValueError if a member is larger than memory should hold."""
    if size > _MAX_MEMBER_BYTES:
        raise ValueError(
            f"{path}: {name} has {size} bytes, more than the limit of {_MAX_MEMBER_BYTES}"
        )


def _members(path: Path, file: IO[bytes]) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
    """Yields regular files by name, with their tar to read them from."""
    seen: set[str] = set()
    with _named(path), tarfile.open(fileobj=file, mode="r:", tarinfo=_StrictTarInfo) as tar:
        while (member := tar.next()) is not None:
            if member.size < 0:  # would send TarFile backwards, round and round
                raise tarfile.ReadError(f"{member.name} has size {member.size}")
            if not member.isreg() or member.issparse():
                continue
            name = member_name(path, member.name)
            if name in seen:
                raise ValueError(f"{path}: member {name} occurs twice")
            seen.add(name)
            yield name, member, tar


class _StrictTarInfo(tarfile.TarInfo):
    """TarFile takes a damaged header in the middle for the end of the archive; this does not."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):
                raise  # a proper end: a block of zeros, or no more blocks
            raise tarfile.ReadError(str(error)) from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns what tarfile and gzip raise on bad bytes into one kind of error that names the file."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not a tar archive, or a damaged one: {error}") from error


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(8)
    for magic, kind in _OTHERS.items():
        if start.startswith(magic):
            raise ValueError(f"{path}: not a tar archive but {kind}; it begins with {start!r}")
    return start
