"""Scoring a whole set of predictions: one pass for the scores and for the trimap curve."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation import bootstrap, confusion, tally, trimap
from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.config import Evaluation
from pipeline.evaluation.confusion import Counts
from pipeline.evaluation.predictions import Pair
from pipeline.evaluation.tally import Tally

_MAX_CLASSES_NAMED = 10


def count(
    pairs: Iterable[Pair], evaluation: Evaluation, *, num_classes: int, ignore_index: int
) -> tuple[Counts, Tally]:
    """Counts the pixels of a set, all images together and each by itself.

    Returns:
        (max_trimap_width + 1, num_classes, num_classes) pixel counts, the sum of
        `trimap.counts_by_trimap`; and the tally of the images.

    Raises:
        ValueError: a prediction does not fit its label; names the prediction's file. Or no pixel
            of the set is scored.
    """
    total = np.zeros((evaluation.max_trimap_width + 1, num_classes, num_classes), np.int64)
    tallies = []
    for pair in pairs:
        try:
            counts = trimap.counts_by_trimap(
                pair.label,
                pair.prediction,
                num_classes=num_classes,
                ignore_index=ignore_index,
                band=evaluation.trimap_band,
                max_trimap_width=evaluation.max_trimap_width,
            )
        except ValueError as error:
            raise ValueError(f"{pair.file}: {error}") from error
        total += counts
        tallies.append(tally.of_image(pair.image_id, counts))
    if not total.any():
        raise ValueError("no pixel to score: every label is void throughout")
    return total, tally.together(tallies)


def intervals(images: Tally, evaluation: Evaluation) -> list[Interval]:
    """95 % intervals of mIoU in the trimaps 1..D and, last, over all scored pixels."""
    return bootstrap.intervals(
        images, resamples=evaluation.resamples, seed=evaluation.resampling_seed
    )


def summary(
    counts: Counts,
    interval: Interval,
    class_names: Sequence[str],
    num_images: int,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """The scores of a set, as they go into its metrics file.

    Args:
        counts: (D + 1, K, K) pixel counts by trimap.
        interval: of mIoU.
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
        "miou_low": interval.low,
        "miou_high": interval.high,
        "pixel_accuracy": confusion.pixel_accuracy(matrix),
        "mean_class_accuracy": confusion.mean_class_accuracy(matrix),
        "num_images": num_images,
        "iou_per_class": {name: value for name, value in iou.items() if not np.isnan(value)},
        "absent_classes": [name for name, value in iou.items() if np.isnan(value)],
        "warnings": warnings(matrix, class_names, evaluation),
    }


def confusion_table(counts: Counts, class_names: Sequence[str]) -> str:
    """The confusion matrix over all scored pixels as CSV: a line for each pair that occurs.

    Args:
        counts: (D + 1, K, K) pixel counts by trimap.
        class_names: K names.

    Returns:
        Columns label, prediction, pixels.
    """
    matrix = trimap.whole(counts)
    label, prediction = np.nonzero(matrix)
    names = np.array(class_names, dtype=object)
    columns = {"label": names[label], "prediction": names[prediction]}
    table = pd.DataFrame(columns | {"pixels": matrix[label, prediction]})
    return table.to_csv(index=False)


def worst_images(
    images: Tally, class_names: Sequence[str], num_images: int
) -> list[dict[str, Any]]:
    """The images of lowest mIoU, the worst first, as they go into a metrics file.

    Args:
        images: the counts.
        class_names: K names.
        num_images: how many, at most. One without a scored pixel is not among them.

    Returns:
        For each its "image_id", its "miou" over the classes that its label or its prediction has,
        and its "iou_per_class". The mean of these mIoUs is not the set's.
    """
    iou = confusion.divided(*images.whole())
    mious = [confusion.mean_of_defined(line) for line in iou]
    scored = [index for index, value in enumerate(mious) if not np.isnan(value)]
    return [
        {
            "image_id": images.image_ids[index],
            "miou": mious[index],
            "iou_per_class": {
                name: value
                for name, value in zip(class_names, iou[index].tolist(), strict=True)
                if not np.isnan(value)
            },
        }
        for index in sorted(scored, key=mious.__getitem__)[:num_images]
    ]


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


def trimap_curve(counts: Counts, intervals: Sequence[Interval]) -> list[dict[str, float]]:
    """The scores within each trimap, as they go into the curve's file.

    Args:
        counts: (D + 1, K, K) pixel counts by trimap.
        intervals: of mIoU in trimaps 1..D; what follows is not looked at.

    Returns:
        A point per trimap width 1..D, fractions in [0, 1], unrounded; a class that does not occur
        within a trimap is left out of that trimap's mean. Empty where no image has void pixels:
        a trimap is around void, so there is none.
    """
    widths = trimap.per_width(counts)
    return [
        {
            "trimap_width": width,
            "miou": confusion.miou(matrix),
            "miou_low": interval.low,
            "miou_high": interval.high,
            "pixel_accuracy": confusion.pixel_accuracy(matrix),
        }
        for width, (matrix, interval) in enumerate(
            zip(widths, intervals[: len(widths)], strict=True), start=1
        )
        if matrix.any()
    ]


def _percent(share: float) -> str:
    """Three digits, so that the pixels of a rare class do not read as none."""
    return f"{100 * share:.3g} %"
