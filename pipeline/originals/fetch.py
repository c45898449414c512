"""Brings one original file here, from the first of its addresses that gives it, and checksummed.

A downloaded file goes through the download cache, so that it is downloaded once, whatever DVC runs
again; a local file is copied, a miniature is generated. Whatever the scheme, `out` takes its name
only when all of the bytes are here and the checksum is right.
"""

import contextlib
import dataclasses
import hashlib
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import requests

from pipeline import command, files
from pipeline.originals import cityscapes_account, downloads, miniature, transfer
from pipeline.originals.config import Address, Archive, name_and_seed
from pipeline.originals.downloads import CacheError, Entry
from pipeline.originals.transfer import Limits, Open, Progress

_CHUNK_BYTES = 1 << 20
_REMOTE = ("https", "http", "cityscapes")


def save(
    key: str,
    archive: Archive,
    out: Path,
    folder: Path,
    progress: Progress,
    *,
    limits: Limits = transfer.LIMITS,
    cityscapes_site: str = cityscapes_account.SITE,
) -> None:
    """Fetches a file, atomically.

    Args:
        key: the file's name in params.yaml, for messages.
        archive: its addresses and their checksums.
        out: where it goes.
        folder: of the download cache.
        progress: is told how far it is.
        limits: when an address is given up.
        cityscapes_site: where `cityscapes:` leads.

    Raises:
        ValueError: no address gave it, or something else came; a line for each address.
        CacheError: the download cache's disk is full, or closed to us.
    """
    addresses = archive.addresses
    remote = [address for address in addresses if address.scheme in _REMOTE]
    for address in remote:
        if found := downloads.find(folder, address, progress.say):
            _hand_over(key, address, found, out, progress)
            return
    reasons = []
    for address in addresses:
        try:
            if address not in remote:
                _make(address, out, progress)
                return
            file = _download(address, folder, progress, limits, cityscapes_site)
        except CacheError as error:
            raise CacheError(f"archives.{key}: {error}") from error
        except (ValueError, OSError) as error:
            reasons.append(f"{_shown(address.location)}: {_shown(command.describe(error))}")
            if len(addresses) > 1:
                progress.say(reasons[-1])
        else:
            _hand_over(key, address, file, out, progress)
            return
    raise ValueError(_unobtainable(key, reasons, remote))


def _unobtainable(key: str, reasons: list[str], remote: list[Address]) -> str:
    by_hand = f"bring it here in another way and set archives.{key}.url in params.yaml to its path"
    if len(reasons) == 1:
        return f"archives.{key}: {reasons[0]}" + (f"; or {by_hand}" if remote else "")
    first = f"archives.{key}: none of its {len(reasons)} addresses gives it; {by_hand}"
    return "\n  ".join([first, *reasons])


def _hand_over(key: str, address: Address, file: Path, out: Path, progress: Progress) -> None:
    try:
        downloads.hand_over(file, out)
    except CacheError as error:
        raise CacheError(f"archives.{key}: {error}") from error
    if not address.algorithm:
        pin = f"{_shown(address.location)}#sha256={downloads.recorded_sha256(file)}"
        progress.say(f"no checksum is set for it; to hold it to these bytes, pin it: {pin}")


def _download(
    address: Address, folder: Path, progress: Progress, limits: Limits, site: str
) -> Path:
    """Returns the finished file in the cache."""
    entry = downloads.entry(folder, address)
    with downloads.locked(entry, progress.say):
        # Another process may have brought it while we waited.
        found = downloads.find(folder, address, progress.say)
        return found or _obtain(address, entry, progress, limits, site)


def _obtain(address: Address, entry: Entry, progress: Progress, limits: Limits, site: str) -> Path:
    """Downloads into the cache, and compares the checksum of what then is on the disk.

    Where a file is pieced together from several answers, one piece may be of another file: it is
    fetched once more, as a whole, before the address counts as wrong.
    """
    shown = _shown(address.location)
    told = dataclasses.replace(progress, say=lambda line: progress.say(f"{shown}: {line}"))
    open_, algorithm, digest = _source(address, told, limits, site)
    for _ in range(2):
        pieced = transfer.download(
            open_,
            address.rest if address.scheme == "cityscapes" else address.location,
            entry,
            verified=bool(algorithm),
            progress=told,
            limits=limits,
        )
        wanted = {algorithm} if address.algorithm else {algorithm, "sha256"} - {""}
        found = _digests(entry.partial, wanted, told)
        if not algorithm or found[algorithm] == digest:
            return downloads.finish(entry, "" if address.algorithm else found["sha256"])
        downloads.discard(entry)
        wrong = _wrong_checksum(algorithm, found[algorithm], digest)
        if not pieced:
            break
        told.say(f"{wrong}; it came in pieces, so it begins anew")
    raise ValueError(wrong)


def _source(
    address: Address, progress: Progress, limits: Limits, site: str
) -> tuple[Open, str, str]:
    """How to ask for the bytes, and the checksum's algorithm and digest, empty if none."""
    if address.scheme != "cityscapes":

        def ask(headers: dict[str, str]) -> requests.Response:
            return requests.get(
                address.location, headers=headers, stream=True, timeout=limits.timeouts
            )

        return ask, address.algorithm, address.digest
    package = transfer.persist(
        lambda: cityscapes_account.find(address.rest, site, limits),
        lambda: False,
        progress,
        limits,
    )
    checksum = (address.algorithm, address.digest) if address.algorithm else ("md5", package.md5)
    return lambda headers: cityscapes_account.open_(package, site, headers, limits), *checksum


def _make(address: Address, out: Path, progress: Progress) -> None:
    """Copies or generates."""
    with _opened(address) as (size, chunks), files.atomic_file(out) as partial:
        downloads.require_space(partial.parent, size)
        progress.begin(0, size)
        digest = hashlib.new(address.algorithm or "md5", usedforsecurity=False)
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                progress.advance(len(chunk))
        if partial.stat().st_size == 0:
            raise ValueError("the file is empty")
        if address.algorithm and digest.hexdigest() != address.digest:
            raise ValueError(_wrong_checksum(address.algorithm, digest.hexdigest(), address.digest))


@contextlib.contextmanager
def _opened(address: Address) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Yields the size in bytes, and the bytes."""
    if address.scheme in ("miniature", "random"):
        content = _generate(address)
        yield len(content), iter([content])
        return
    path = Path(address.location)
    if address.scheme == "file":
        path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(address.location).path))
    if not path.is_file():
        raise ValueError(
            f"{'a folder' if path.is_dir() else 'no such file'}; expected a file, by its absolute "
            "path or its path from the folder of dvc.yaml (~ is not expanded)"
        )
    with path.open("rb") as file:
        yield path.stat().st_size, iter(lambda: file.read(_CHUNK_BYTES), b"")


def _generate(address: Address) -> bytes:
    name, seed = name_and_seed(address.scheme, address.rest)
    if address.scheme == "miniature":
        return miniature.generate(name, seed)
    from pipeline.originals import random_weights  # torch and timm take seconds to import

    return random_weights.generate(name, seed)


def _digests(path: Path, algorithms: set[str], progress: Progress) -> dict[str, str]:
    """Hexadecimal digests by algorithm, from one pass over the file."""
    progress.say(f"checking {path.stat().st_size:,} bytes")
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            for digest in digests.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _wrong_checksum(algorithm: str, found: str, expected: str) -> str:
    return f"{algorithm} is {found}, expected {expected}: another file, or a damaged one"


def _shown(text: str) -> str:
    """A text without the user names and passwords that addresses in it may hold."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)
