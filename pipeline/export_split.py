"""Writes a split as a folder that looks like VOC's, for tools that read nothing else.

    make export-split SPLIT=data/voc/train.arrow OUT=folder
    python -m pipeline.export_split data/voc/train.arrow FOLDER

JPEGImages/<id>.jpg (or .png), SegmentationClass/<id>.png and ImageSets/Segmentation/<split>.txt;
classes.csv has the name and the colour of each label value. Encoded images are copied byte by byte.
"""

import csv
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from pipeline import command, files, label_map, pixels
from pipeline.classes import Classes
from pipeline.pixels import Encoded
from pipeline.splits import Split

_JPEG = b"\xff\xd8"


def main(split: Path, out: Path) -> None:
    """Writes the folder, whole or not at all."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out}: is there already; expected a new or an empty folder")
    samples = Split(split)
    with files.atomic_folder(out) as folder:
        images, labels, lists = (
            folder / name for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
        )
        for made in (images, labels, lists):
            made.mkdir(parents=True)
        for sample in tqdm(samples, desc=split.stem, total=len(samples), unit=" images"):
            name = _checked_name(split, sample.image_id)
            content, suffix = _image_file(sample.image)
            (images / f"{name}{suffix}").write_bytes(content)
            (labels / f"{name}.png").write_bytes(_label_file(sample.label, samples.classes))
        ids = "".join(f"{image_id}\n" for image_id in samples.image_ids)
        (lists / f"{split.stem}.txt").write_text(ids, encoding="utf-8")
        _write_classes(folder / "classes.csv", samples.classes)


def _checked_name(split: Path, image_id: str) -> str:
    if PurePosixPath(image_id).name != image_id or image_id in ("", ".", ".."):
        raise ValueError(f"{split}: image id {image_id!r} cannot be a file's name")
    return image_id


def _image_file(image: Encoded) -> tuple[bytes, str]:
    """An image's bytes as a file holds them, and the file's suffix."""
    if pixels.view(image) is not None:
        return pixels.png(np.ascontiguousarray(pixels.decode(image))), ".png"
    return bytes(image), ".jpg" if bytes(image[:2]) == _JPEG else ".png"


def _label_file(label: Encoded, classes: Classes) -> bytes:
    if pixels.view(label) is None:
        return bytes(label)
    return label_map.encode(label_map.decode(label), classes)


def _write_classes(path: Path, classes: Classes) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "name", "red", "green", "blue"])
        for value, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
            writer.writerow([value, name, *colour])
        writer.writerow([classes.ignore_index, "void", *label_map.VOID_COLOUR])


if __name__ == "__main__":
    command.run(main)
