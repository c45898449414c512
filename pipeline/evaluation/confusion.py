"""Confusion matrices and the scores read off them: mIoU, the paper's only one (Sec. 4), and others.

A confusion matrix is summed over all images first and divided once at the end, as the VOC devkit
does; the mean of per-image IoUs is a different number. Label maps are made of long runs of equal
pixels: to count runs takes a third of the time of counting pixels. Where they are not, OpenCV's
histogram of 8-bit planes takes half the time of `numpy.bincount`.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.label_map import LabelMap

Counts = NDArray[np.int64]

# OpenCV returns counts as float32, which holds each whole number up to this one.
_MAX_EXACT_COUNT = 1 << 24
# Of shorter runs, on average, a histogram of the pixels is faster.
_MIN_RUN_LENGTH = 12


def confusion_matrix(
    label: LabelMap, prediction: LabelMap, *, num_classes: int, ignore_index: int
) -> Counts:
    """Counts pixels by (true class, predicted class), void pixels left out.

    Args:
        label: (H, W) true classes in [0, num_classes), or ignore_index where void.
        prediction: (H, W) predicted classes in [0, num_classes), at void pixels too.
        num_classes: K, background included.
        ignore_index: label value that is not scored, num_classes at least.

    Returns:
        (K, K) pixel counts; row is the true class, column the predicted one.

    Raises:
        ValueError: shapes differ, or a value is neither a class nor void.
    """
    check_shapes(label, prediction)
    by_value = _counts_of_runs(label, prediction, num_classes)
    if by_value is None:
        by_value = joint_histogram((label, prediction), (256, num_classes))
    counts = by_value[:num_classes]
    if counts.sum() + by_value[ignore_index].sum() < label.size:
        check_values(label, prediction, num_classes=num_classes, ignore_index=ignore_index)
    return counts


def check_shapes(label: LabelMap, prediction: LabelMap) -> None:
    """Raises a ValueError unless the two have the same height and width."""
    if label.shape != prediction.shape:
        raise ValueError(
            f"prediction is {_size(prediction)} pixels (height x width), its label {_size(label)}"
        )


def check_values(
    label: LabelMap, prediction: LabelMap, *, num_classes: int, ignore_index: int
) -> None:
    """Raises a ValueError for a value that is neither a class nor, in the label, void."""
    if prediction.max(initial=0) >= num_classes:
        raise ValueError(
            f"prediction has value {prediction.max()}, which is not a class (0..{num_classes - 1})"
        )
    illegal = label[(label >= num_classes) & (label != ignore_index)]
    if illegal.size:
        raise ValueError(
            f"label has value {illegal[0]}, which is neither a class (0..{num_classes - 1}) "
            f"nor void ({ignore_index})"
        )


def joint_histogram(planes: Sequence[LabelMap], sizes: Sequence[int]) -> Counts:
    """Counts the pixels of each combination of values.

    Args:
        planes: (H, W) uint8 each, up to three; a pixel counts where all its values are in range.
        sizes: for each plane the number of its values, which count from 0.

    Returns:
        Counts of shape `sizes`.
    """
    counts = np.zeros(sizes, np.int64)
    ranges = [float(bound) for size in sizes for bound in (0, size)]
    flat = [np.ravel(plane) for plane in planes]
    for start in range(0, flat[0].size, _MAX_EXACT_COUNT):
        parts = [plane[start : start + _MAX_EXACT_COUNT] for plane in flat]
        histogram = cv2.calcHist(parts, range(len(planes)), None, sizes, ranges)
        counts += histogram.reshape(sizes).astype(np.int64)
    return counts


def _counts_of_runs(label: LabelMap, prediction: LabelMap, num_classes: int) -> Counts | None:
    """Counts pixels by (value of the label, predicted class), as runs of equal pixels.

    Returns:
        (256, num_classes) counts, without pixels whose prediction is no class; or None where runs
        are so short that a histogram is faster.
    """
    pairs = cv2.merge([label, prediction]).view(np.uint16).ravel()
    changes = pairs[1:] != pairs[:-1]
    if np.count_nonzero(changes) * _MIN_RUN_LENGTH > pairs.size:
        return None
    ends = np.append(np.flatnonzero(changes), pairs.size - 1)
    lengths = np.diff(ends, prepend=-1)
    true, predicted = pairs[ends].view(np.uint8).reshape(-1, 2).T
    lengths[predicted >= num_classes] = 0
    places = true * np.int64(num_classes) + np.minimum(predicted, num_classes - 1)
    # Sums of float64, which are exact up to 2 ** 53 pixels.
    sums = np.bincount(places, weights=lengths, minlength=256 * num_classes)
    counts: Counts = sums.astype(np.int64).reshape(256, num_classes)
    return counts


def iou_per_class(counts: Counts) -> NDArray[np.float64]:
    """(K,) true positives / (true or predicted) of a (K, K) confusion matrix; NaN where neither."""
    hits = np.diagonal(counts)
    return divided(hits, counts.sum(axis=1) + counts.sum(axis=0) - hits)


def miou(counts: Counts) -> float:
    """Mean IoU over the classes that occur in label or prediction; NaN where nothing was counted.

    A class that occurs in neither has no IoU: to count it as 0 or 1 would tell of the data alone.
    """
    return mean_of_defined(iou_per_class(counts))


def pixel_accuracy(counts: Counts) -> float:
    """Share of the scored pixels that have their true class; NaN where nothing was counted."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else math.nan


def mean_class_accuracy(counts: Counts) -> float:
    """Mean over the classes that occur in the label of the share of their pixels that was found."""
    return mean_of_defined(divided(np.diagonal(counts), counts.sum(axis=1)))


def divided(part: Counts, whole: Counts) -> NDArray[np.float64]:
    """Quotients of two arrays of counts; NaN where the whole is 0."""
    quotients = np.full(part.shape, np.nan)
    np.divide(part, whole, out=quotients, where=whole > 0)
    return quotients


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Mean of the values that are not NaN; NaN where all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _size(plane: LabelMap) -> str:
    return "x".join(str(side) for side in plane.shape)
