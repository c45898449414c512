"""How far to trust an mIoU, and the difference of two: the bootstrap over images.

A test set is a draw of images, and another draw of as many would give another mIoU. The bootstrap
asks how far apart such draws are, by drawing images from the set itself, with replacement. Two rows
of one set are compared on the same draws, so that what makes an image hard for both cancels: a
difference can be significant where their intervals overlap widely.

What this tells nothing of is another training of the same network: its seed moves mIoU too.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13: percentile interval.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.tally import Tally

_PERCENTILES = (2.5, 97.5)  # between them lie 95 % of the draws
_DRAWS_AT_A_TIME = 64

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Between which bounds 95 % of the draws lie, fractions in [0, 1]; NaN where no pixel does."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """mIoU of one row minus that of another, over the same images.

    Attributes:
        miou: the difference on the set itself.
        low: bound that 97.5 % of the draws' differences are above.
        high: bound that 97.5 % of them are below.
    """

    miou: float
    low: float
    high: float


def intervals(tally: Tally, *, resamples: int, seed: int) -> list[Interval]:
    """95 % intervals of mIoU in the trimaps 1..D and, last, over all scored pixels.

    Args:
        tally: the counts.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        D + 1 intervals. A class that a draw of images does not have is left out of that draw's
        mean, as one that the set does not have is left out of the set's.
    """
    drawn = np.concatenate(list(_drawn_mious(tally, resamples, seed)))
    return [Interval(low, high) for low, high in _bounds(drawn)]


def paired(
    tallies: Mapping[str, Tally], *, resamples: int, seed: int
) -> Iterator[tuple[str, str, list[Difference]]]:
    """Compares rows two by two, each drawn once: yields (key, other key, key's minus other's).

    Args:
        tallies: by key of the row; all of the same images.
        resamples: number of draws; each is evaluated for all rows.
        seed: of the draws.

    Yields:
        Every pair once, in the order of the rows; D + 1 differences, in the trimaps 1..D and, last,
        over all scored pixels.

    Raises:
        ValueError: not the same images, labels or trimaps.
    """
    drawn = {
        key: (_mious(tally), np.concatenate(list(_drawn_mious(tally, resamples, seed))))
        for key, tally in tallies.items()
    }
    for key, other in combinations(tallies, 2):
        _require_comparable(tallies[key], tallies[other])
        (mious, draws), (other_mious, other_draws) = drawn[key], drawn[other]
        found = (mious - other_mious).tolist()
        bounds = _bounds(draws - other_draws)
        yield (
            key,
            other,
            [Difference(miou, low, high) for miou, (low, high) in zip(found, bounds, strict=True)],
        )


def _require_comparable(tally: Tally, other: Tally) -> None:
    if tally.image_ids != other.image_ids or not np.array_equal(tally.labelled, other.labelled):
        raise ValueError(
            f"{len(tally.image_ids)} and {len(other.image_ids)} images cannot be compared in "
            f"pairs: images, labels or trimaps are not the same"
        )


def _mious(tally: Tally) -> Scores:
    """(D + 1,) mIoU of the set itself."""
    hits, union = tally.cumulated()
    return _mean_iou(hits.sum(axis=0), union.sum(axis=0))


def _drawn_mious(tally: Tally, resamples: int, seed: int) -> Iterator[Scores]:
    """Yields (some, D + 1) mIoU, a line per draw.

    A draw is a weight per image, so all draws are one product of matrices. Whole numbers in
    float64: exact, in whatever order a processor adds them.
    """
    num_images = len(tally.image_ids)
    shape = tally.hits.shape[1:]
    hits, union = (counts.reshape(num_images, -1).astype(float) for counts in tally.cumulated())
    random = np.random.default_rng(seed)
    for first in range(0, resamples, _DRAWS_AT_A_TIME):
        weights = np.empty((min(_DRAWS_AT_A_TIME, resamples - first), num_images))
        for draw in weights:
            draw[:] = np.bincount(random.integers(num_images, size=num_images), None, num_images)
        yield _mean_iou((weights @ hits).reshape(-1, *shape), (weights @ union).reshape(-1, *shape))


def _mean_iou(hits: NDArray[np.number], union: NDArray[np.number]) -> Scores:
    """Mean over the last axis of hits / union, where there is a union; NaN where there is none."""
    is_defined = union > 0
    iou = np.divide(hits, union, out=np.zeros(union.shape), where=is_defined)
    number = is_defined.sum(axis=-1)
    mean: Scores = np.divide(
        iou.sum(axis=-1), number, out=np.full(number.shape, np.nan), where=number > 0
    )
    return mean


def _bounds(drawn: Scores) -> list[tuple[float, float]]:
    """Percentiles of (draws, D + 1), leaving out draws that have no pixel in a trimap."""
    bounds = []
    for column in drawn.T:
        defined = column[~np.isnan(column)]
        low, high = np.percentile(defined, _PERCENTILES) if defined.size else (np.nan, np.nan)
        bounds.append((float(low), float(high)))
    return bounds
