"""Finds the files of a user's own data: which belong together, and to which split.

An image and its label map have the same path within their folders, up to suffixes. A file that
should have been used and cannot be is a mistake, never passed over; they are told together.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.originals.config import ByFolders, ByFraction, ByLists, Custom

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
_LABEL_SUFFIXES = {".png"}
# Pictures in other formats are mistakes; files that are none (a readme, Thumbs.db) are passed over.
_OTHER_PICTURES = {".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".tif", ".tiff", ".webp"}

# Label maps and pictures of an image are called by its id, in files whose names may have 255 bytes;
# while they are written, with some more behind it.
_MAX_ID_BYTES = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its label map, as files."""

    image_id: str
    image: Path
    label: Path


@dataclass(frozen=True, slots=True)
class Found:
    """What the folders hold.

    Attributes:
        splits: pairs of "train" and "val".
        mistakes: what is wrong with names, lists and pairs; a line each.
    """

    splits: dict[str, list[Pair]]
    mistakes: list[str]


def find(custom: Custom, images: Path, labels: Path) -> Found:
    """Pairs the files of both folders and deals them out to train and val.

    Args:
        custom: the section.
        images: the folder of images.
        labels: the folder of label maps, and of the lists if there are any.
    """
    mistakes: list[str] = []
    image_suffix, label_suffix = custom.image_suffix, custom.label_suffix
    image_files = _files(
        images, labels, _IMAGE_SUFFIXES, _Suffix("image_suffix", image_suffix), mistakes
    )
    label_files = _files(
        labels, images, _LABEL_SUFFIXES, _Suffix("label_suffix", label_suffix), mistakes
    )
    dealt = _deal(custom, image_files.keys() | label_files.keys(), labels, mistakes)
    splits: dict[str, list[Pair]] = {"train": [], "val": []}
    lonely: list[str] = []
    for split, keys in dealt.items():
        for key in keys:
            if key in image_files and key in label_files:
                pair = Pair(key.replace("/", "--"), image_files[key], label_files[key])
                splits[split].append(pair)
            elif key in image_files:
                wanted = labels / f"{key}{label_suffix}.png"
                lonely.append(f"{image_files[key]}: has no label map {wanted}")
            elif key in label_files:
                wanted = images / f"{key}{image_suffix}.jpg"
                lonely.append(f"{label_files[key]}: has no image {wanted} (or .jpeg, .png)")
            else:
                lonely.append(
                    f"{split}: {key} is listed, but there is no {images / key}{image_suffix}.jpg "
                    f"(or .jpeg, .png); lists name images without their suffixes"
                )
    for folder, files, kind in (
        (images, image_files, "images"),
        (labels, label_files, "label maps"),
    ):
        if not files:
            return Found(splits, [*mistakes, f"{folder}: holds no {kind}"])
    if lonely and not any(splits.values()):
        mistakes.append(
            f"no image has a label map; image_suffix is {image_suffix!r}, label_suffix "
            f"{label_suffix!r}"
        )
    mistakes += lonely
    mistakes += [
        f"{split}: would have no image; {_advice(custom, split)}"
        for split, keys in dealt.items()
        if not keys
    ]
    used = [pair for pairs in splits.values() for pair in pairs]
    mistakes += _long_ids(used) + _equal_ids(used)
    return Found(splits, mistakes)


def falls_into_val(image_id: str, *, val: float, seed: int) -> bool:
    """Whether an image is val: a function of its id and the seed, whatever other images there are.

    A larger share only moves images from train to val.
    """
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < val * 2**64


@dataclass(frozen=True, slots=True)
class _Suffix:
    """What names have before the dot, and the param that says so."""

    param: str
    text: str


def _files(
    folder: Path, other: Path, suffixes: set[str], suffix_of_names: _Suffix, mistakes: list[str]
) -> dict[str, Path]:
    """The files of a folder that have one of the suffixes, by path without both; not `other`'s."""
    found: dict[str, Path] = {}
    for file in _walk(folder, other, mistakes):
        suffix = file.suffix.lower()
        key = unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())
        if not _is_text(key):
            mistakes.append(f"{os.fsencode(file)!r}: name is not UTF-8, or has control characters")
        elif suffix not in suffixes:
            if suffix in _OTHER_PICTURES:
                mistakes.append(f"{file}: {_unfit(suffix, suffixes)}")
        elif not key.endswith(suffix_of_names.text):
            mistakes.append(
                f"{file}: name does not end in {suffix_of_names.param} {suffix_of_names.text!r}"
            )
        elif (key := key.removesuffix(suffix_of_names.text)) in found:
            mistakes.append(f"{file}: {found[key]} has the same name up to its suffix")
        else:
            found[key] = file
    return found


def _walk(folder: Path, other: Path, mistakes: list[str]) -> list[Path]:
    """All files below a folder that are not hidden, in order."""

    def refuse(error: OSError) -> None:
        raise error

    files = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        inner = [Path(place, name) for name in sorted(folders) if not name.startswith(".")]
        mistakes += [
            f"{path}: is a link to a folder, which DVC does not watch"
            for path in inner
            if path.is_symlink()
        ]
        folders[:] = [path.name for path in inner if not path.samefile(other)]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8 (other bytes come as lone surrogates) and fits in one line."""
    return not {"Cc", "Cs"} & {unicodedata.category(character) for character in name}


def _unfit(suffix: str, suffixes: set[str]) -> str:
    if suffixes == _LABEL_SUFFIXES and suffix in _IMAGE_SUFFIXES:
        return "JPEG blurs label values; save label maps as PNG from the start"
    return f"not {' or '.join(sorted(suffixes))}; convert it, or take it out of the folder"


def _deal(
    custom: Custom, keys: Iterable[str], labels: Path, mistakes: list[str]
) -> dict[str, list[str]]:
    """Names of files for each split, in its order."""
    ordered, how = sorted(keys), custom.splits
    if isinstance(how, ByLists):
        return _read_lists(how, labels, mistakes)
    if isinstance(how, ByFolders):
        return {
            split: [key for key in ordered if key.startswith(f"{folder}/")]
            for split, folder in (("train", how.train), ("val", how.val))
        }
    is_val = {key: falls_into_val(key, val=how.val, seed=how.seed) for key in ordered}
    return {
        "train": [key for key in ordered if not is_val[key]],
        "val": [key for key in ordered if is_val[key]],
    }


def _read_lists(how: ByLists, labels: Path, mistakes: list[str]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for split, name in (("train", how.train), ("val", how.val)):
        lists[split] = []
        try:
            text = (labels / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            mistakes.append(f"{labels / name}: {why}")
            continue
        for line in filter(None, map(str.strip, text.splitlines())):
            key = unicodedata.normalize("NFC", line)
            if key in seen:
                where = "twice" if seen[key] == split else "in train and in val"
                mistakes.append(f"{labels / name}: {key} is listed {where}")
                continue
            seen[key] = split
            lists[split].append(key)
    return lists


def _advice(custom: Custom, split: str) -> str:
    how = custom.splits
    if isinstance(how, ByFraction):
        return f"splits.val is {how.val:g}: with so few images take another seed, or lists"
    name = how.train if split == "train" else how.val
    kind = "list" if isinstance(how, ByLists) else "folder"
    return f"{kind} {name} of {custom.labels} has none"


def _long_ids(pairs: Sequence[Pair]) -> list[str]:
    return [
        f"{pair.image}: its id {pair.image_id} has {length} bytes, at most {_MAX_ID_BYTES} are "
        f"taken; shorten names"
        for pair in pairs
        if (length := len(os.fsencode(pair.image_id))) > _MAX_ID_BYTES
    ]


def _equal_ids(pairs: Sequence[Pair]) -> list[str]:
    first: dict[str, Pair] = {}
    return [
        f"{pair.image}: would have the id {pair.image_id} of {first[pair.image_id].image}"
        for pair in pairs
        if first.setdefault(pair.image_id, pair) is not pair
    ]
