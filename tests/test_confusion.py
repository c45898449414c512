import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.evaluation import confusion
from pipeline.evaluation.confusion import confusion_matrix

VOID = 255
THREE = {"num_classes": 3, "ignore_index": VOID}


def plane(rows):
    return np.array(rows, np.uint8)


def confusion_of(label, prediction):
    return confusion_matrix(plane(label), plane(prediction), **THREE)


def counted_pixel_by_pixel(label, prediction):
    counts = np.zeros((3, 3), np.int64)
    for true, predicted in zip(label.flat, prediction.flat, strict=True):
        if true != VOID:
            counts[true, predicted] += 1
    return counts


@st.composite
def label_and_prediction(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=12))
    label = draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, VOID])))
    prediction = draw(arrays(np.uint8, shape, elements=st.integers(0, 2)))
    return label, prediction


def test_rows_are_true_classes_and_columns_predicted_ones():
    assert confusion_of([[0, 0, 1, 2]], [[0, 1, 1, 0]]).tolist() == [
        [1, 1, 0],
        [0, 1, 0],
        [1, 0, 0],
    ]


def test_void_pixels_are_not_scored():
    assert confusion_of([[0, 1, VOID]], [[0, 0, 2]]).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


@given(label_and_prediction())
def test_counts_equal_those_of_a_loop_over_pixels(pair):
    expected = counted_pixel_by_pixel(*pair)
    assert np.array_equal(confusion_matrix(*pair, **THREE), expected)


@st.composite
def runs(draw):
    """Planes that change at few places, each at its own."""
    values = (st.sampled_from([0, 1, 2, VOID]), st.integers(0, 2))
    planes = []
    for value in values:
        plane = np.zeros(40 * 60, np.uint8)
        for place in draw(st.lists(st.integers(0, plane.size - 1), max_size=30)):
            plane[place:] = draw(value)
        planes.append(plane.reshape(40, 60))
    return planes


@given(runs())
def test_counts_of_long_runs_equal_those_of_a_histogram(pair):
    assert confusion._counts_of_runs(*pair, 3) is not None
    expected = confusion.joint_histogram(pair, (3, 3))
    assert np.array_equal(confusion_matrix(*pair, **THREE), expected)


def test_short_runs_are_counted_as_well():
    label = np.indices((20, 30)).sum(axis=0).astype(np.uint8) % 3
    assert confusion._counts_of_runs(label, label, 3) is None
    assert confusion_matrix(label, label, **THREE).tolist() == np.diag([200, 200, 200]).tolist()


@given(label_and_prediction())
def test_counts_do_not_depend_on_memory_layout(pair):
    fortran = tuple(np.asfortranarray(p) for p in pair)
    assert np.array_equal(confusion_matrix(*fortran, **THREE), confusion_matrix(*pair, **THREE))


@given(label_and_prediction())
def test_counts_of_a_part_of_a_larger_map_are_its_own(pair):
    larger = (np.repeat(np.pad(plane[:, ::-1], 1), 2, axis=1) for plane in pair)
    parts = (plane[1:-1, 2:-2:2][:, ::-1] for plane in larger)
    assert np.array_equal(confusion_matrix(*parts, **THREE), counted_pixel_by_pixel(*pair))


def test_every_one_of_255_classes_is_counted():
    values = np.arange(255, dtype=np.uint8).reshape(5, 51)
    counts = confusion_matrix(values, values, num_classes=255, ignore_index=VOID)
    assert np.array_equal(counts, np.eye(255))


def test_counts_stay_exact_where_float32_does_not(monkeypatch):
    monkeypatch.setattr(confusion, "_MAX_EXACT_COUNT", 10)
    for shape in [(8, 3), (1, 24), (24, 1), (2, 12)]:  # 10, 10 and 4 pixels at a time
        zeros = np.zeros(shape, np.uint8)
        assert confusion.joint_histogram([zeros, zeros], (3, 3))[0, 0] == 24


@pytest.mark.parametrize("shape", [(1, (1 << 24) + 3), (4099, 4099)], ids=["one row", "square"])
def test_counts_of_an_image_with_more_pixels_than_float32_can_count_are_exact(shape):
    label = np.zeros(shape, np.uint8)
    label[0, -2:] = 1, VOID
    prediction = np.zeros(shape, np.uint8)
    expected = [[label.size - 2, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert confusion_matrix(label, prediction, **THREE).tolist() == expected  # by runs
    assert confusion.joint_histogram((label, prediction), (3, 3)).tolist() == expected


def test_a_part_has_no_more_pixels_than_float32_can_count():
    assert np.float32(confusion._MAX_EXACT_COUNT) == confusion._MAX_EXACT_COUNT
    assert np.float32(confusion._MAX_EXACT_COUNT) + np.float32(1) == confusion._MAX_EXACT_COUNT


def test_iou_is_hits_over_true_or_predicted():
    # Class 0: 2 hits of 2 true and 3 predicted; class 1: 1 hit of 2 true and 1 predicted.
    counts = confusion_of([[0, 0, 1, 1]], [[0, 0, 0, 1]])
    assert confusion.iou_per_class(counts)[:2].tolist() == [2 / 3, 1 / 2]


def test_a_class_absent_from_label_and_prediction_is_left_out_of_the_mean():
    counts = confusion_of([[0, 0, 1, 1]], [[0, 0, 0, 1]])
    assert math.isnan(confusion.iou_per_class(counts)[2])
    assert confusion.miou(counts) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero():
    assert confusion.miou(confusion_of([[0, 0]], [[0, 2]])) == (1 / 2 + 0) / 2


def test_pixel_accuracy_is_the_share_of_hits():
    assert confusion.pixel_accuracy(confusion_of([[0, 0, 1, VOID]], [[0, 1, 1, 0]])) == 2 / 3


def test_mean_class_accuracy_weighs_the_classes_of_the_label_alike():
    # Class 0: 1 of 3 found; class 1: 1 of 1; class 2 is predicted only.
    counts = confusion_of([[0, 0, 0, 1]], [[0, 1, 2, 1]])
    assert confusion.mean_class_accuracy(counts) == pytest.approx((1 / 3 + 1) / 2)


def test_nothing_counted_has_no_score():
    nothing = np.zeros((3, 3), np.int64)
    assert math.isnan(confusion.miou(nothing))
    assert math.isnan(confusion.pixel_accuracy(nothing))
    assert math.isnan(confusion.mean_class_accuracy(nothing))


@pytest.mark.parametrize(
    ("label", "prediction", "message"),
    [
        ([[0, 1]], [[0], [1]], r"prediction is 2x1 pixels \(height x width\), its label 1x2"),
        ([[0, 1]], [[0, 3]], r"prediction has value 3, which is not a class \(0\.\.2\)"),
        ([[0, VOID]], [[0, VOID]], r"prediction has value 255, which is not a class \(0\.\.2\)"),
        ([[0, 7]], [[0, 1]], r"label has value 7, which is neither a class .* nor void \(255\)"),
    ],
)
@pytest.mark.parametrize("repeats", [1, 50], ids=["short runs", "long runs"])
def test_a_pair_that_does_not_fit_is_refused(label, prediction, message, repeats):
    message = message.replace("1x2", f"1x{2 * repeats}").replace("2x1", f"2x{repeats}")
    with pytest.raises(ValueError, match=message):
        confusion_of(*(np.repeat(plane, repeats, axis=1) for plane in (label, prediction)))
