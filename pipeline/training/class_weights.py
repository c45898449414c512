"""The weight of each class in the loss: none as in the paper, given, or measured."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.classes import Classes
from pipeline.label_map import LabelMap
from pipeline.training.config import Training

# Ours: no class is learned this many times faster or slower than the median class. Without a bound
# one image with ten pixels of a class would give these ten the weight of all others.
_MAX_CLASS_WEIGHT = 10.0


def resolve(training: Training, classes: Classes, labels: Iterable[LabelMap]) -> list[float] | None:
    """The weight of each class in the loss, or None where all pixels weigh the same.

    "frequency" is median-frequency balancing: the median of the classes' frequencies divided by
    the class's own, which is the share of its pixels in the images that have any. It is held
    within 1/10 and 10; a class that does not occur weighs 1, which no pixel ever uses.

    Source: Eigen and Fergus, arXiv 1411.4734, for semantic labels; taken up by SegNet, arXiv
    1511.00561.

    Args:
        training: the recipe.
        classes: of the split.
        labels: (H, W) label maps of the split; read for "frequency" alone.

    Raises:
        ValueError: not a weight for each class, or no weight is positive.
    """
    if training.class_weights == "none":
        return None
    if training.class_weights == "frequency":
        return _median_frequency(classes.num_classes, labels)
    weights = training.class_weights
    if len(weights) != classes.num_classes or not any(weights):
        raise ValueError(
            f"training.class_weights: {weights} is not a weight for each of {classes.num_classes} "
            f"classes ({', '.join(classes.names)}), one of them positive"
        )
    return weights


def named(weights: Sequence[float] | None, classes: Classes) -> dict[str, float]:
    """The weights under the names that a training's first numbers have; none without weights."""
    if weights is None:
        return {}
    return {
        f"class_weight/{name}": weight for name, weight in zip(classes.names, weights, strict=True)
    }


def _median_frequency(num_classes: int, labels: Iterable[LabelMap]) -> list[float]:
    pixels = np.zeros(num_classes, np.int64)  # of each class
    pixels_around = np.zeros(num_classes, np.int64)  # that are not void, in images that have it
    for label in labels:
        counts: NDArray[np.int64] = np.bincount(label.ravel(), minlength=256)[:num_classes]
        pixels += counts
        pixels_around += np.where(counts > 0, counts.sum(), 0)
    occurs = pixels > 0
    if not occurs.any():
        raise ValueError("training.class_weights: all pixels of all labels are void")
    frequency = pixels[occurs] / pixels_around[occurs]
    weights = np.ones(num_classes)
    weights[occurs] = np.clip(
        np.median(frequency) / frequency, 1 / _MAX_CLASS_WEIGHT, _MAX_CLASS_WEIGHT
    )
    return [float(weight) for weight in weights]
