"""One file over HTTP, in as many attempts as it takes, from a server that may be slow or break off.

What came is kept in the cache's partial and goes on from there: HTTP's Range asks for the rest, and
If-Range for the rest of the same file. Where the server has another file by now, knows no ranges or
does not say enough to tell, the file begins anew.

Source: RFC 9110, sections 13.1.5 (If-Range), 14 (ranges), 10.2.3 (Retry-After).
"""

import contextlib
import datetime
import email.utils
import hashlib
import http.client
import random
import re
import ssl
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pydantic
import requests
import urllib3

from pipeline.originals import downloads
from pipeline.originals.downloads import Entry
from pipeline.params import Config

T = TypeVar("T")

# Asks a server for a file; the headers say from where on.
Open = Callable[[dict[str, str]], requests.Response]

_PIECE_BYTES = 1 << 20
# As much as is needed to know a kind of file by: a tar's first header.
_HEAD_BYTES = 512
# 408, 425 and 429 are about the moment, as are most of the server's own failures.
_PASSING = {408, 425, 429, 500, 502, 503, 504}
# The file as it stands on the server: `requests` would unpack a .tgz that is served as gzip.
_AS_IT_STANDS = {"Accept-Encoding": "identity"}
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much patience there is with one address; speeds in bytes per second, times in seconds.

    Attributes:
        attempts: that fail one after the other, without bytes worth counting, before we give up.
        first_pause: before the second attempt; each further pause is twice as long.
        longest_pause: that it grows to.
        longest_retry_after: that a server may ask us to wait.
        connect_timeout: for a connection.
        read_timeout: for a next byte.
        min_speed: an attempt that is slower ends.
        speed_window: over which the speed is taken.
    """

    attempts: int
    first_pause: float
    longest_pause: float
    longest_retry_after: float
    connect_timeout: float
    read_timeout: float
    min_speed: int
    speed_window: float

    @property
    def timeouts(self) -> tuple[float, float]:
        """For `requests`."""
        return self.connect_timeout, self.read_timeout


# Five attempts are 15 s of pauses: as long as a router or a web server takes to come back, and
# short enough to wait for when there is no network at all. The next run goes on in any case.
# At 1 KiB/s VOC would take three weeks: that server is not going to give the file.
LIMITS = Limits(
    attempts=5,
    first_pause=1,
    longest_pause=60,
    longest_retry_after=120,
    connect_timeout=20,
    read_timeout=60,
    min_speed=1024,
    speed_window=60,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """Whom to tell.

    Attributes:
        begin: the bytes that are here already and those of the whole file, if known.
        advance: that so many bytes more are here.
        say: one line for people.
    """

    begin: Callable[[int, int | None], None]
    advance: Callable[[int], None]
    say: Callable[[str], None]


class AttemptError(Exception):
    """An attempt failed in a way that another may not.

    Attributes:
        retry_after: seconds that the server asks to wait, if it does.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        """Keeps what went wrong, and how long the server asks to wait."""
        super().__init__(reason)
        self.retry_after = retry_after


class _Facts(Config):
    """What a server said of a file when its first byte came.

    Attributes:
        source: digest of its address, which may hold a password.
        size: in bytes, if known.
        etag: a strong ETag, or "".
        last_modified: an HTTP date, or "".
    """

    source: str
    size: int | None
    etag: str
    last_modified: str


def download(
    open_: Open, location: str, entry: Entry, *, verified: bool, progress: Progress, limits: Limits
) -> bool:
    """Completes the entry's partial.

    Args:
        open_: asks the server.
        location: the file's address; its ending says of what kind the file must be.
        entry: locked by us.
        verified: whether a checksum will be compared. If so, a partial is completed even where
            nothing but its size tells that the rest is of the same file.
        progress: is told of each piece.
        limits: when to give up.

    Returns:
        Whether the file is pieced together from more than one answer.

    Raises:
        ValueError: the server does not give the file, and will not.
        ConnectionError: it could not be reached, or broke off too often.
        CacheError: the disk is full, or closed to us.
    """
    furthest = _size(entry)

    def attempt() -> bool:
        return _attempt(open_, location, entry, verified, progress, limits)

    def came_further() -> bool:
        nonlocal furthest
        before, furthest = furthest, max(furthest, _size(entry))
        return furthest - before >= limits.min_speed * limits.speed_window

    return not persist(attempt, came_further, progress, limits)


def persist(
    attempt: Callable[[], T], came_further: Callable[[], bool], progress: Progress, limits: Limits
) -> T:
    """Attempts something until it succeeds, with growing pauses.

    Args:
        attempt: raises AttemptError where another attempt may help.
        came_further: whether a failed attempt was worth it, so that patience begins anew.
        progress: is told why there is a pause.
        limits: when to give up.

    Raises:
        ConnectionError: `limits.attempts` failures in a row, or the server asks for more patience.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except AttemptError as error:
            failures = 1 if came_further() else failures + 1
            if failures >= limits.attempts:
                raise ConnectionError(f"{error} ({failures} attempts)") from error
            if (error.retry_after or 0) > limits.longest_retry_after:
                raise ConnectionError(
                    f"{error}, and asks to come back after {error.retry_after:.0f} s"
                ) from error
            pause = _pause(failures, limits) if error.retry_after is None else error.retry_after
            progress.say(f"{error}; trying again in {pause:.1f} s")
            time.sleep(pause)


@contextlib.contextmanager
def reaching() -> Iterator[None]:
    """Turns what the libraries raise on the way to a server and back into our two kinds.

    Raises:
        ValueError: it will be the same next time: a bad address or certificate.
        AttemptError: it may not.
    """
    try:
        yield
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        cause = _root(error)
        reason = " ".join(str(cause).split()) or type(cause).__name__
        lasting = (requests.exceptions.TooManyRedirects, ValueError)
        if isinstance(error, lasting) or isinstance(cause, ssl.SSLCertVerificationError):
            raise ValueError(f"cannot reach it: {reason}") from error
        raise AttemptError(f"the connection failed: {reason}") from error


def refuse(response: requests.Response) -> None:
    """Raises the error of an answer that is not the one wanted.

    Raises:
        ValueError: it will be the same next time.
        AttemptError: it may not.
    """
    reason = f"the server answered {response.status_code} {response.reason}"
    if response.status_code in _PASSING:
        raise AttemptError(reason, _retry_after(response))
    raise ValueError(reason)


def _attempt(
    open_: Open, location: str, entry: Entry, verified: bool, progress: Progress, limits: Limits
) -> bool:
    """Asks once; returns whether this one answer brought the whole file."""
    source = hashlib.sha256(location.encode()).hexdigest()
    facts = _resumable(entry, source, verified)
    here = _size(entry)
    size = facts.size if facts else None
    if facts and size == here:
        return False  # killed between the last byte and its name
    with reaching():
        response = open_(_AS_IT_STANDS | (_range(facts, here, source) if facts else {}))
    with contextlib.closing(response):
        if response.status_code == 206 and facts:
            size = _check_continues(response, facts, here, source, entry)
        elif response.status_code == 416 and facts:
            downloads.discard(entry)
            raise AttemptError("the file on the server is not the one that was begun")
        elif response.status_code == 200:
            facts = None
        else:
            refuse(response)
        pieces = _pieces(response, limits)
        if facts:
            _write(entry, here, size, pieces, progress)
            return False
        head = _read_head(pieces)
        _check_kind(location, head, response.headers.get("Content-Type", ""))
        facts = _facts(response, source)
        _begin(entry, facts)
        _write(entry, 0, facts.size, _chain(head, pieces), progress)
        return True


def _resumable(entry: Entry, source: str, verified: bool) -> _Facts | None:
    """What is known of the partial, if it can be completed from this source."""
    try:
        facts = _Facts.model_validate_json(entry.facts.read_bytes())
    except (OSError, pydantic.ValidationError):
        return None
    here = _size(entry)
    if here == 0 or (facts.size is not None and here > facts.size):
        return None
    same = facts.source == source and (facts.etag or facts.last_modified)
    return facts if verified or same else None


def _range(facts: _Facts, here: int, source: str) -> dict[str, str]:
    headers = {"Range": f"bytes={here}-"}
    validator = facts.etag or facts.last_modified
    return headers | ({"If-Range": validator} if validator and facts.source == source else {})


def _check_continues(
    response: requests.Response, facts: _Facts, here: int, source: str, entry: Entry
) -> int | None:
    """The rest is of the file that was begun, also where the server passed over If-Range.

    Returns:
        The size of the whole file, if known.
    """
    match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    total = int(match[3]) if match and match[3] != "*" else None
    now = _facts(response, source)
    changed = (
        not match
        or int(match[1]) != here
        or (total is not None and int(match[2]) + 1 != total)
        or (facts.size is not None and total is not None and total != facts.size)
        or (facts.source == source and _differ(facts.etag, now.etag))
        or (facts.source == source and _differ(facts.last_modified, now.last_modified))
    )
    if changed:
        downloads.discard(entry)
        raise AttemptError("the file on the server is not the one that was begun")
    return total if facts.size is None else facts.size


def _differ(before: str, now: str) -> bool:
    return bool(before and now and before != now)


def _facts(response: requests.Response, source: str) -> _Facts:
    length = response.headers.get("Content-Length", "")
    etag = response.headers.get("ETag", "")
    return _Facts(
        source=source,
        size=int(length) if re.fullmatch("[0-9]{1,18}", length) else None,
        etag="" if etag.startswith("W/") else etag,  # a weak one does not promise equal bytes
        last_modified=response.headers.get("Last-Modified", ""),
    )


def _begin(entry: Entry, facts: _Facts) -> None:
    """Makes the partial empty; a partial is never there with another file's facts."""
    downloads.discard(entry)
    with downloads.using(entry.partial.parent):
        entry.facts.write_text(facts.model_dump_json(), encoding="utf-8")
        entry.partial.touch()


def _write(
    entry: Entry, here: int, size: int | None, pieces: Iterator[bytes], progress: Progress
) -> None:
    if size is not None:
        downloads.require_space(
            entry.partial.parent,
            size - here,
            f", or set {downloads.VARIABLE} to a folder elsewhere",
        )
    progress.begin(here, size)
    with downloads.using(entry.partial.parent), entry.partial.open("ab") as file:
        for piece in pieces:
            file.write(piece)
            progress.advance(len(piece))
    done = _size(entry)
    if size is not None and done < size:
        raise AttemptError(f"the transfer ended after {done:,} of {size:,} bytes")
    if size is not None and done > size:
        downloads.discard(entry)
        raise AttemptError(f"{done:,} bytes came, {size:,} were announced")


def _pieces(response: requests.Response, limits: Limits) -> Iterator[bytes]:
    """The body as it comes, in pieces of any size.

    Reading full pieces would wait for years on a server that sends a byte a minute.
    """
    since, num_bytes = time.monotonic(), 0
    while piece := _read_piece(response):
        yield piece
        num_bytes += len(piece)
        elapsed = time.monotonic() - since
        if elapsed >= limits.speed_window:
            if num_bytes < limits.min_speed * elapsed:
                raise AttemptError(f"slower than {limits.min_speed:,} bytes per second")
            since, num_bytes = time.monotonic(), 0


def _read_piece(response: requests.Response) -> bytes:
    with reaching():
        piece: bytes = response.raw.read1(_PIECE_BYTES, decode_content=False)
        return piece


def _read_head(pieces: Iterator[bytes]) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (piece := next(pieces, b"")):
        head += piece
    return head


def _chain(head: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from pieces


def _check_kind(location: str, head: bytes, content_type: str) -> None:
    """Refuses what cannot be the file, before it takes the place of what came before.

    Raises:
        ValueError: nothing came, a web page, or not what the address ends in.
    """
    if not head:
        raise ValueError("an empty file came")
    ending, fits = _expected_kind(location, head)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    looks_like_page = start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
    called_page = content_type.lower().startswith("text/html")
    if looks_like_page or (called_page and not ending and b"\0" not in head):
        raise ValueError("a web page came in place of the file")
    if ending and not fits:
        raise ValueError(f"what came is no {ending}: it begins with {head[:8]!r}")


def _expected_kind(location: str, head: bytes) -> tuple[str, bool]:
    """What the address ends in, if we know it, and whether the bytes begin like that."""
    path = location.partition("?")[0].partition("#")[0].lower()
    if path.endswith((".tgz", ".tar.gz")):
        return ".tar.gz", head.startswith(b"\x1f\x8b")
    if path.endswith(".zip"):
        return ".zip", head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
    if path.endswith(".tar"):
        return ".tar", _is_tar_header(head)
    if path.endswith(".safetensors"):  # eight bytes of size, then JSON
        return ".safetensors", head[8:9] == b"{"
    return "", True


def _is_tar_header(head: bytes) -> bool:
    """By its checksum: the oldest tars have no other mark."""
    try:
        tarfile.TarInfo.frombuf(head[:_HEAD_BYTES], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _pause(failures: int, limits: Limits) -> float:
    """Doubles with each failure, with jitter: many who lost a server do not all return at once."""
    pause = min(limits.longest_pause, limits.first_pause * 2.0 ** (failures - 1))
    return pause * random.uniform(0.75, 1.25)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds, from a number of them or a date; None if the server does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    now = datetime.datetime.now(date.tzinfo or datetime.UTC)
    return max(0.0, (date.replace(tzinfo=now.tzinfo) - now).total_seconds())


def _size(entry: Entry) -> int:
    try:
        return entry.partial.stat().st_size
    except FileNotFoundError:
        return 0


def _root(error: BaseException) -> BaseException:
    """What the system or the protocol said first, without the libraries' wrappings."""
    chain = [error]
    while (cause := chain[-1].__context__) is not None:
        chain.append(cause)
    return [e for e in chain if isinstance(e, OSError | http.client.HTTPException)][-1]
