"""The `archives`, `voc` and `trainaug` sections of params.yaml."""

import re
from typing import Annotated

from pydantic import Field, field_validator

from pipeline.params import Config

_DIGITS = {"md5": 32, "sha256": 64}
_CHECKSUM = re.compile(r"(?P<address>.+)#(?P<algorithm>[a-z0-9]+)=(?P<digest>[^#]*)")


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


class Archive(Config):
    """One original file.

    Attributes:
        url: https://..., file://..., a path, miniature:NAME?seed=N or random:BACKBONE?seed=N. It
            may end in #md5=<hex> or #sha256=<hex>: a checksum belongs to its address, and goes
            with it when another address is set.
    """

    url: Annotated[str, Field(min_length=1)]

    @field_validator("url")
    @classmethod
    def _is_well_formed(cls, url: str) -> str:
        split_checksum(url)
        return url


class Voc(Config):
    """PASCAL VOC 2012; its key is the archive's name. Nothing about it is ours to set."""


class Trainaug(Config):
    """VOC train with SBD's labels added; its key is the SBD archive's name.

    Attributes:
        expected_images: 10,582 on the originals; another count is an error.
    """

    expected_images: Annotated[int, Field(ge=1)]
