"""A split of a data set as one Arrow IPC file: written as a stream, read through a memory map.

DVC and file systems are slow with 100,000 small files; this is one. It keeps the original image
bytes untouched and carries the table of classes, so it needs nothing beside it, and
`pandas.read_feather` reads it too. The same samples give the same bytes.

One file is enough whatever its size: rows stand in batches of some 16 MiB, each found by an offset
of 64 bits, and mapped memory is the page cache's, not the process's. A split whose images are slow
to decode can hold raw pixels instead (`raw`), of which a reader touches what it crops.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import label_map, pixels
from pipeline.classes import Classes
from pipeline.files import atomic_file
from pipeline.pixels import Encoded

# Rows are written when this much has gathered: bounds memory, whatever the split's size.
_BATCH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image.

    Attributes:
        image_id: unique in its split; names the predicted label map.
        image: encoded image as it stood in the original archive, or raw pixels, see `pixels`.
        label: encoded or raw (height, width) label map, see `label_map`.
        height: of image and label, pixels.
        width: of image and label, pixels.
        classes: label values that occur, void left out, ascending.
        pixels_per_class: how many pixels have each of these values; the rest is void.
        source: an archive that it is from, e.g. "voc2012"; of "sbd" where that has the label.
    """

    image_id: str
    image: Encoded
    label: Encoded
    height: int
    width: int
    classes: list[int]
    pixels_per_class: list[int]
    source: str


_FIELDS = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", pa.binary()),
        ("label", pa.binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("classes", pa.list_(pa.uint8())),
        ("pixels_per_class", pa.list_(pa.int32())),
        ("source", pa.string()),
    ]
)


def checked_sample(
    image_id: str, image: bytes, label: bytes, classes: Classes, source: str
) -> Sample:
    """Makes a sample of an image and its label map, checking what later stages rely on.

    Raises:
        ValueError: either is no image, their sizes differ, or a label value is neither a class
            nor void.
    """
    try:
        height, width = pixels.size(image)
        values = label_map.decode(label)
    except ValueError as error:
        raise ValueError(f"{source}: {image_id}: {error}") from error
    if values.shape != (height, width):
        raise ValueError(
            f"{source}: {image_id}: label map is {values.shape[0]}x{values.shape[1]} pixels "
            f"(height x width), its image {height}x{width}"
        )
    counts = np.bincount(values.ravel(), minlength=256)
    illegal = label_map.illegal_counts(counts, classes)
    if illegal:
        raise ValueError(
            f"{source}: {image_id}: label values {illegal} are neither a class "
            f"(0..{classes.num_classes - 1}) nor void ({classes.ignore_index})"
        )
    present = np.flatnonzero(counts[: classes.num_classes])
    return Sample(
        image_id, image, label, height, width, present.tolist(), counts[present].tolist(), source
    )


def raw(sample: Sample) -> Sample:
    """The same sample with its image and its label map as raw pixels.

    Raises:
        ValueError: the image is damaged, or not of the size its header gave.
    """
    place = f"{sample.source}: {sample.image_id}"
    try:
        image = pixels.decode(sample.image)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if image.shape[:2] != (sample.height, sample.width):
        raise ValueError(
            f"{place}: image does not decode to {sample.height}x{sample.width} pixels but to "
            f"{image.shape[0]}x{image.shape[1]}"
        )
    label = label_map.decode(sample.label)
    return replace(sample, image=pixels.raw(image), label=pixels.raw(label))


def write(path: Path, samples: Iterable[Sample], classes: Classes) -> int:
    """Writes a split, atomically and in bounded memory.

    Returns:
        The number of samples written.

    Raises:
        ValueError: no sample, or an image_id twice.
    """
    schema = _FIELDS.with_metadata({"classes": classes.to_json()})
    seen: set[str] = set()
    with atomic_file(path) as partial, pa.OSFile(str(partial), "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for rows in _batches(samples):
                for row in rows:
                    if row.image_id in seen:
                        raise ValueError(f"{path}: image id {row.image_id} occurs twice")
                    seen.add(row.image_id)
                arrays = [pa.array([getattr(row, f.name) for row in rows], f.type) for f in schema]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        if not seen:
            raise ValueError(f"{path}: the split would have no image")
    return len(seen)


class Split:
    """A split file, opened. Cheap to open and safe to share between threads.

    Attributes:
        classes: what its label values mean.
        image_ids: all ids, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        """Maps the file into memory.

        Raises:
            ValueError: not a split, or one written in another layout.
        """
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            if not reader.schema.equals(_FIELDS) or b"classes" not in (
                reader.schema.metadata or {}
            ):
                raise ValueError(f"{path}: not a split: its columns are {reader.schema.names}")
            self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: not an Arrow file, or a damaged one: {error}") from error
        self._ends = list(accumulate(batch.num_rows for batch in self._batches))
        self.classes = Classes.from_json(reader.schema.metadata[b"classes"].decode())
        self.image_ids = [i for b in self._batches for i in b.column("image_id").to_pylist()]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a split of {len(self)}")
        batch = bisect_right(self._ends, index)
        row = index - (self._ends[batch - 1] if batch else 0)
        columns = self._batches[batch]
        return Sample(*(_value(columns.column(field.name), row) for field in fields(Sample)))

    def require_within(self, height: int, width: int) -> None:
        """Raises a ValueError that names the first image that is larger than this, if there is one.

        Looks at sizes alone, of all images at once: before a training, not in its midst.
        """
        first = 0
        for batch in self._batches:
            heights, widths = (np.asarray(batch.column(name)) for name in ("height", "width"))
            larger = np.flatnonzero((heights > height) | (widths > width))
            if larger.size:
                sample = self[first + int(larger[0])]
                raise ValueError(
                    f"{sample.source}: {sample.image_id}: image of {sample.height}x{sample.width} "
                    f"pixels is larger than the nominal size {height}x{width}: raise height and "
                    f"width of the row's inference, or of the model's validation"
                )
            first += batch.num_rows

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def spread(num_images: int, num_chosen: int) -> list[int]:
    """Evenly spaced indices, ascending: the middles of `num_chosen` equal parts, or all images."""
    num_chosen = min(num_images, num_chosen)
    return [(2 * part + 1) * num_images // (2 * num_chosen) for part in range(num_chosen)]


def _value(column: pa.Array, row: int) -> Any:
    """A value as Python knows it; bytes as a view of the mapped file.

    Arrow's own way to a single value copies it: 1.6 ms for the pixels of Cityscapes.
    """
    if not pa.types.is_binary(column.type):
        return column[row].as_py()
    _, offsets, content = column.buffers()
    first = column.offset + row
    start, end = np.frombuffer(offsets, np.int32)[first : first + 2].tolist()
    return memoryview(content)[start:end].cast("B")  # Arrow's bytes are signed, Python's are not


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    rows: list[Sample] = []
    size = 0
    for sample in samples:
        rows.append(sample)
        size += len(sample.image) + len(sample.label)
        if size >= _BATCH_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
