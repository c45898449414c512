"""Scoring a whole set of predictions: one pass for the scores and for the trimap curve."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation import confusion, trimap
from pipeline.evaluation.config import Evaluation
from pipeline.evaluation.confusion import Counts
from pipeline.evaluation.predictions import Pair

_MAX_CLASSES_NAMED = 10


def count(
    pairs: Iterable[Pair], *, num_classes: int, ignore_index: int, max_trimap_width: int
) -> Counts:
    """Sums `trimap.counts_by_trimap` over a set.

    Returns:
        (max_trimap_width + 1, num_classes, num_classes) pixel counts.

    Raises:
        ValueError: a prediction does not fit its label; names the prediction's file. Or no pixel
            of the set is scored.
    """
    counts = np.zeros((max_trimap_width + 1, num_classes, num_classes), np.int64)
    for pair in pairs:
        try:
            counts += trimap.counts_by_trimap(
                pair.label,
                pair.prediction,
                num_classes=num_classes,
                ignore_index=ignore_index,
                max_trimap_width=max_trimap_width,
            )
        except ValueError as error:
            raise ValueError(f"{pair.file}: {error}") from error
    if not counts.any():
        raise ValueError("no pixel to score: every label is void throughout")
    return counts


def summary(
    counts: Counts, class_names: Sequence[str], num_images: int, evaluation: Evaluation
) -> dict[str, Any]:
    """The scores of a set, as they go into its metrics file.

    Args:
        counts: (D + 1, K, K) pixel counts by trimap.
        class_names: K names.
        num_images: that were counted.
        evaluation: says what is warned of.

    Returns:
        Fractions in [0, 1], unrounded. A class that occurs in neither label nor prediction has no
        IoU, so it is named in "absent_classes" and is no key of "iou_per_class". "warnings" are
        sentences for people.
    """
    matrix = trimap.whole(counts)
    iou = dict(zip(class_names, confusion.iou_per_class(matrix).tolist(), strict=True))
    return {
        "miou": confusion.miou(matrix),
        "pixel_accuracy": confusion.pixel_accuracy(matrix),
        "mean_class_accuracy": confusion.mean_class_accuracy(matrix),
        "num_images": num_images,
        "iou_per_class": {name: value for name, value in iou.items() if not np.isnan(value)},
        "absent_classes": [name for name, value in iou.items() if np.isnan(value)],
        "warnings": warnings(matrix, class_names, evaluation),
    }


def warnings(matrix: Counts, class_names: Sequence[str], evaluation: Evaluation) -> list[str]:
    """Says where a network has learned less than its scores suggest.

    Where one class has most pixels, a network that knows no other has a high pixel accuracy.

    Args:
        matrix: (K, K) pixel counts; row is the true class, column the predicted one.
        class_names: K names.
        evaluation: has the limits.
    """
    labelled, predicted = matrix.sum(axis=1) / matrix.sum(), matrix.sum(axis=0) / matrix.sum()
    sentences = [
        f"{class_names[index]} is predicted for {_percent(predicted[index])} of the pixels, but "
        f"has {_percent(labelled[index])} of the label."
        for index in np.flatnonzero(predicted >= evaluation.warn_predicted_share).tolist()
        if labelled[index] < evaluation.warn_label_share
    ]
    missed = np.flatnonzero((labelled > 0) & (predicted == 0)).tolist()
    if missed:
        named = [f"{class_names[i]} ({_percent(labelled[i])} of the label)" for i in missed]
        more = len(named) - _MAX_CLASSES_NAMED
        rest = f" and {more} more" if more > 0 else ""
        sentences.append(f"Never predicted: {', '.join(named[:_MAX_CLASSES_NAMED])}{rest}.")
    return sentences


def trimap_curve(counts: Counts) -> list[dict[str, float]]:
    """The scores within each trimap, as they go into the curve's file.

    Returns:
        A point per trimap width 1..D, fractions in [0, 1], unrounded; a class that does not occur
        within a trimap is left out of that trimap's mean. Empty where no image has void pixels:
        a trimap is around void, so there is none.
    """
    return [
        {
            "trimap_width": width,
            "miou": confusion.miou(matrix),
            "pixel_accuracy": confusion.pixel_accuracy(matrix),
        }
        for width, matrix in enumerate(trimap.per_width(counts), start=1)
        if matrix.any()
    ]


def _percent(share: float) -> str:
    """Three digits, so that the pixels of a rare class do not read as none."""
    return f"{100 * share:.3g} %"
