import dataclasses
import math

import numpy as np
import pytest

from pipeline.evaluation import bootstrap, confusion, tally
from pipeline.evaluation.bootstrap import Difference, Interval

DRAWS = {"resamples": 200, "seed": 3}


def random_tally(seed=0, *, num_images=12, quality=3):
    """Counts of images of three classes, in two bands; the higher the quality the more hits."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, 30, (num_images, 2, 3, 3))
    counts += quality * np.eye(3, dtype=np.int64) * counts
    return tally.together([tally.of_image(f"i{n}", c) for n, c in enumerate(counts)]), counts


def differences(one, other):
    ((_, _, found),) = bootstrap.paired({"one": one, "other": other}, **DRAWS)
    return found


def slow_mious(counts, seed, resamples):
    """Each draw by itself: choose images, add their matrices, take the mIoU."""
    random = np.random.default_rng(seed)
    mious = []
    for _ in range(resamples):
        chosen = random.integers(len(counts), size=len(counts))
        total = sum(counts[index] for index in chosen)
        mious.append([confusion.miou(total[0]), confusion.miou(total.sum(axis=0))])
    return np.array(mious)


def test_intervals_are_those_of_a_slow_plain_version():
    made, counts = random_tally()
    drawn = slow_mious(counts, 3, 200)
    expected = np.percentile(drawn, [2.5, 97.5], axis=0).T
    found = [(i.low, i.high) for i in bootstrap.intervals(made, **DRAWS)]
    assert found == [pytest.approx(tuple(bounds)) for bounds in expected]


def test_differences_are_those_of_the_same_draws():
    (good, _), (bad, _) = random_tally(quality=3), random_tally(quality=1)
    labelled = np.maximum(good.labelled, bad.labelled)  # as if the labels were the same
    good, bad = (dataclasses.replace(t, labelled=labelled) for t in (good, bad))
    found = differences(good, bad)
    reverse = differences(bad, good)
    for one, other in zip(found, reverse, strict=True):
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert one.miou == -other.miou
        assert one.low <= one.miou <= one.high


def moved(counts, share):
    """The same labels, with a share of the hits of class 0 predicted as class 1."""
    lost = counts.copy()
    part = (counts[..., 0, 0] * share).astype(np.int64)
    lost[..., 0, 0] -= part
    lost[..., 0, 1] += part
    return tally.together([tally.of_image(f"i{n}", c) for n, c in enumerate(lost)])


def test_a_row_that_is_better_on_every_image_is_significantly_better():
    made, counts = random_tally()
    worse = moved(counts, 0.05)
    everywhere = differences(made, worse)[-1]
    assert 0 < everywhere.low <= everywhere.miou <= everywhere.high
    # ... although the two intervals, each by itself, overlap
    intervals = [bootstrap.intervals(t, **DRAWS)[-1] for t in (made, worse)]
    assert intervals[0].low < intervals[1].high


def test_a_row_is_not_better_than_itself():
    made, _ = random_tally()
    for difference in differences(made, made):
        assert difference == Difference(0.0, 0.0, 0.0)


def test_one_image_leaves_nothing_to_draw():
    made, counts = random_tally(num_images=1)
    value = confusion.miou(counts[0].sum(axis=0))
    found = bootstrap.intervals(made, **DRAWS)[-1]
    assert (found.low, found.high) == pytest.approx((value, value))


def test_a_band_that_few_images_have_is_bounded_by_the_draws_that_have_it():
    _, counts = random_tally(num_images=4)
    counts[1:, 0] = 0  # a third of the draws have no pixel there
    made = tally.together([tally.of_image(f"i{n}", c) for n, c in enumerate(counts)])
    value = confusion.miou(counts[0, 0])
    found = bootstrap.intervals(made, **DRAWS)[0]
    assert (found.low, found.high) == pytest.approx((value, value))


def test_a_band_that_no_image_has_has_no_interval():
    _, counts = random_tally(num_images=2)
    counts[:, 0] = 0
    made = tally.together([tally.of_image(f"i{n}", c) for n, c in enumerate(counts)])
    found = bootstrap.intervals(made, **DRAWS)[0]
    assert isinstance(found, Interval)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_draws_depend_on_the_seed_and_their_number_alone():
    made, _ = random_tally()
    assert bootstrap.intervals(made, **DRAWS) == bootstrap.intervals(made, **DRAWS)
    assert bootstrap.intervals(made, **DRAWS) != bootstrap.intervals(made, resamples=200, seed=4)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Sets of 40 images drawn from a known world: 95 % of their intervals hold its mIoU."""
    random = np.random.default_rng(5)
    share = 0.7
    held = 0
    for number in range(60):
        hits = random.binomial(500, random.beta(7, 3, 40))
        counts = np.zeros((40, 1, 1, 2, 2), np.int64)
        counts[:, 0, 0, 0, 0], counts[:, 0, 0, 0, 1] = hits, 500 - hits
        counts[:, 0, 0, 1, 1] = 500
        made = tally.together([tally.of_image(str(n), c[0]) for n, c in enumerate(counts)])
        found = bootstrap.intervals(made, resamples=200, seed=number)[-1]
        truth = (share + 1 / (1 + 1 - share)) / 2
        held += found.low <= truth <= found.high
    assert 50 <= held <= 60


def test_rows_of_other_images_cannot_be_compared():
    made, _ = random_tally()
    for other in (random_tally(num_images=11)[0], random_tally(seed=1)[0]):
        with pytest.raises(ValueError, match=r"12 and 1[12] images cannot be compared in pairs"):
            differences(made, other)
