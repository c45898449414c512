"""Our costs beside the printed Multiply-Adds, row by row of the paper.

This proves the architecture without any training: a stem, a stride, an atrous rate or a number of
channels other than the authors' moves a figure by more than the tolerance.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.cost.multiply_adds import Cost
from pipeline.paper import Paper, Published

TOLERANCE = 0.1  # percent of the published figure

_NOTHING = "-"
_MISPRINT = "*"
# Parts of a published row's key that are of its weights alone: what it was trained on.
_TRAINING_DATA = {"coco", "jft", "trainaug", "trainval"}
_HEADER = ["row", "ours", "paper", "diff. %", "plain MACs", "parameters", "row of the preset"]


@dataclass(frozen=True)
class Candidate:
    """A row of a preset.

    Attributes:
        key: of the row.
        paper: keys of the published rows that it answers.
        cost: of one image.
    """

    key: str
    paper: Sequence[str]
    cost: Cost


@dataclass(frozen=True)
class Comparison:
    """A published row with Multiply-Adds, beside a row of a preset.

    Attributes:
        key: of the published row.
        group: the table it stands in, or the model zoo.
        expected: billions, as printed unless that is a misprint.
        is_corrected: whether it was a misprint.
        row: our row, or None where no preset has one.
    """

    key: str
    group: str
    expected: float
    is_corrected: bool
    row: Candidate | None

    @property
    def difference(self) -> float:
        """Ours over the expected figure, in percent of it; infinite where there is no row."""
        if self.row is None:
            return math.inf
        return 100 * (self.row.cost.authors_multiply_adds / 1e9 / self.expected - 1)

    @property
    def agrees(self) -> bool:
        """Whether there is a row of ours and it is within the tolerance."""
        return abs(self.difference) <= TOLERANCE


def compare(paper: Paper, rows: Sequence[Candidate]) -> list[Comparison]:
    """Compares each published row that has Multiply-Adds, in the paper's order.

    A row of ours answers what it names and, where no row names them, those that differ from it in
    their training data alone. Where several name the same, there is a comparison for each.
    """
    return [
        comparison
        for key, published in paper.rows.items()
        if published.multiply_adds is not None
        for comparison in _comparisons(key, published, published.multiply_adds, rows)
    ]


def as_text(comparisons: Sequence[Comparison]) -> str:
    """The comparisons for a terminal, in the paper's order, by table."""
    lines = [_cells(comparison) for comparison in comparisons]
    widths = [max(len(cell) for cell in column) for column in zip(_HEADER, *lines, strict=True)]
    text = []
    group = None
    for comparison, line in zip(comparisons, lines, strict=True):
        if comparison.group != group:
            group = comparison.group
            text += ["", group, _padded(_HEADER, widths), "  ".join("-" * w for w in widths)]
        text.append(_padded(line, widths))
    if any(comparison.is_corrected for comparison in comparisons):
        text += ["", f"{_MISPRINT} corrected from a misprint, see paper.yaml"]
    return "\n".join([*text[1:], ""])


def verdict(comparisons: Sequence[Comparison]) -> str:
    """How many published rows agree in all that answer them, and which do not."""
    published = dict.fromkeys(c.key for c in comparisons)
    missing = [c.key for c in comparisons if c.row is None]
    off = list(dict.fromkeys(c.key for c in comparisons if c.row is not None and not c.agrees))
    agreeing = len(published) - len(missing) - len(off)
    parts = [f"{agreeing} of {len(published)} rows within {TOLERANCE} %"]
    if off:
        parts.append("off: " + ", ".join(off))
    if missing:
        parts.append("in none of these presets: " + ", ".join(missing))
    return "; ".join(parts)


def _comparisons(
    key: str, published: Published, printed: float, rows: Sequence[Candidate]
) -> Iterator[Comparison]:
    named = [row for row in rows if key in row.paper]
    alike = [row for row in rows if _settings(key) in map(_settings, row.paper)]
    answers: Sequence[Candidate | None] = named or alike[:1] or [None]
    for row in answers:
        yield Comparison(
            key,
            group=published.source,
            expected=published.multiply_adds_corrected or printed,
            is_corrected=published.multiply_adds_corrected is not None,
            row=row,
        )


def _settings(key: str) -> str:
    """A published row's key without its training data, which cost nothing at inference."""
    return "-".join(part for part in key.split("-") if part not in _TRAINING_DATA)


def _cells(comparison: Comparison) -> list[str]:
    settings = comparison.key.split("_", 1)[-1]  # without the table, which stands above
    expected = f"{comparison.expected:.2f}" + (_MISPRINT if comparison.is_corrected else " ")
    if comparison.row is None:
        return [settings, _NOTHING, expected, _NOTHING, _NOTHING, _NOTHING, _NOTHING]
    cost = comparison.row.cost
    return [
        settings,
        f"{cost.authors_multiply_adds / 1e9:.2f} B",
        expected,
        f"{comparison.difference:+.3f}" + ("" if comparison.agrees else " !"),
        f"{cost.multiply_adds / 1e9:.2f} B",
        f"{cost.parameters / 1e6:.2f} M",
        comparison.row.key,
    ]


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Text left, numbers right, two spaces between columns."""
    first, *numbers, last = (
        cell.ljust(width) if index in (0, len(cells) - 1) else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *numbers, last]).rstrip()
