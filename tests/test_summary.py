import dataclasses

import numpy as np
import packing
import pandas as pd

from pipeline import label_map, splits, summary
from pipeline.splits import Sample, checked_sample
from pipeline.voc import CLASSES


def sample(image_id, rows, source="voc2012"):
    label = np.array(rows, np.uint8)
    image = packing.jpeg(*label.shape)
    return checked_sample(image_id, image, label_map.encode(label, CLASSES), CLASSES, source)


def summarised(path, *samples):
    splits.write(path, samples, CLASSES)
    return summary.summarise(path)


def test_images_and_pixels_are_counted_by_source_and_by_class(tmp_path):
    told = summarised(
        tmp_path / "a.arrow",
        sample("a", [[0, 0, 8], [255, 8, 8]]),
        sample("b", [[0, 15]], source="sbd"),
        sample("c", [[255, 255, 255, 255]]),
    )
    assert told["images"] == 3
    assert told["images_per_source"] == {"sbd": 1, "voc2012": 2}
    assert list(told["images_per_class"]) == list(CLASSES.names)
    assert {k: v for k, v in told["images_per_class"].items() if v} == {
        "background": 2,
        "cat": 1,
        "person": 1,
    }
    assert {k: v for k, v in told["pixels_per_class"].items() if v} == {
        "background": 3,
        "cat": 3,
        "person": 1,
    }
    assert told["void_pixels"] == 5
    assert (told["height"], told["width"]) == ({"min": 1, "max": 2}, {"min": 2, "max": 4})


def test_a_split_of_void_alone_has_no_class(tmp_path):
    told = summarised(tmp_path / "a.arrow", sample("a", [[255, 255]]))
    assert set(told["pixels_per_class"].values()) == {0}
    assert told["void_pixels"] == 2


def test_a_splits_pixels_may_be_more_than_32_bits_hold(tmp_path):
    most = 2**31 - 1
    huge = Sample("a", b"", b"", 1, most, [0], [most], "voc2012")
    told = summarised(tmp_path / "a.arrow", huge, dataclasses.replace(huge, image_id="b"))
    assert told["pixels_per_class"]["background"] == 2 * most
    assert told["void_pixels"] == 0


def test_batches_add_up(tmp_path, monkeypatch):
    samples = [sample(str(number), [[0, number]]) for number in range(1, 6)]
    together = summarised(tmp_path / "a.arrow", *samples)
    monkeypatch.setattr(splits, "_BATCH_BYTES", 1)
    assert summarised(tmp_path / "b.arrow", *samples) == together


def test_pandas_reads_all_columns(tmp_path):
    splits.write(tmp_path / "a.arrow", [splits.raw(sample("a", [[0, 8]]))], CLASSES)
    table = pd.read_feather(tmp_path / "a.arrow")
    assert table["pixels_per_class"][0].tolist() == [1, 1]
    assert table["image"][0].startswith(b"P6\n2 1\n255\n")
