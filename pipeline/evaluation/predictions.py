"""Predicted label maps beside their labels.

A prediction that is missing, or that belongs to no image, is an error: the authors' scripts skip
missing ones with a warning, and a mean over fewer images is a different number.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import label_map
from pipeline.label_map import LabelMap
from pipeline.parallel import map_ahead
from pipeline.splits import Split

_PAIRS_AHEAD = 16


@dataclass(frozen=True)
class Pair:
    """What is true of an image and what was predicted.

    Attributes:
        image_id: its id.
        label: (H, W) true classes, ignore_index where void.
        prediction: (H, W) predicted classes.
        file: the prediction's, for messages.
    """

    image_id: str
    label: LabelMap
    prediction: LabelMap
    file: Path


def check_complete(split: Split, folder: Path) -> None:
    """Checks that the folder has one `<image_id>.png` per image of the split, and nothing else.

    Raises:
        ValueError: a prediction is missing, or a file is none.
    """
    wanted = {f"{image_id}.png" for image_id in split.image_ids}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    if missing := wanted - found:
        raise ValueError(
            f"{folder / min(missing)}: no such prediction; {len(missing)} of the split's "
            f"{len(wanted)} images have none"
        )
    if extra := found - wanted:
        raise ValueError(
            f"{folder / min(extra)}: predicts no image of the split; {len(extra)} such files "
            f"beside the {len(wanted)} that do"
        )


def read(split: Split, folder: Path) -> Iterator[Pair]:
    """Decodes labels and predictions, in the order of the split, some ahead in threads.

    Raises:
        ValueError: a prediction is not an 8-bit palette or grey PNG; names the file.
        TimeoutError: a file was not read within a minute.
    """

    def load(index: int) -> Pair:
        sample = split[index]
        file = folder / f"{sample.image_id}.png"
        try:
            prediction = label_map.decode(file.read_bytes())
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        return Pair(sample.image_id, label_map.decode(sample.label), prediction, file)

    return map_ahead(load, range(len(split)), _PAIRS_AHEAD)
