"""Differences of two rows with their intervals: metrics/comparisons.json, read and looked up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.params import Config
from pipeline.report import results


class Comparison(Config):
    """An entry of comparisons.json, see `evaluation.comparisons.compare`: fractions."""

    row: str
    over: str
    miou: float
    low: float
    high: float
    trimap_miou: float | None
    trimap_low: float | None
    trimap_high: float | None


@dataclass(frozen=True)
class Gain:
    """mIoU points of one row over another, and between which 95 % of the draws of images lie."""

    points: float
    low: float
    high: float

    @property
    def is_significant(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def reversed(self) -> "Gain":
        """Of the other over the one."""
        return Gain(-self.points, -self.high, -self.low)

    def __str__(self) -> str:
        """As it is printed: difference and interval."""
        return f"{self.points:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def read(path: Path) -> list[Comparison]:
    """Reads comparisons.json.

    Raises:
        ValueError: the file is not what it should be.
    """
    return results.read_json(path, list[Comparison])


def whole(comparison: Comparison) -> Gain:
    """Over whole images."""
    return Gain(100 * comparison.miou, 100 * comparison.low, 100 * comparison.high)


def gain(comparisons: Sequence[Comparison], row: str, over: str) -> Gain | None:
    """Over whole images; None where the two were not scored alike."""
    return _find(comparisons, row, over, whole)


def trimap_gain(comparisons: Sequence[Comparison], row: str, over: str) -> Gain | None:
    """Within the narrowest trimap; None where there is none, or the two were not scored alike."""
    return _find(comparisons, row, over, _within_trimap)


def _within_trimap(comparison: Comparison) -> Gain | None:
    numbers = (comparison.trimap_miou, comparison.trimap_low, comparison.trimap_high)
    points, low, high = (None if n is None else 100 * n for n in numbers)
    if points is None or low is None or high is None:
        return None
    return Gain(points, low, high)


def _find(
    comparisons: Sequence[Comparison],
    row: str,
    over: str,
    read: Callable[[Comparison], Gain | None],
) -> Gain | None:
    """What is read of the comparison of two rows, whichever of them it names first."""
    for comparison in comparisons:
        found = read(comparison)
        if found and (comparison.row, comparison.over) == (row, over):
            return found
        if found and (comparison.row, comparison.over) == (over, row):
            return found.reversed()
    return None
