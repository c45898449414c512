"""The download cache: what was fetched once, and what is still on its way.

It lies beside the main repository's dvc.yaml, outside of DVC's outs, which DVC deletes before a
stage runs.

A finished file is read-only, is never written again, and is handed over by a hard link where the
file system has them. With `cache.type = hardlink` first, DVC's own copy is then a further name of
the same bytes. That is safe as long as nobody writes into them: we and DVC only ever add names,
take names away or put a new file in a name's place, both keep the bytes read-only, and `dvc
unprotect` makes a copy. An unfinished file has one name, and no link to anything.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import files
from pipeline.originals.config import Address

VARIABLE = "DEEPLAB_DOWNLOADS"

_READ_ONLY = 0o444  # DVC's own mode for what it keeps


class CacheError(OSError):
    """The disk is full or closed to us, which no other address would help."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one download lies.

    Attributes:
        file: the finished file.
        partial: the unfinished one.
        facts: what the server said of the unfinished one.
        sha256: what a finished file that has no published checksum must be, as sha256sum writes it.
        lock: held while the file is fetched.
    """

    file: Path
    partial: Path
    facts: Path
    sha256: Path
    lock: Path


def folder() -> Path:
    """Where downloads are kept: $DEEPLAB_DOWNLOADS, or downloads/ in the main repository."""
    path = Path(os.environ.get(VARIABLE) or "downloads").expanduser()
    return (files.main_repository() / path).resolve()


def entry(folder: Path, address: Address) -> Entry:
    """The entry of a file, by its checksum if it has one: mirrors of one file share it."""
    if address.algorithm:
        return _entry(folder, f"{address.algorithm}-{address.digest}")
    return _entry(folder, _name(address.location))


def find(folder: Path, address: Address, say: Callable[[str], None]) -> Path | None:
    """Finds a finished file, all of its bytes checked again; None if there is none.

    A file that was fetched when no checksum was set for it is found when one is.
    """
    for name in dict.fromkeys([entry(folder, address), _entry(folder, _name(address.location))]):
        algorithm = address.algorithm or "sha256"
        digest = address.digest or recorded_sha256(name.file)
        if not digest or not name.file.is_file():
            continue
        say(f"checking the {algorithm} of {name.file}")
        found = files.digest(name.file, algorithm)
        if found == digest:
            return name.file
        say(f"{name.file} is passed over: its {algorithm} is {found}, expected {digest}")
    return None


@contextlib.contextmanager
def locked(entry: Entry, say: Callable[[str], None]) -> Iterator[None]:
    """Keeps other processes from fetching the same file; waits for one that does."""
    with using(entry.lock.parent):
        entry.lock.parent.mkdir(parents=True, exist_ok=True)
        file = entry.lock.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is fetching it; waiting for that")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def finish(entry: Entry, sha256: str) -> Path:
    """Gives a whole partial the name under which it is found again; returns that.

    Args:
        entry: whose partial is whole.
        sha256: of the partial, where no checksum is published for it; otherwise "".
    """
    with using(entry.file.parent):
        if sha256:
            files.write_text(entry.sha256, f"{sha256}  {entry.file.name}\n")
        files.flush_to_disk(entry.partial)
        entry.partial.replace(entry.file)
        entry.file.chmod(_READ_ONLY)  # not before: a partial must stay open to its rest
        entry.facts.unlink(missing_ok=True)
    return entry.file


def recorded_sha256(file: Path) -> str:
    """What a finished file was when it came; "" where that is not recorded."""
    try:
        text = file.with_name(f"{file.name}.sha256").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    match = re.match(r"[0-9a-f]{64}(?=  )", text)
    return match[0] if match else ""


def discard(entry: Entry) -> None:
    """Removes an unfinished file."""
    with using(entry.partial.parent):
        entry.partial.unlink(missing_ok=True)
        entry.facts.unlink(missing_ok=True)


def hand_over(file: Path, out: Path) -> None:
    """Puts a finished file at `out`, atomically: linked, or copied where it cannot be."""
    out.parent.mkdir(parents=True, exist_ok=True)
    link = out.with_name(f".{out.name}.{os.getpid()}.partial")
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(file)
        link.replace(out)
    except OSError:  # another file system, or one without links, or another user's file
        require_space(out.parent, file.stat().st_size)
        with files.atomic_file(out) as partial:
            shutil.copyfile(file, partial)
    finally:
        link.unlink(missing_ok=True)  # `replace` leaves it where `out` is a link to the same file


def require_space(folder: Path, num_bytes: int, advice: str = "") -> None:
    """Compares what is to come with what is free.

    Args:
        folder: where it goes.
        num_bytes: of it.
        advice: what can be done besides freeing some space.

    Raises:
        CacheError: it does not fit; says how much is free, and on which file system.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise CacheError(
            f"{folder}: {num_bytes:,} bytes are to come, {free:,} are free on the file system "
            f"mounted at {_mount(folder)}; free some{advice}"
        )


@contextlib.contextmanager
def using(folder: Path) -> Iterator[None]:
    """Turns what the system says of a cache it cannot write to into one line.

    Raises:
        CacheError: the disk is full, or the folder is closed to us.
    """
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheError(
                f"{folder}: {error.strerror} on the file system mounted at {_mount(folder)}; what "
                "came is kept, and the next run goes on from there"
            ) from error
        raise CacheError(
            f"{folder}: no place for downloads: {error.strerror or error}; set {VARIABLE} to a "
            "folder that can be written to"
        ) from error


def _entry(folder: Path, name: str) -> Entry:
    file = folder / name
    suffixes = (".partial", ".json", ".sha256", ".lock")
    return Entry(file, *(file.with_name(name + suffix) for suffix in suffixes))


def _name(location: str) -> str:
    """A file name for an address: its own last part, told from others' by a digest."""
    try:
        path = urllib.parse.urlsplit(location).path
    except ValueError:  # a path may be anything, as "//[", which is no address
        path = location
    path = urllib.parse.unquote(path).rstrip("/")
    last = re.sub(r"[^A-Za-z0-9._-]", "_", path.rpartition("/")[2])[-100:]
    return f"{hashlib.sha256(location.encode()).hexdigest()[:16]}-{last}"


def _mount(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.is_mount() or p == p.parent)
