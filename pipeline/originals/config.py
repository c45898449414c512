"""The `archives` section of params.yaml and those of the data sources."""

import re
import urllib.parse
from collections.abc import Hashable, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline.classes import Classes
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


class VocTest(Config):
    """VOC 2012 test, without labels; its key is the archive's name, VOC2012test.tar."""


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


Byte = Annotated[int, Field(ge=0, le=255)]
Rgb = Annotated[list[Byte], Field(min_length=3, max_length=3)]
Name = Annotated[str, Field(min_length=1)]
Side = Annotated[int, Field(ge=1)]

# The label value of void in the packed splits, whatever it is in the originals.
VOID = 255
# What a shell or DVC would not take literally between double quotes.
_SPECIAL = re.compile(r"[\"$`\\\n]")


class ValueClass(Config):
    """A class that a label map names by a pixel's value.

    Attributes:
        name: for people.
        value: of its pixels, in a grey label map their brightness, in a palette one their index.
        colour: (red, green, blue) that it is shown in.
    """

    name: Name
    value: Byte
    colour: Rgb


class ColourClass(Config):
    """A class that a label map names by a pixel's colour.

    Attributes:
        name: for people.
        colour: (red, green, blue) of its pixels, and the one that it is shown in.
    """

    name: Name
    colour: Rgb


class Values(Config):
    """Grey or palette label maps.

    Attributes:
        kind: "values".
        void: value of pixels that are neither learned nor scored, or null where there are none.
        classes: in the order of the network's outputs; background is one of them.
    """

    kind: Literal["values"]
    void: Byte | None
    classes: Annotated[list[ValueClass], Field(min_length=2, max_length=VOID)]

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        _check_distinct([one.name for one in self.classes], None, "name")
        _check_distinct([one.value for one in self.classes], self.void, "value")
        return self


class Colours(Config):
    """Label maps in the classes' colours.

    Attributes:
        kind: "colours".
        void: colour of pixels that are neither learned nor scored, or null where there are none.
        classes: in the order of the network's outputs; background is one of them.
    """

    kind: Literal["colours"]
    void: Rgb | None
    classes: Annotated[list[ColourClass], Field(min_length=2, max_length=VOID)]

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        void = None if self.void is None else tuple(self.void)
        _check_distinct([one.name for one in self.classes], None, "name")
        _check_distinct([tuple(one.colour) for one in self.classes], void, "colour")
        return self


class ByFraction(Config):
    """Each image falls into train or val by a hash of its id: no other image has a say in it.

    Attributes:
        kind: "fraction".
        val: share of the images that are val, about.
        seed: of the hash.
    """

    kind: Literal["fraction"]
    val: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: Annotated[int, Field(ge=0)]


class ByFolders(Config):
    """Train and val stand in folders of their own, of the same names for images and label maps.

    Attributes:
        kind: "folders".
        train: name of the folder.
        val: likewise.
    """

    kind: Literal["folders"]
    train: Name
    val: Name


class ByLists(Config):
    """Lists name the images of train and val, one id a line.

    Attributes:
        kind: "lists".
        train: the list's path within the folder of label maps, which DVC watches.
        val: likewise.
    """

    kind: Literal["lists"]
    train: Name
    val: Name

    @field_validator("train", "val")
    @classmethod
    def _is_watched(cls, path: str) -> str:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError("must be a path within the folder of label maps, which DVC watches")
        return path


class Custom(Config):
    """A user's own images and label maps.

    An image and its label map have the same path within their folders, up to suffixes. That path
    is the image's id, with `--` between folder and name.

    Attributes:
        images: folder of .jpg, .jpeg and .png files, and folders of these.
        labels: folder of .png files, and folders of these.
        image_suffix: what the names of images have behind what they share with those of their
            label maps, e.g. "_sat"; or empty.
        label_suffix: the same of label maps, e.g. "_mask"; or empty.
        orientation: "displayed" where label maps fit the images as programs display them, that is
            turned as EXIF says; "stored" where they fit the pixels as they are in the file.
        max_height: of a packed image, pixels; rows that are evaluated on it need as much.
        max_width: likewise.
        larger_images: "shrink" to fit, with their label maps, as they are packed; or "refuse".
        coding: what the pixels of a label map mean.
        splits: which images are train and val.
    """

    images: Name
    labels: Name
    image_suffix: str
    label_suffix: str
    orientation: Literal["displayed", "stored"]
    max_height: Side
    max_width: Side
    larger_images: Literal["shrink", "refuse"]
    coding: Annotated[Values | Colours, Field(discriminator="kind")]
    splits: Annotated[ByFraction | ByFolders | ByLists, Field(discriminator="kind")]

    @field_validator("images", "labels")
    @classmethod
    def _is_a_plain_path(cls, path: str) -> str:
        if _SPECIAL.search(path) or path.startswith("~"):
            raise ValueError('must be a path without ~, $, ", ` and \\')
        return path

    @model_validator(mode="after")
    def _is_two_folders(self) -> Self:
        if PurePosixPath(self.images) == PurePosixPath(self.labels):
            raise ValueError(f"images and labels are one folder, {self.images}; use two")
        return self

    @property
    def table(self) -> Classes:
        """The classes of the packed splits: label values 0..K-1, void 255."""
        return Classes(
            names=tuple(one.name for one in self.coding.classes),
            colours=tuple(
                (one.colour[0], one.colour[1], one.colour[2]) for one in self.coding.classes
            ),
            ignore_index=VOID,
        )


def _check_distinct(codes: Sequence[Hashable], void: Hashable | None, what: str) -> None:
    for index, code in enumerate(codes):
        if code in codes[:index]:
            raise ValueError(f"{what} {code} is of two classes")
    if void is not None and void in codes:
        raise ValueError(f"{what} {void} is of a class and of void")
