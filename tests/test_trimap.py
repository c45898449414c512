import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.evaluation import trimap
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.trimap import _narrowest_trimap, counts_by_trimap

VOID = 255
THREE = {"num_classes": 3, "ignore_index": VOID}


def square(width):
    """strel('square', 2w + 1) of the authors' script."""
    return np.ones((2 * width + 1, 2 * width + 1), np.uint8)


def disc(width):
    across = np.arange(-width, width + 1)
    return (across**2 + across[:, None] ** 2 <= width**2).astype(np.uint8)


def dilated_once_per_width(label, prediction, max_trimap_width, element=square):
    """The authors' script, step by step: imdilate(gt == 255, ...) without gt == 255."""
    matrices = []
    for width in range(1, max_trimap_width + 1):
        void = (label == VOID).astype(np.uint8)
        in_band = (cv2.dilate(void, element(width)) == 1) & (label != VOID)
        banded = np.where(in_band, label, VOID).astype(np.uint8)
        matrices.append(confusion_matrix(banded, prediction, **THREE))
    return np.array(matrices)


@st.composite
def label_and_prediction(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=24))
    rare_void = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2, 2, VOID])
    label = draw(arrays(np.uint8, shape, elements=rare_void, fill=st.sampled_from([0, VOID])))
    prediction = draw(arrays(np.uint8, shape, elements=st.integers(0, 2)))
    return label, prediction


def blobs(seed, height=150, width=200):
    """A label of a few large blocks with a void outline, and a prediction that is off by some."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 3, (3, 4)).astype(np.uint8)
    label = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    prediction = np.roll(label, (2, 3), (0, 1))
    outline = cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    return np.where(outline, VOID, label).astype(np.uint8), prediction


def test_the_narrowest_trimap_is_the_chessboard_distance_to_void():
    label = np.zeros((4, 5), np.uint8)
    label[0, 0] = VOID
    narrowest = _narrowest_trimap(label != VOID, "square", 3)
    assert narrowest[1:].tolist() == [[0, 0, 1, 2, 3], [1, 1, 1, 2, 3], [2, 2, 2, 2, 3]]


def test_counts_of_one_row_are_those_made_by_hand():
    label = np.array([[VOID, 0, 1, 1, 2]], np.uint8)
    prediction = np.array([[0, 0, 0, 1, 1]], np.uint8)
    counts = counts_by_trimap(label, prediction, band="square", max_trimap_width=2, **THREE)
    assert counts[0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]  # distance 1
    assert counts[1].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]  # distance 2
    assert counts[2].tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]  # further away


@given(label_and_prediction(), st.integers(1, 12))
def test_every_width_equals_a_dilation_of_its_own(pair, max_trimap_width):
    counts = counts_by_trimap(*pair, band="square", max_trimap_width=max_trimap_width, **THREE)
    expected = dilated_once_per_width(*pair, max_trimap_width)
    assert np.array_equal(trimap.per_width(counts), expected)


@given(label_and_prediction(), st.integers(1, 12))
def test_every_euclidean_width_equals_a_dilation_by_its_own_disc(pair, max_trimap_width):
    counts = counts_by_trimap(*pair, band="euclidean", max_trimap_width=max_trimap_width, **THREE)
    expected = dilated_once_per_width(*pair, max_trimap_width, disc)
    assert np.array_equal(trimap.per_width(counts), expected)


def test_forty_euclidean_widths_equal_forty_dilations():
    pair = blobs(3)
    counts = counts_by_trimap(*pair, band="euclidean", max_trimap_width=40, **THREE)
    assert np.array_equal(trimap.per_width(counts), dilated_once_per_width(*pair, 40, disc))


def test_euclidean_distances_are_exact_up_to_the_widest_trimap_there_can_be():
    label = np.zeros((256, 256), np.uint8)
    label[0, 0] = VOID
    narrowest = _narrowest_trimap(label != VOID, "euclidean", 255).astype(int)
    squares = np.arange(256)[:, None] ** 2 + np.arange(256) ** 2
    inside = narrowest < 255
    inside[0, 0] = False
    assert ((narrowest[inside]) ** 2 < squares[inside]).all()
    assert (squares[inside] <= (narrowest[inside] + 1) ** 2).all()
    assert (squares[narrowest == 255] > 255**2).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_forty_widths_equal_forty_dilations(seed):
    pair = blobs(seed)
    counts = counts_by_trimap(*pair, band="square", max_trimap_width=40, **THREE)
    assert np.array_equal(trimap.per_width(counts), dilated_once_per_width(*pair, 40))


@given(label_and_prediction(), st.integers(1, 12))
def test_all_bins_together_are_the_confusion_matrix(pair, max_trimap_width):
    counts = counts_by_trimap(*pair, band="square", max_trimap_width=max_trimap_width, **THREE)
    assert np.array_equal(trimap.whole(counts), confusion_matrix(*pair, **THREE))


@given(label_and_prediction(), st.sampled_from(["square", "euclidean"]))
def test_counts_do_not_depend_on_memory_layout(pair, band):
    sweep = {"band": band, "max_trimap_width": 8, **THREE}
    expected = counts_by_trimap(*pair, **sweep)
    larger = (np.pad(plane, 3, constant_values=VOID) for plane in pair)
    parts = [plane[3:-3, 3:-3] for plane in larger]
    mirrored = [np.ascontiguousarray(plane[:, ::-1])[:, ::-1] for plane in pair]
    for planes in (map(np.asfortranarray, pair), parts, mirrored):
        assert np.array_equal(counts_by_trimap(*planes, **sweep), expected)


@pytest.mark.parametrize("max_trimap_width", [1, 2, 39, 41, 64, 128, 129, 200, 254, 255])
@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (40, 300)])
def test_every_width_there_can_be_is_the_chessboard_distance(shape, max_trimap_width):
    rng = np.random.default_rng(max_trimap_width)
    label = np.where(rng.random(shape) < 2 / (shape[0] * shape[1]), VOID, 0).astype(np.uint8)
    label[0, 0] = VOID
    rows, columns = np.indices(shape)
    outlines = np.argwhere(label == VOID)
    distances = [np.maximum(abs(rows - y), abs(columns - x)) for y, x in outlines]
    expected = np.minimum(np.min(distances, axis=0) - 1, max_trimap_width)
    narrowest = _narrowest_trimap(label != VOID, "square", max_trimap_width)
    scored = label != VOID
    assert narrowest.dtype == np.uint8
    assert np.array_equal(narrowest[scored], expected[scored])


@pytest.mark.parametrize(
    ("band", "beside_void"), [("square", [190, 191, 254]), ("euclidean", [191, 254])]
)
def test_every_one_of_255_classes_is_counted(band, beside_void):
    values = np.arange(256, dtype=np.uint8).reshape(4, 64)
    prediction = np.minimum(values, 254).astype(np.uint8)
    counts = counts_by_trimap(
        values, prediction, num_classes=255, ignore_index=VOID, band=band, max_trimap_width=40
    )
    assert np.array_equal(trimap.whole(counts), np.eye(255))
    assert trimap.per_width(counts)[0].nonzero()[0].tolist() == beside_void


def test_counts_of_an_image_with_more_pixels_than_float32_can_count_are_exact():
    label = np.zeros((4097, 4100), np.uint8)
    label[0, 0] = VOID
    counts = counts_by_trimap(label, label * 0, band="square", max_trimap_width=2, **THREE)
    assert counts[:, 0, 0].tolist() == [3, 5, label.size - 9]


@given(label_and_prediction())
@settings(max_examples=30)
def test_a_trimap_holds_every_narrower_one(pair):
    widths = trimap.per_width(counts_by_trimap(*pair, band="square", max_trimap_width=8, **THREE))
    assert (np.diff(widths, axis=0) >= 0).all()


def test_an_image_without_void_is_in_no_trimap():
    label = np.zeros((3, 4), np.uint8)
    counts = counts_by_trimap(label, label, band="square", max_trimap_width=5, **THREE)
    assert counts[5, 0, 0] == 12
    assert counts.sum() == 12


def test_an_image_of_void_alone_counts_nothing():
    label = np.full((3, 4), VOID, np.uint8)
    assert not counts_by_trimap(label, label * 0, band="square", max_trimap_width=5, **THREE).any()


@pytest.mark.parametrize("side", [300, 9000])
def test_distances_are_exact_up_to_the_widest_trimap_there_can_be(side):
    label = np.zeros((1, side), np.uint8)
    label[0, 0] = VOID
    narrowest = _narrowest_trimap(label != VOID, "square", 255)
    assert narrowest[0, 1:256].tolist() == list(range(255))
    assert (narrowest[0, 256:] == 255).all()


def test_a_pair_that_does_not_fit_is_refused():
    label = np.zeros((2, 2), np.uint8)
    bad_label, bad_prediction = label + np.uint8(7), label + np.uint8(9)
    with pytest.raises(ValueError, match="prediction has value 9"):
        counts_by_trimap(label, bad_prediction, band="square", max_trimap_width=1, **THREE)
    with pytest.raises(ValueError, match="label has value 7"):
        counts_by_trimap(bad_label, label, band="square", max_trimap_width=1, **THREE)
    with pytest.raises(ValueError, match="prediction has value 9"):  # at void pixels too
        counts_by_trimap(
            np.full_like(label, VOID), bad_prediction, band="square", max_trimap_width=1, **THREE
        )
    with pytest.raises(ValueError, match="prediction is 2x2 pixels"):
        counts_by_trimap(label[:1], label, band="square", max_trimap_width=1, **THREE)
