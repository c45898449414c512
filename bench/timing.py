"""Interleaved timing: contenders take turns, so that a disturbance falls on all of them.

A ratio is that of two medians over the repetitions. The quartiles beside it are of the ratios
within one repetition, whose contenders ran one after the other.
"""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tqdm import tqdm

# Seconds of each repetition, per unit of work, by contender.
Times = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those that are compared.

    Attributes:
        name: as the table prints it.
        run: does one repetition; returns its seconds per unit of work.
    """

    name: str
    run: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times the seconds of ours another contender takes: above 1, ours is faster.

    Attributes:
        of_medians: over all repetitions.
        lower: quartile of the ratios within a repetition.
        upper: likewise.
    """

    of_medians: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.of_medians:.2f}x ({self.lower:.2f} to {self.upper:.2f})"


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise: `number`, of whatever `what` says, is at least, or at most, `limit`."""

    what: str
    number: float
    limit: float
    at_most: bool = False
    unit: str = "x"

    @property
    def holds(self) -> bool:
        """Whether it is kept."""
        return self.number <= self.limit if self.at_most else self.number >= self.limit

    def __str__(self) -> str:
        side = "at most" if self.at_most else "at least"
        kept = "holds" if self.holds else "MISSED"
        return f"{self.number:.2f}{self.unit} {self.what} ({side} {self.limit:g}: {kept})"


def interleave(contenders: Sequence[Contender], repetitions: int) -> Times:
    """Lets each contender warm up once, then all take turns; every second round runs backwards."""
    times: Times = {contender.name: [] for contender in contenders}
    for contender in tqdm(contenders, desc="warm up", leave=False):
        contender.run()
    for repetition in tqdm(range(repetitions), desc="repetitions", leave=False):
        for contender in contenders[:: -1 if repetition % 2 else 1]:
            times[contender.name].append(contender.run())
    return times


def ratio(times: Times, ours: str, other: str) -> Ratio:
    """The seconds of `other` as a multiple of `ours`."""
    within = [theirs / mine for mine, theirs in zip(times[ours], times[other], strict=True)]
    lower, upper = quartiles(within)
    return Ratio(statistics.median(times[other]) / statistics.median(times[ours]), lower, upper)


def quartiles(numbers: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile; of a single number, that number."""
    if len(numbers) == 1:
        return numbers[0], numbers[0]
    lower, _, upper = statistics.quantiles(numbers, n=4, method="inclusive")
    return lower, upper


def fastest(times: Times, names: Sequence[str]) -> str:
    """Which of these contenders has the least median."""
    return min(names, key=lambda name: statistics.median(times[name]))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, first column left, the others right, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rules = [("-" * width) if not k else "-" * (width - 1) + ":" for k, width in enumerate(widths)]
    lines = [header, rules, *rows]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def milliseconds(seconds: Sequence[float]) -> str:
    """Median and quartiles, in milliseconds."""
    return spread([1000 * number for number in seconds])


def spread(numbers: Sequence[float]) -> str:
    """Median and quartiles, to three digits."""
    lower, upper = quartiles(numbers)
    return f"{_digits(statistics.median(numbers))} ({_digits(lower)} to {_digits(upper)})"


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def machine(*packages: str) -> str:
    """One line: the processor, the cores that may be used, load, and versions of packages."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {versions}"
    )


def conclude(goals: Sequence[Goal], *, judged: bool) -> int:
    """Prints the last line: every ratio and whether its goal holds; returns the exit status.

    Args:
        goals: in the order of the line.
        judged: whether a missed goal is an error; sizes too small to mean anything are not judged.
    """
    print("; ".join(map(str, goals)) + ("" if judged else "; sizes too small to be judged"))
    return int(judged and not all(goal.holds for goal in goals))


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
