"""The `archives`, `voc` and `trainaug` sections of params.yaml."""

import re
import urllib.parse
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from pipeline.params import Config

SCHEMES = ("https", "http", "file", "cityscapes", "miniature", "random")

_DIGITS = {"md5": 32, "sha256": 64}
_CHECKSUM = re.compile(r"(?P<address>.+)#(?P<algorithm>[a-z0-9]+)=(?P<digest>[^#]*)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)")
_GENERATED = re.compile(r"([^?]+)\?seed=([0-9]{1,18})")
# A file name without a folder: it is compared with the site's list, and names a file of ours.
_PACKAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Address(NamedTuple):
    """Where a file is, and what it should be.

    Attributes:
        location: the URL or path, without its checksum.
        scheme: one of SCHEMES, or "" for a path.
        rest: what follows the scheme's colon; the path itself where there is no scheme.
        algorithm: "md5", "sha256", or "" where no checksum is given.
        digest: in hexadecimal, or "".
    """

    location: str
    scheme: str
    rest: str
    algorithm: str
    digest: str


def parse(url: str) -> Address:
    """Takes a URL or path with or without a checksum apart.

    Raises:
        ValueError: an unknown scheme, or an address or checksum of another form.
    """
    if not url.isprintable():
        raise ValueError("an address must be one line of printable characters")
    location, algorithm, digest = split_checksum(url)
    match = _SCHEME.fullmatch(location)
    scheme, rest = (match[1].lower(), match[2]) if match else ("", location)
    _check_form(scheme, rest)
    return Address(location, scheme, rest, algorithm, digest)


def split_checksum(url: str) -> tuple[str, str, str]:
    """Splits a URL into its address, its checksum's algorithm and digest; both empty if none.

    Raises:
        ValueError: a checksum of another form.
    """
    match = _CHECKSUM.fullmatch(url)
    if not match:
        return url, "", ""
    address, algorithm, digest = match.group("address", "algorithm", "digest")
    if not re.fullmatch(f"[0-9a-f]{{{_DIGITS.get(algorithm, 0)}}}", digest):
        raise ValueError("the checksum must be #md5=<32 digits 0-9a-f> or #sha256=<64 digits>")
    return address, algorithm, digest


def name_and_seed(scheme: str, rest: str) -> tuple[str, int]:
    """Takes what follows `miniature:` or `random:` apart.

    Raises:
        ValueError: not of that form.
    """
    match = _GENERATED.fullmatch(rest)
    if not match:
        raise ValueError(f"expected {scheme}:NAME?seed=N, N a whole number of at most 18 digits")
    return match[1], int(match[2])


def _check_form(scheme: str, rest: str) -> None:
    if scheme in ("https", "http"):
        parts = urllib.parse.urlsplit(f"{scheme}:{rest}")
        if not rest.startswith("//") or not parts.hostname or parts.port == 0:
            raise ValueError(f"expected {scheme}://host/path")
    elif scheme == "file":
        parts = urllib.parse.urlsplit(f"file:{rest}")
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ValueError("expected file:///absolute/path")
    elif scheme == "cityscapes":
        if not _PACKAGE.fullmatch(rest):
            raise ValueError("expected cityscapes:FILE, as in cityscapes:gtFine_trainvaltest.zip")
    elif scheme in ("miniature", "random"):
        name_and_seed(scheme, rest)
    elif scheme:
        raise ValueError(
            f"unknown scheme {scheme!r}; known are {', '.join(SCHEMES)}, or a path (./{scheme}:... "
            "if that is one)"
        )


def _checked(url: Any) -> Any:
    """Checks one address or a list of them.

    A union's own errors would come once for each of its types.
    """
    if isinstance(url, str) and url:
        parse(url)
        return url
    if not isinstance(url, list) or not url or not all(isinstance(u, str) and u for u in url):
        raise ValueError("expected an address, or a list of addresses")
    for one in url:
        try:
            parse(one)
        except ValueError as error:
            raise ValueError(f"{one}: {error}") from None
    if len(set(url)) < len(url):
        raise ValueError("lists an address twice")
    return url


class Archive(Config):
    """One original file.

    Attributes:
        url: where it is: https://..., a path, file://..., cityscapes:FILE (with an account),
            miniature:NAME?seed=N or random:BACKBONE?seed=N; or a list of these, tried in order.
            Each may end in #md5=<hex> or #sha256=<hex>: a checksum belongs to its address, and
            goes with it when another address is set.
    """

    url: Annotated[str | list[str], BeforeValidator(_checked)]

    @property
    def addresses(self) -> list[Address]:
        """Its addresses, in the order in which they are tried."""
        return [parse(url) for url in ([self.url] if isinstance(self.url, str) else self.url)]


class Voc(Config):
    """PASCAL VOC 2012; its key is the archive's name. Nothing about it is ours to set."""


class Trainaug(Config):
    """VOC train with SBD's labels added; its key is the SBD archive's name.

    Attributes:
        expected_images: 10,582 on the originals; another count is an error.
    """

    expected_images: Annotated[int, Field(ge=1)]
