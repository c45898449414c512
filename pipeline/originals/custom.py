"""Reads a user's own data: folders of images, and of label maps in values or colours of their own.

Every file is read before anything is written, and mistakes are told together. Image bytes are
handed on untouched, save where an image is larger than is wanted, or EXIF turns one that its label
map fits as displayed: later stages take pixels as they are stored, so that image is shrunk and
turned here and stored as PNG.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline import label_map
from pipeline.label_map import LabelMap
from pipeline.originals import custom_pixels
from pipeline.originals.config import Custom
from pipeline.originals.custom_files import Found, Pair
from pipeline.splits import Sample, checked_sample

T = TypeVar("T")

_MAX_MISTAKES_SHOWN = 20  # of names, and of what is in the files: neither hides the other


@dataclass(frozen=True, slots=True)
class Checked:
    """A label map that fits its image.

    Attributes:
        label: encoded, in label values of the packed split.
        height: of label map and image as they are packed, pixels.
        width: likewise.
        is_shrunk: whether the files' are larger.
        counts: (256,) pixels of each label value.
    """

    label: bytes
    height: int
    width: int
    is_shrunk: bool
    counts: NDArray[np.int64]


def check(custom: Custom, found: Found, pairs: Iterable[Pair]) -> dict[str, Checked]:
    """Reads every image and label map once.

    Args:
        custom: the section.
        found: by `find`.
        pairs: all of both splits.

    Returns:
        Label maps by image id; encoded, all of them fit in memory.

    Raises:
        ValueError: with a line for each mistake, those of `found` first.
    """
    mistakes: list[str] = []
    checked: dict[str, Checked] = {}
    for pair in pairs:
        size = _told(
            mistakes, pair.image, lambda content: custom_pixels.image_size(custom, content)
        )
        label = _told(
            mistakes, pair.label, lambda content: custom_pixels.label_values(custom, content)
        )
        if size is None or label is None:
            continue
        if label.shape != size:
            mistakes.append(f"{pair.label}: {_unequal(custom, pair, label, size)}")
            continue
        fitting = custom_pixels.fitting(custom, *size)
        label = custom_pixels.shrunk_label(label, *fitting)
        checked[pair.image_id] = Checked(
            label_map.encode(label, custom.table),
            *fitting,
            is_shrunk=fitting != size,
            counts=np.bincount(label.ravel(), minlength=256),
        )
    if not found.mistakes and not mistakes:
        mistakes = _void_splits(custom, found, checked)
    number = len(found.mistakes) + len(mistakes)
    if number:
        count = "1 mistake" if number == 1 else f"{number} mistakes"
        lines = [*_first(found.mistakes, "names"), *_first(mistakes, "files")]
        raise ValueError("\n".join([f"{count} in the data, nothing is packed:", *lines]))
    return checked


def samples(
    custom: Custom, pairs: Iterable[Pair], checked: Mapping[str, Checked], source: str
) -> Iterator[Sample]:
    """Yields the samples of these pairs, in this order.

    Args:
        custom: the section.
        pairs: of one split.
        checked: by `check`.
        source: what the samples say they are from.
    """
    for pair in pairs:
        one = checked[pair.image_id]
        image = custom_pixels.packed(custom, pair.image.read_bytes(), one.height, one.width)
        yield checked_sample(pair.image_id, image, one.label, custom.table, source)


def describe(custom: Custom, found: Found, checked: Mapping[str, Checked]) -> list[str]:
    """Says in lines for people what was found: how many images, how large, how much of what."""
    sizes = ", ".join(f"{split} {len(pairs):,}" for split, pairs in found.splits.items())
    height = max(one.height for one in checked.values())
    width = max(one.width for one in checked.values())
    lines = [f"images: {sizes}; up to {height} high and {width} wide"]
    if num_shrunk := sum(one.is_shrunk for one in checked.values()):
        limits = f"max_height x max_width, {custom.max_height}x{custom.max_width}"
        lines.append(f"shrunk to fit {limits}: {num_shrunk:,} of {len(checked):,} images")
    shares = {split: _shares(custom, pairs, checked) for split, pairs in found.splits.items()}
    for index, name in enumerate(custom.table.names):
        in_splits = ", ".join(f"{100 * shares[split][index]:.2f} % of {split}" for split in shares)
        lines.append(f"pixels of {name}: {in_splits}")
    return lines


def _first(mistakes: Sequence[str], what: str) -> list[str]:
    more = len(mistakes) - _MAX_MISTAKES_SHOWN
    return [*mistakes[:_MAX_MISTAKES_SHOWN], *([f"and {more} more {what}"] if more > 0 else [])]


def _told(mistakes: list[str], file: Path, read: Callable[[bytes], T]) -> T | None:
    """What `read` makes of a file's content; None where that is a mistake, which is noted."""
    try:
        content = file.read_bytes()
        if not content:
            raise ValueError("is empty, 0 bytes")
        return read(content)
    except OSError as error:
        mistakes.append(f"{file}: {error.strerror or error}")
    except ValueError as error:
        mistakes.append(f"{file}: {error}")
    return None


def _unequal(custom: Custom, pair: Pair, label: LabelMap, size: tuple[int, int]) -> str:
    sizes = "is {}x{} pixels (height x width), its image {}x{}".format(*label.shape, *size)
    try:
        is_turned = custom_pixels.is_on_its_side(pair.image.read_bytes())
    except ValueError:  # damaged EXIF, which is no matter where it is not used
        is_turned = False
    if label.shape != size[::-1] or not is_turned:
        return sizes
    other = "stored" if custom.orientation == "displayed" else "displayed"
    return (
        f"{sizes} as {custom.orientation}; EXIF turns that image: is the label map drawn on it as "
        f"{other}? See orientation"
    )


def _void_splits(custom: Custom, found: Found, checked: Mapping[str, Checked]) -> list[str]:
    num_classes = custom.table.num_classes
    return [
        f"{split}: all pixels of all {len(pairs)} label maps are void"
        for split, pairs in found.splits.items()
        if not any(checked[pair.image_id].counts[:num_classes].any() for pair in pairs)
    ]


def _shares(
    custom: Custom, pairs: Sequence[Pair], checked: Mapping[str, Checked]
) -> NDArray[np.float64]:
    """(K,) shares of the classes in the pixels that are not void."""
    counts = np.sum([checked[pair.image_id].counts for pair in pairs], axis=0)
    of_classes = counts[: custom.table.num_classes]
    shares: NDArray[np.float64] = of_classes / of_classes.sum()
    return shares
