import dataclasses
import gc
import io
import struct

import numpy as np
import packing
import pandas as pd
import pyarrow as pa
import pytest
import synthetic
from PIL import Image

from pipeline import label_map, splits
from pipeline.classes import Classes
from pipeline.data import batches, images
from pipeline.splits import Sample, Split, checked_sample
from pipeline.voc import CLASSES

FEW = Classes(("ground", "thing"), ((0, 0, 0), (1, 2, 3)), 255)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "train.arrow"


def sample(image_id="a", **changes):
    whole = Sample(image_id, b"imag\xff", b"label", 2, 3, [0, 8], [4, 1], "voc2012")
    return dataclasses.replace(whole, **changes)


def test_what_is_written_is_read(path):
    samples = [sample("b", classes=[], pixels_per_class=[]), sample("a", source="sbd", height=5)]
    assert splits.write(path, samples, CLASSES) == 2
    split = Split(path)
    assert list(split) == samples
    assert [split[1], split[0]] == samples[::-1]
    assert (len(split), split.image_ids, split.classes) == (2, ["b", "a"], CLASSES)


def test_a_split_carries_its_own_classes(path):
    splits.write(path, [sample()], FEW)
    assert Split(path).classes == FEW


def test_samples_are_found_across_batches(path, monkeypatch):
    monkeypatch.setattr(splits, "_BATCH_BYTES", 25)  # three samples of ten bytes
    samples = [sample(f"{number:03d}", width=number) for number in range(10)]
    splits.write(path, iter(samples), CLASSES)
    with pa.ipc.open_file(path) as reader:
        assert [reader.get_batch(i).num_rows for i in range(4)] == [3, 3, 3, 1]
    assert list(Split(path)) == samples


def test_the_same_samples_give_the_same_bytes(path):
    splits.write(path, [sample("a"), sample("b")], CLASSES)
    first = path.read_bytes()
    splits.write(path, [sample("a"), sample("b")], CLASSES)
    assert path.read_bytes() == first


def test_bytes_of_any_length_are_found_across_rows_and_batches(path, monkeypatch):
    monkeypatch.setattr(splits, "_BATCH_BYTES", 200)
    samples = [sample(f"{n:02d}", image=bytes([n] * n), label=bytes(3 * n)) for n in range(40)]
    splits.write(path, samples, CLASSES)
    assert list(Split(path)) == samples


def test_pandas_reads_a_split(path):
    splits.write(path, [sample("a"), sample("b", source="sbd")], CLASSES)
    table = pd.read_feather(path)
    assert table["image_id"].tolist() == ["a", "b"]
    assert table["source"].tolist() == ["voc2012", "sbd"]


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_beyond_the_split_is_an_error(path, index):
    splits.write(path, [sample("a"), sample("b")], CLASSES)
    with pytest.raises(IndexError, match=f"sample {index} of a split of 2"):
        Split(path)[index]


def test_an_id_that_occurs_twice_is_an_error_and_leaves_nothing(path):
    with pytest.raises(ValueError, match=r"train\.arrow: image id a occurs twice"):
        splits.write(path, [sample("a"), sample("b"), sample("a")], CLASSES)
    assert list(path.parent.iterdir()) == []


def test_a_split_without_images_is_an_error_and_leaves_nothing(path):
    with pytest.raises(ValueError, match=r"train\.arrow: the split would have no image"):
        splits.write(path, [], CLASSES)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("size", [0, 7, 300, -1])
def test_a_split_cut_short_is_an_error(path, size):
    splits.write(path, [sample()], CLASSES)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"train\.arrow: not an Arrow file, or a damaged one"):
        Split(path)


def test_another_arrow_file_is_an_error(path):
    path.parent.mkdir()
    pd.DataFrame({"speed": [1.0]}).to_feather(path)
    with pytest.raises(ValueError, match=r"not a split: its columns are \['speed'\]"):
        Split(path)


def test_a_missing_split_is_an_error_that_names_it(path):
    with pytest.raises(OSError, match=r"train\.arrow"):
        Split(path)


def test_a_checked_sample_knows_its_size_and_its_classes_without_void():
    label = label_map.encode(np.array([[0, 255, 20], [8, 8, 0]], np.uint8), CLASSES)
    image = packing.jpeg(2, 3)
    expected = Sample("a", image, label, 2, 3, [0, 8, 20], [2, 2, 1], "voc2012")
    assert checked_sample("a", image, label, CLASSES, "voc2012") == expected


def test_the_size_is_that_of_the_stored_pixels_whatever_exif_says_of_orientation():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (3, 2)).save(buffer, "JPEG", exif=exif)
    checked = checked_sample("a", buffer.getvalue(), packing.png(8), CLASSES, "voc2012")
    assert (checked.height, checked.width) == (2, 3)


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (b"none", packing.png(), "^voc2012: a: not an image, or neither JPEG nor PNG$"),
        (packing.jpeg(), b"none", "^voc2012: a: label map is not an image$"),
        (packing.jpeg(), packing.jpeg(), "^voc2012: a: label map has mode RGB"),
        (
            packing.jpeg(4, 5),
            packing.png(),
            r"^voc2012: a: label map is 2x3 pixels \(height x width\), its image 4x5$",
        ),
        (
            packing.jpeg(),
            packing.png(21),
            r"^voc2012: a: label values \[21\] are neither a class \(0\.\.20\) nor void \(255\)$",
        ),
    ],
)
def test_a_sample_that_is_not_right_is_an_error(image, label, message):
    with pytest.raises(ValueError, match=message):
        checked_sample("a", image, label, CLASSES, "voc2012")


def photograph(image_id="a", *, height=6, width=9):
    random = np.random.default_rng(0)
    image = synthetic.jpeg(random.integers(0, 256, (height, width, 3), np.uint8))
    label = label_map.encode(random.integers(0, 21, (height, width), np.uint8), CLASSES)
    return checked_sample(image_id, image, label, CLASSES, "voc2012")


def test_a_raw_sample_has_the_same_pixels_and_is_read_without_a_copy(path):
    encoded = photograph()
    splits.write(path, [splits.raw(encoded)], CLASSES)
    (sample,) = Split(path)
    image, label = images.decode_image(sample), images.decode_label(sample)
    assert np.array_equal(image, images.decode_image(encoded))
    assert np.array_equal(label, images.decode_label(encoded))
    assert not image.flags.writeable
    again = Split(path)
    one, other = (np.frombuffer(again[0].image, np.uint8) for _ in range(2))
    assert np.shares_memory(one, other)  # each copy would have a place of its own
    assert (sample.classes, sample.pixels_per_class) == (encoded.classes, encoded.pixels_per_class)


def test_raw_samples_give_the_batches_of_encoded_ones(path):
    encoded = [photograph("a"), photograph("b", height=12, width=5)]
    options = {"iterations": range(4), "positions": range(2), "seed": 0}
    options |= {"batch_size": 2, "crop_size": 9}
    options |= {"scales": [0.5, 1.0, 2.0], "flip_probability": 0.5}
    drawn = []
    for samples in (encoded, map(splits.raw, encoded)):
        splits.write(path, samples, CLASSES)
        drawn.append(list(batches.training_batches(Split(path), **options)))
    for one, other in zip(*drawn, strict=True):
        assert one.image_ids == other.image_ids
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)


def test_a_sample_outlives_the_split_it_is_from(path):
    splits.write(path, [splits.raw(photograph())], CLASSES)
    image = images.decode_image(next(iter(Split(path))))
    path.unlink()
    gc.collect()
    assert image.sum() > 0


def test_a_damaged_image_cannot_become_raw():
    whole = photograph(height=60, width=90)
    cut = dataclasses.replace(whole, image=whole.image[:-20])
    with pytest.raises(ValueError, match="voc2012: a: not an image, or a damaged one"):
        splits.raw(cut)
    with pytest.raises(ValueError, match="a: image does not decode to 61x90 pixels but to 60x90"):
        splits.raw(dataclasses.replace(whole, height=61))


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "LA", "1", "I;16"])
def test_a_label_map_of_another_mode_is_an_error(mode):
    label = np.zeros((2, 3), np.uint16 if mode == "I;16" else np.uint8)
    encoded = io.BytesIO()
    (Image.fromarray(label) if mode == "I;16" else Image.fromarray(label).convert(mode)).save(
        encoded, "PNG"
    )
    with pytest.raises(ValueError, match=f"^voc2012: a: label map has mode {mode}, not 8-bit"):
        checked_sample("a", packing.jpeg(), encoded.getvalue(), CLASSES, "voc2012")


def test_a_grey_jpeg_is_no_label_map():
    label = synthetic.jpeg(np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="a: label map is a JPEG, which alters label values"):
        checked_sample("a", packing.jpeg(), label, CLASSES, "voc2012")


def test_an_image_that_promises_gigapixels_is_an_error():
    content = bytearray(packing.jpeg())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 60000, 60000)
    with pytest.raises(
        ValueError,
        match="voc2012: a: not a readable image: it has more pixels than the limit of 89478485",
    ):
        checked_sample("a", bytes(content), packing.png(), CLASSES, "voc2012")
