"""What the two test servers take: names, values and sizes, of each file and of the whole.

Source: VOC2012 development kit, "Submission of Results" (comp6: any training data), whose server
rejects PNGs that are not indexed; cityscapesScripts, evalPixelLevelSemanticLabeling.py, which
finds the prediction of an image by its name and wants ids, not the classes of training.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline import cityscapes, label_map, voc
from pipeline.classes import Classes
from pipeline.label_map import LabelMap

_VOC_FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
_VOC_PALETTE = np.array([voc.colour(value) for value in range(256)], np.uint8).tobytes()


@dataclass(frozen=True)
class Server:
    """A test server.

    Attributes:
        name: for messages.
        suffix: of the archive.
        member: gives the name within the archive, of an image id.
        encode: gives the file, of an (H, W) label map of classes.
        mode: Pillow's, of the file: P is indexed, L is grey.
        palette: that it must have, 768 bytes; empty if any will do.
        legal_values: that its pixels may have.
        image_id: pattern of the ids that the server knows.
        num_images: that it scores.
    """

    name: str
    suffix: str
    member: Callable[[str], str]
    encode: Callable[[LabelMap], bytes]
    mode: str
    palette: bytes
    legal_values: frozenset[int]
    image_id: re.Pattern[str]
    num_images: int

    def shortfall(self, num_images: int, place: str) -> str | None:
        """Why it will not take an archive of so many images, of the split `place`, if so."""
        if num_images == self.num_images:
            return None
        return (
            f"{self.name} scores {self.num_images} images, {place} has {num_images}: the server "
            "will not take this archive"
        )


def of_classes(classes: Classes, place: str) -> Server:
    """The server that takes label maps of these classes.

    Raises:
        ValueError: there is none; `place` says what the classes are of.
    """
    for known, server in ((voc.CLASSES, VOC), (cityscapes.CLASSES, CITYSCAPES)):
        if classes.agrees_with(known):
            return server
    raise ValueError(
        f"{place}: no test server takes these {classes.num_classes} classes "
        f"({classes.names[0]}, ...); known are those of VOC 2012 and Cityscapes"
    )


def mistakes_in_file(server: Server, content: bytes, height: int, width: int) -> list[str]:
    """What a server would refuse in one file, or would silently count as wrong.

    Args:
        server: that it is for.
        content: of the file.
        height: of its image, pixels.
        width: likewise.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            mode, size = image.mode, (image.height, image.width)
            palette = image.getpalette("RGB") or []
            values = np.array(image)
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        return [f"not a readable PNG: {error}"]
    if mode != server.mode:
        wanted = "P (indexed)" if server.mode == "P" else "L (grey)"
        return [f"has mode {mode}, expected {wanted}, 8 bits a pixel"]
    found = []
    if size != (height, width):
        found.append(f"is {size[0]}x{size[1]} pixels (height x width), its image {height}x{width}")
    illegal = [int(v) for v in np.unique(values) if int(v) not in server.legal_values]
    if illegal:
        found.append(f"has values {illegal}, which are not what {server.name} takes")
    if server.palette and not _begins(palette, server.palette):
        found.append(f"has another palette than {server.name}'s")
    return found


def _begins(palette: list[int], whole: bytes) -> bool:
    """Whether a palette, which may be cut short, has the server's colours for all classes."""
    return bytes(palette[: 3 * voc.CLASSES.num_classes]) == whole[: 3 * voc.CLASSES.num_classes]


def _encode_cityscapes(label: LabelMap) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(cityscapes.ids_of_classes(label)).save(buffer, "PNG")
    return buffer.getvalue()


VOC = Server(
    name="VOC 2012, comp6",
    suffix=".tgz",
    member=lambda image_id: f"{_VOC_FOLDER}/{image_id}.png",
    encode=lambda label: label_map.encode(label, voc.CLASSES),
    mode="P",
    palette=_VOC_PALETTE,
    legal_values=frozenset(range(voc.CLASSES.num_classes)),
    image_id=re.compile(r"[0-9]{4}_[0-9]{6}"),
    num_images=1456,
)
CITYSCAPES = Server(
    name="Cityscapes, pixel-level semantic labeling",
    suffix=".zip",
    member=lambda image_id: f"{image_id}_labelIds.png",
    encode=_encode_cityscapes,
    mode="L",
    palette=b"",
    legal_values=frozenset(cityscapes.IDS),
    image_id=re.compile(r"[^_/]+_[0-9]{6}_[0-9]{6}"),
    num_images=1525,
)
