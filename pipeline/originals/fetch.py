"""Brings one original file here, by its URL: downloaded, copied or generated, and checksummed.

Whatever the scheme, the bytes pass through once, in chunks, are hashed on the way, and take the
file's name only when all of them are here and the checksum is right.
"""

import contextlib
import hashlib
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
import urllib3

from pipeline import files
from pipeline.originals import miniature
from pipeline.originals.config import Archive, split_checksum

# Called after each chunk with the bytes that are here and the bytes to come in all, if known.
Report = Callable[[int, int | None], None]

# The number of bytes to come, if known, and the bytes.
_Source = tuple[int | None, Iterator[bytes]]

_CHUNK_BYTES = 1 << 20
# Seconds to connect, and to wait for a next byte.
_TIMEOUTS = (20, 60)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_GENERATED = re.compile(r"([^?]+)\?seed=([0-9]{1,18})")


def save(key: str, archive: Archive, out: Path, report: Report) -> None:
    """Fetches a file, atomically.

    Args:
        key: the file's name in params.yaml, for messages.
        archive: its address and checksum.
        out: where it goes.
        report: is told of the progress.

    Raises:
        ValueError: the address is none, nothing is there, or what came is not what it should be.
        ConnectionError: the server cannot be reached, or fell silent.
    """
    address, algorithm, expected = split_checksum(archive.url)
    digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
    done = 0
    with _opened(key, address) as (size, chunks), files.atomic_file(out) as partial:
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                if digest:
                    digest.update(chunk)
                done += len(chunk)
                report(done, size)
        if done == 0 or (size is not None and done != size):
            raise ValueError(
                f"archives.{key}: {address}: {done} bytes came, expected {size or 'some'}"
            )
        if digest and digest.hexdigest() != expected:
            raise ValueError(
                f"archives.{key}: {address}: {algorithm} is {digest.hexdigest()}, expected "
                f"{expected}: another file, or a damaged one"
            )


@contextlib.contextmanager
def _opened(key: str, url: str) -> Iterator[_Source]:
    match = _SCHEME.fullmatch(url)
    scheme, rest = (match[1].lower(), match[2]) if match else ("", url)
    if scheme in ("http", "https"):
        with _http(key, url) as source:
            yield source
    elif scheme in ("", "file"):
        path = _file_url_path(key, url) if scheme else Path(url)
        with _local(key, path) as source:
            yield source
    elif scheme in ("miniature", "random"):
        content = _generate(key, url, scheme, rest)
        yield len(content), iter([content])
    else:
        raise ValueError(
            f"archives.{key}.url: {url}: unknown scheme {scheme!r}; known are https, http, file, "
            "miniature, random, or a path"
        )


@contextlib.contextmanager
def _http(key: str, url: str) -> Iterator[_Source]:
    by_hand = f"; or fetch it in another way and set archives.{key}.url in params.yaml to its path"
    # The file as it stands on the server: `requests` would unpack a .tgz that is served as gzip.
    headers = {"Accept-Encoding": "identity"}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS)
    except requests.exceptions.RequestException as error:
        raise ConnectionError(
            f"archives.{key}: cannot reach {url}: {_root_cause(error)}{by_hand}"
        ) from error
    with response:
        if response.status_code != 200:
            raise ValueError(
                f"archives.{key}: {url}: the server answered {response.status_code} "
                f"{response.reason}{by_hand}"
            )
        length = response.headers.get("Content-Length", "")
        yield int(length) if length.isdecimal() else None, _http_chunks(key, url, response)


def _http_chunks(key: str, url: str, response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.raw.stream(_CHUNK_BYTES, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionError(
            f"archives.{key}: {url}: the transfer broke off: {_root_cause(error)}"
        ) from error


@contextlib.contextmanager
def _local(key: str, path: Path) -> Iterator[_Source]:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise ValueError(
            f"archives.{key}.url: {path}: {what}; expected a file, by its absolute path or its "
            "path from the folder of dvc.yaml (~ is not expanded)"
        )
    with path.open("rb") as file:
        yield path.stat().st_size, iter(lambda: file.read(_CHUNK_BYTES), b"")


def _file_url_path(key: str, url: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ValueError(f"archives.{key}.url: {url}: expected file:///absolute/path")
    return Path(urllib.request.url2pathname(parts.path))


def _generate(key: str, url: str, scheme: str, rest: str) -> bytes:
    match = _GENERATED.fullmatch(rest)
    if not match:
        raise ValueError(
            f"archives.{key}.url: {url}: expected {scheme}:NAME?seed=N, N a whole number of at "
            "most 18 digits"
        )
    name, seed = match[1], int(match[2])
    try:
        if scheme == "miniature":
            return miniature.generate(name, seed)
        from pipeline.originals import random_weights  # torch and timm take seconds to import

        return random_weights.generate(name, seed)
    except ValueError as error:
        raise ValueError(f"archives.{key}.url: {url}: {error}") from error


def _root_cause(error: BaseException) -> str:
    """The first of a chain of errors: what the system said, without the libraries' wrappings."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__
