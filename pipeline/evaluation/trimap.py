"""Scores in a narrow band around object boundaries, the trimap of Sec. 4.4 and Fig. 5.

The trimap of width w is the void pixels of the label dilated by a square of side 2w + 1, without
the void pixels themselves: the pixels at a chessboard distance of at most w from void. The
authors dilate once per width; here every pixel's distance gives its narrowest trimap, one joint
histogram counts them all, and a cumulative sum over widths gives the same counts. A Euclidean band,
the void pixels dilated by a disc of radius w, takes about three times as long.

Source: `MyVOCevalsegBoundary.m` and its driver, the DeepLab authors' evaluation scripts (2016),
which sweep w = 1..40 on VOC 2012 val with the square.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.config import Band
from pipeline.evaluation.confusion import (
    Counts,
    check_shapes,
    check_values,
    confusion_matrix,
    joint_histogram,
)
from pipeline.label_map import LabelMap


def counts_by_trimap(
    label: LabelMap,
    prediction: LabelMap,
    *,
    num_classes: int,
    ignore_index: int,
    band: Band,
    max_trimap_width: int,
) -> Counts:
    """Counts pixels by (narrowest trimap, true class, predicted class), void pixels left out.

    Args:
        label: (H, W) true classes in [0, num_classes), or ignore_index where void.
        prediction: (H, W) predicted classes in [0, num_classes), at void pixels too.
        num_classes: K, background included.
        ignore_index: label value that is not scored, num_classes at least.
        band: square, by chessboard distance, or euclidean.
        max_trimap_width: D, 1..255.

    Returns:
        (D + 1, K, K) pixel counts: at index w - 1 the pixels in the trimap of width w and in no
        narrower one, at index D those in none, which is all of them where nothing is void.

    Raises:
        ValueError: shapes differ, or a value is neither a class nor void.
    """
    check_shapes(label, prediction)
    scored = label != ignore_index
    sizes = (max_trimap_width + 1, num_classes, num_classes)
    if scored.all():  # the distance to nothing would be OpenCV's largest, not infinity
        counts = np.zeros(sizes, np.int64)
        counts[-1] = confusion_matrix(
            label, prediction, num_classes=num_classes, ignore_index=ignore_index
        )
        return counts
    narrowest = _narrowest_trimap(scored, band, max_trimap_width)
    counts = joint_histogram((narrowest, label, prediction), sizes)
    if counts.sum() < np.count_nonzero(scored) or prediction.max() >= num_classes:
        check_values(label, prediction, num_classes=num_classes, ignore_index=ignore_index)
    return counts


def _narrowest_trimap(scored: NDArray[np.bool_], band: Band, max_trimap_width: int) -> LabelMap:
    if band == "square":
        return _narrowest_square(scored, max_trimap_width)
    # The root of a whole number of squared pixels, exact where it is whole itself.
    distance = cv2.distanceTransform(scored.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    narrowest = cv2.convertScaleAbs(np.ceil(distance), None, 1, -1)  # minus 1, at most 255
    return np.minimum(narrowest, np.uint8(max_trimap_width))


def _narrowest_square(scored: NDArray[np.bool_], max_trimap_width: int) -> LabelMap:
    """Chessboard distance to void, minus 1, in strides that double.

    Every value is a sum of some of these strides: 1, 2, 4, 8, 16 and 8 give all of 0..39. A stride
    of s is one erosion: the least value in a square of side 2s + 1, plus s. A few vectorised
    erosions of bytes take less time than a distance transform, which goes from pixel to pixel.
    """
    outside = np.multiply(scored.view(np.uint8), np.uint8(max_trimap_width))
    narrowest = cv2.erode(outside, _square(1))
    reached, widest = 0, max_trimap_width - 1
    while reached < widest:
        stride = min(reached + 1, widest - reached)
        nearest = cv2.erode(narrowest, _square(stride))
        further = cv2.add(nearest, np.full_like(nearest, stride))  # at most 255, does not wrap
        narrowest = cv2.min(narrowest, further)
        reached += stride
    return narrowest.astype(np.uint8, copy=False)


def _square(radius: int) -> LabelMap:
    side = 2 * radius + 1
    return np.ones((side, side), np.uint8)


def whole(counts: Counts) -> Counts:
    """The (K, K) confusion matrix over all scored pixels, from (D + 1, K, K) counts by trimap."""
    total: Counts = counts.sum(axis=0)
    return total


def per_width(counts: Counts) -> Counts:
    """The (D, K, K) confusion matrices of trimaps 1..D, from (D + 1, K, K) counts by trimap."""
    return np.cumsum(counts[:-1], axis=0)
