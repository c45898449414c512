"""The `archives` section of params.yaml and those of the data sources."""

import re
from typing import Annotated, Literal

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


# How a split holds its images: as they came, or as raw pixels, which take 5 to 20 times the room
# and no time to decode.
Storage = Literal["encoded", "raw"]


class Coco(Config):
    """One of COCO's archives of images in VOC's classes; its key is the split's name.

    Attributes:
        images: key of the archive of images: train2017.zip for the paper's pre-training.
        annotations: key of annotations_trainval2017.zip.
        min_annotated_pixels: an image with no more pixels of the 20 classes is left out.
        expected_images: how many are kept, or null; another count is an error.
        storage: how images and label maps are held.
    """

    images: str
    annotations: str
    min_annotated_pixels: Annotated[int, Field(ge=0)]
    expected_images: Annotated[int, Field(ge=1)] | None
    storage: Storage


class CityscapesCounts(Config):
    """How many images each of Cityscapes' own splits has; another count is an error."""

    train: Annotated[int, Field(ge=1)]
    val: Annotated[int, Field(ge=1)]
    test: Annotated[int, Field(ge=1)]


class Cityscapes(Config):
    """Cityscapes, finely annotated.

    Attributes:
        images: key of the archive leftImg8bit_trainvaltest.zip.
        labels: key of the archive gtFine_trainvaltest.zip.
        expected_images: 2975, 500 and 1525 in the originals.
        storage: how images and label maps are held.
    """

    images: str
    labels: str
    expected_images: CityscapesCounts
    storage: Storage


class CityscapesCoarse(Config):
    """Cityscapes, coarsely annotated: its extra images for training.

    Attributes:
        images: key of the archive leftImg8bit_trainextra.zip.
        labels: key of the archive gtCoarse.zip.
        expected_images: 19,998 in the originals.
        storage: how images and label maps are held.
    """

    images: str
    labels: str
    expected_images: Annotated[int, Field(ge=1)]
    storage: Storage
