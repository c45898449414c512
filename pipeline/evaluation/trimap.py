"""Scores in a narrow band around object boundaries, the trimap of Sec. 4.4 and Fig. 5.

The trimap of width w is the void pixels of the label dilated by a square of side 2w + 1, without
the void pixels themselves: the pixels at a chessboard distance of at most w from void. The
authors dilate once per width; here one distance transform gives every pixel its narrowest trimap,
one joint histogram counts them all, and a cumulative sum over widths gives the same counts.

Source: `MyVOCevalsegBoundary.m` and its driver, the DeepLab authors' evaluation scripts (2016),
which sweep w = 1..40 on VOC 2012 val.
"""

import cv2
import numpy as np

from pipeline.evaluation.confusion import Counts, check_values, joint_histogram
from pipeline.label_map import LabelMap


def counts_by_trimap(
    label: LabelMap,
    prediction: LabelMap,
    *,
    num_classes: int,
    ignore_index: int,
    max_trimap_width: int,
) -> Counts:
    """Counts pixels by (narrowest trimap, true class, predicted class), void pixels left out.

    Args:
        label: (H, W) true classes in [0, num_classes), or ignore_index where void.
        prediction: (H, W) predicted classes in [0, num_classes), at void pixels too.
        num_classes: K, background included.
        ignore_index: label value that is not scored, num_classes at least.
        max_trimap_width: D, 1..255.

    Returns:
        (D + 1, K, K) pixel counts: at index w - 1 the pixels at distance w from void, at index D
        those further away, which is all of them where nothing is void.

    Raises:
        ValueError: shapes differ, or a value is neither a class nor void.
    """
    check_values(label, prediction, num_classes=num_classes, ignore_index=ignore_index)
    narrowest = narrowest_trimap(
        label, ignore_index=ignore_index, max_trimap_width=max_trimap_width
    )
    sizes = (max_trimap_width + 1, num_classes, num_classes)
    return joint_histogram((narrowest, label, prediction), sizes)


def narrowest_trimap(label: LabelMap, *, ignore_index: int, max_trimap_width: int) -> LabelMap:
    """Finds for every pixel the narrowest trimap that holds it.

    Returns:
        (H, W) uint8: trimap width - 1, or max_trimap_width where no trimap holds the pixel;
        without meaning at void pixels.
    """
    scored = label != ignore_index
    if scored.all():  # the distance to nothing would be OpenCV's largest, not infinity
        return np.full(label.shape, max_trimap_width, np.uint8)
    # With a 3x3 mask the chessboard distance is exact: each step adds a whole 1.
    distance = cv2.distanceTransform(scored.view(np.uint8), cv2.DIST_C, 3)
    narrowest: LabelMap = np.clip(distance - 1, 0, max_trimap_width).astype(np.uint8)
    return narrowest


def whole(counts: Counts) -> Counts:
    """The (K, K) confusion matrix over all scored pixels, from (D + 1, K, K) counts by trimap."""
    total: Counts = counts.sum(axis=0)
    return total


def per_width(counts: Counts) -> Counts:
    """The (D, K, K) confusion matrices of trimaps 1..D, from (D + 1, K, K) counts by trimap."""
    return np.cumsum(counts[:-1], axis=0)
