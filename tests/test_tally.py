import numpy as np
import pyarrow as pa
import pytest

from pipeline.evaluation import tally
from pipeline.evaluation.trimap import counts_by_trimap, per_width, whole
from pipeline.voc import CLASSES

VOID = CLASSES.ignore_index
VOC = {"num_classes": 21, "ignore_index": VOID, "band": "square"}


def random_counts(seed, num_images=3, max_trimap_width=2):
    random = np.random.default_rng(seed)
    planes = random.choice([0, 1, 20, VOID], (num_images, 2, 7, 9)).astype(np.uint8)
    return [
        counts_by_trimap(
            label, np.where(prediction == VOID, 5, prediction), max_trimap_width=2, **VOC
        )
        for label, prediction in planes.astype(np.uint8)
    ]


def tally_of(counts):
    return tally.together([tally.of_image(f"i{n}", c) for n, c in enumerate(counts)])


def test_hits_labels_and_predictions_are_those_counted_by_hand():
    counts = np.zeros((2, 3, 3), np.int64)
    counts[0] = [[4, 1, 0], [2, 3, 0], [0, 0, 0]]
    counts[1] = [[0, 0, 5], [0, 0, 0], [0, 0, 0]]
    made = tally.of_image("a", counts)
    assert made.hits.tolist() == [[[4, 3, 0], [0, 0, 0]]]
    assert made.labelled.tolist() == [[[5, 5, 0], [5, 0, 0]]]
    assert made.predicted.tolist() == [[[6, 4, 0], [0, 0, 5]]]
    intersection, union = made.whole()
    assert (intersection.tolist(), union.tolist()) == ([[4, 3, 0]], [[12, 6, 5]])


def test_intersection_and_union_are_those_of_the_confusion_matrices():
    counts = random_counts(0)
    total = np.sum(counts, axis=0)
    matrices = [*per_width(total), whole(total)]
    intersection, union = (part.sum(axis=0) for part in tally_of(counts).cumulated())
    for index, matrix in enumerate(matrices):
        hits = np.diagonal(matrix)
        assert np.array_equal(intersection[index], hits)
        assert np.array_equal(union[index], matrix.sum(0) + matrix.sum(1) - hits)


def test_a_file_gives_back_what_was_written(tmp_path):
    counts = [*random_counts(1), np.zeros((3, 21, 21), np.int64)]  # the last image is void alone
    written = tally_of(counts)
    for name in ("a", "b"):
        tally.write(tmp_path / name, written, CLASSES)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = tally.read(tmp_path / "a")
    assert found.image_ids == ["i0", "i1", "i2", "i3"]
    for name in ("hits", "labelled", "predicted"):
        assert np.array_equal(getattr(found, name), getattr(written, name))


def test_a_file_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "counts.arrow"
    path.write_bytes(b"no Arrow file at all")
    with pytest.raises(ValueError, match=r"counts\.arrow: not an Arrow file, or a damaged one"):
        tally.read(path)
    table = pa.table({"x": [1]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"counts\.arrow: not counts of a row: .*\['x'\]"):
        tally.read(path)
    tally.write(path, tally_of(random_counts(2)), CLASSES)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"counts\.arrow: not an Arrow file, or a damaged one"):
        tally.read(path)
