"""Reads Cityscapes out of its two archives: one of images, one of label maps in 34 ids.

Images are named leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png, label maps
gtFine/... or gtCoarse/..._labelIds.png; what else the archives hold is passed over. Label maps are
turned into the 19 classes. Those of the test split are not published: the archive has stand-ins
that know the car's bonnet and the frame's border alone, so the whole label map becomes void.

Source: cityscapesScripts, README.md, "Dataset Structure".
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline import label_map
from pipeline.cityscapes import CLASSES, classes_of_ids
from pipeline.originals import mistakes, zip_archive
from pipeline.originals.config import Storage
from pipeline.originals.zip_archive import Member
from pipeline.parallel import map_ahead
from pipeline.splits import Sample, checked_sample, raw

Kind = Literal["gtFine", "gtCoarse"]

# The test split, whose labels nobody may know.
_HIDDEN = "test"
_IMAGES_AHEAD = 4
# City, sequence and frame: what the test server finds a prediction by.
_IMAGE_ID = r"(?P<city>[A-Za-z-]+)_[0-9]{6}_[0-9]{6}"
_IMAGE = re.compile(
    rf"leftImg8bit/(?P<split>\w+)/(?P<folder>[^/]+)/(?P<image_id>{_IMAGE_ID})_leftImg8bit\.png"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One image and its label map.

    Attributes:
        image_id: "aachen_000000_000019".
        image: its member in the archive of images.
        label: the member of its label map in the other.
    """

    image_id: str
    image: str
    label: str


def find_frames(
    images: Path,
    image_members: Mapping[str, Member],
    labels: Path,
    label_members: Mapping[str, Member],
    *,
    kind: Kind,
    expected_images: Mapping[str, int],
) -> dict[str, list[Frame]]:
    """Finds the images of each split by their names, sorted.

    Args:
        images: the archive of images.
        image_members: its index.
        labels: the archive of label maps.
        label_members: its index.
        kind: of the label maps.
        expected_images: how many each split must have; other splits are passed over.

    Raises:
        ValueError: another number of images, or an image without a label map.
    """
    frames: dict[str, list[Frame]] = {split: [] for split in expected_images}
    bad: list[str] = []
    for name in sorted(image_members):
        match = _IMAGE.fullmatch(name)
        if not match or match["split"] not in frames:
            continue
        split, image_id = match["split"], match["image_id"]
        label = f"{kind}/{split}/{match['folder']}/{image_id}_{kind}_labelIds.png"
        if label not in label_members:
            bad.append(f"{labels}: {image_id} has an image, but there is no {label}")
        frames[split].append(Frame(image_id, name, label))
    for split, expected in expected_images.items():
        if len(frames[split]) != expected:
            bad.insert(
                0,
                f"{images}: {split} has {len(frames[split])} images named "
                f"leftImg8bit/{split}/<city>/<id>_leftImg8bit.png, expected_images is {expected}",
            )
    mistakes.check(bad)
    return frames


def samples(
    images: Path,
    image_members: Mapping[str, Member],
    labels: Path,
    label_members: Mapping[str, Member],
    frames: list[Frame],
    *,
    split: str,
    storage: Storage,
    source: str,
    advance: Callable[[], object],
) -> Iterator[Sample]:
    """The samples of a split, in order, with label maps of the 19 classes.

    Args:
        images: the archive of images.
        image_members: its index.
        labels: the archive of label maps.
        label_members: its index.
        frames: of the split, as `find_frames` gives them.
        split: "test" has no labels.
        storage: how images and label maps are held.
        source: what the samples say they are from.
        advance: is called for each image.

    Raises:
        ValueError: images or label maps are not what they should be.
    """

    def pack(frame: Frame) -> Sample | str:
        try:
            image = zip_archive.read(images, frame.image, image_members[frame.image])
            label = zip_archive.read(labels, frame.label, label_members[frame.label])
            classes = _classes(frame, label, split)
            sample = checked_sample(frame.image_id, image, classes, CLASSES, source)
            return raw(sample) if storage == "raw" else sample
        except ValueError as error:
            return str(error)

    return mistakes.collected(map_ahead(pack, frames, _IMAGES_AHEAD), advance)


def _classes(frame: Frame, encoded: bytes, split: str) -> bytes:
    try:
        ids = label_map.decode(encoded)
        label = classes_of_ids(ids)
    except ValueError as error:
        raise ValueError(f"{frame.label}: {error}") from error
    if split == _HIDDEN:
        label = np.full_like(label, CLASSES.ignore_index)
    return label_map.encode(label, CLASSES)
