"""Which rows can be compared in pairs, and by how much they differ, as it goes into a file."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.evaluation import bootstrap
from pipeline.evaluation.bootstrap import Difference
from pipeline.evaluation.config import Evaluation, ScoredRow
from pipeline.evaluation.tally import Tally

# The narrowest trimap is where the paper states the decoder's gain.
_NARROWEST = 1


def alike(rows: Mapping[str, ScoredRow]) -> Iterator[list[str]]:
    """Yields the keys of rows that were scored alike: one split, trimap band, number and seed.

    Args:
        rows: of params.yaml, by key.
    """
    groups: dict[tuple[str, str, int, int], list[str]] = {}
    for key, row in rows.items():
        how = row.evaluation
        draws = (how.resamples, how.resampling_seed)
        groups.setdefault((row.data, how.trimap_band, *draws), []).append(key)
    yield from groups.values()


def compare(
    tallies: Iterable[tuple[str, Tally]], evaluation: Evaluation
) -> Iterator[dict[str, Any]]:
    """Compares rows that were scored alike, two by two, on the same draws of images.

    Args:
        tallies: key and counts of each row; of all trimaps one row's at a time are in memory.
        evaluation: of one of the rows; has the draws.

    Yields:
        For each pair "row" and "over", and of the first's mIoU minus the second's "miou", "low"
        and "high", between which lie 95 % of the draws; the same within the narrowest trimap as
        "trimap_miou", "trimap_low" and "trimap_high", None where nothing is void. Fractions.

    Raises:
        ValueError: not the same images, labels or trimaps.
    """
    narrowed = {key: tally.up_to(_NARROWEST) for key, tally in tallies}
    pairs = bootstrap.paired(
        narrowed, resamples=evaluation.resamples, seed=evaluation.resampling_seed
    )
    for key, other, (within, everywhere) in pairs:
        yield {"row": key, "over": other} | _numbers("", everywhere) | _numbers("trimap_", within)


def _numbers(prefix: str, difference: Difference) -> dict[str, float | None]:
    numbers = {"miou": difference.miou, "low": difference.low, "high": difference.high}
    return {
        f"{prefix}{name}": None if math.isnan(number) else number
        for name, number in numbers.items()
    }
