"""The `archives`, `voc` and `trainaug` sections of params.yaml."""

from typing import Annotated

from pydantic import Field

from pipeline.params import Config


class Archive(Config):
    """One original file.

    Attributes:
        url: https://..., file://..., a path, miniature:NAME?seed=N or random:BACKBONE?seed=N.
        checksum: "md5:<hex>" or "sha256:<hex>", or null where none is published.
    """

    url: Annotated[str, Field(min_length=1)]
    checksum: Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")] | None


class Voc(Config):
    """PASCAL VOC 2012; its key is the archive's name. Nothing about it is ours to set."""


class Trainaug(Config):
    """VOC train with SBD's labels added; its key is the SBD archive's name.

    Attributes:
        expected_images: 10,582 on the originals; another count is an error.
    """

    expected_images: Annotated[int, Field(ge=1)]
