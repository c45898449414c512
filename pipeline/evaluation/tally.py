"""What each image adds to the scores: enough for any mIoU of any choice of images, and no more.

An IoU is made of three counts per class, so a confusion matrix per image need not be kept. The file
is one table for pandas: a row for each class of an image within a band, 20 bytes long, where there
is anything to count. The same counts give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.classes import Classes
from pipeline.evaluation.confusion import Counts
from pipeline.files import atomic_file

_COUNTS = ("hits", "labelled", "predicted")
_SCHEMA = pa.schema(
    [
        ("image_id", pa.dictionary(pa.int32(), pa.string())),
        ("narrowest_trimap", pa.int16()),
        ("class", pa.uint8()),
        *((name, pa.int32()) for name in _COUNTS),
    ]
)


@dataclass(frozen=True)
class Tally:
    """Pixel counts of N images, by the narrowest trimap that holds a pixel and by class.

    Attributes:
        image_ids: N ids, in the order of their split.
        hits: (N, D + 1, K) int64, pixels that have their true class; at index w - 1 of the second
            axis those in the trimap of width w and in no narrower one, at index D those in none.
        labelled: (N, D + 1, K), pixels of which a class is the true one.
        predicted: (N, D + 1, K), pixels of which it is the predicted one; void left out.
    """

    image_ids: list[str]
    hits: Counts
    labelled: Counts
    predicted: Counts

    @property
    def max_trimap_width(self) -> int:
        """D."""
        return int(self.hits.shape[1]) - 1

    def up_to(self, max_trimap_width: int) -> "Tally":
        """The same counts with fewer trimaps; pixels of the dropped trimaps count as in none."""
        kept = [
            np.concatenate(
                [
                    counts[:, :max_trimap_width],
                    counts[:, max_trimap_width:].sum(axis=1, keepdims=True),
                ],
                axis=1,
            )
            for counts in (getattr(self, name) for name in _COUNTS)
        ]
        return Tally(self.image_ids, *kept)

    def whole(self) -> tuple[Counts, Counts]:
        """Intersection and union over all scored pixels, (N, K) each."""
        hits = self.hits.sum(axis=1)
        return hits, (self.labelled + self.predicted).sum(axis=1) - hits

    def cumulated(self) -> tuple[Counts, Counts]:
        """Intersection and union in the trimaps 1..D and, last, everywhere, (N, D + 1, K) each."""
        hits = np.cumsum(self.hits, axis=1)
        return hits, np.cumsum(self.labelled + self.predicted, axis=1) - hits


def of_image(image_id: str, counts: Counts) -> Tally:
    """Makes the tally of one image of its (D + 1, K, K) counts, see `trimap`."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return Tally([image_id], hits[None].copy(), counts.sum(axis=2)[None], counts.sum(axis=1)[None])


def together(tallies: Sequence[Tally]) -> Tally:
    """Joins tallies of the same D and K, in their order."""
    return Tally(
        [image_id for tally in tallies for image_id in tally.image_ids],
        *(np.concatenate([getattr(tally, name) for tally in tallies]) for name in _COUNTS),
    )


def write(path: Path, tally: Tally, classes: Classes) -> None:
    """Writes the table, atomically; it carries the classes with it."""
    image, trimap, class_ = np.nonzero(tally.labelled + tally.predicted)
    ids = pa.DictionaryArray.from_arrays(pa.array(image, pa.int32()), pa.array(tally.image_ids))
    columns = [ids, pa.array(trimap + 1, pa.int16()), pa.array(class_, pa.uint8())]
    columns += [
        pa.array(getattr(tally, name)[image, trimap, class_], pa.int32()) for name in _COUNTS
    ]
    schema = _SCHEMA.with_metadata(
        {"classes": classes.to_json(), "max_trimap_width": str(tally.max_trimap_width)}
    )
    with (
        atomic_file(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_batch(pa.record_batch(columns, schema=schema))


def read(path: Path) -> Tally:
    """The inverse of `write`.

    Raises:
        ValueError: not such a file.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        metadata = reader.schema.metadata or {}
        if not reader.schema.equals(_SCHEMA) or not {b"classes", b"max_trimap_width"} <= set(
            metadata
        ):
            raise ValueError(f"{path}: not counts of a row: its columns are {reader.schema.names}")
        table = reader.get_batch(0)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not an Arrow file, or a damaged one: {error}") from error
    image_ids = table.column("image_id").dictionary.to_pylist()
    num_classes = Classes.from_json(metadata[b"classes"].decode()).num_classes
    shape = (len(image_ids), int(metadata[b"max_trimap_width"]) + 1, num_classes)
    place = (
        table.column("image_id").indices.to_numpy(),
        table.column("narrowest_trimap").to_numpy() - 1,
        table.column("class").to_numpy(),
    )
    return Tally(image_ids, *(_dense(table.column(name), place, shape) for name in _COUNTS))


def _dense(
    column: pa.Array, place: tuple[NDArray[np.integer], ...], shape: tuple[int, ...]
) -> Counts:
    counts = np.zeros(shape, np.int64)
    counts[place] = column.to_numpy()
    return counts
