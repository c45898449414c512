"""The table: a row of params.yaml per line, ours beside the paper's.

A difference is given only where a row was scored on as many images as the published number is
over. On any other set it would be a number that looks like a result and is none.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline import files
from pipeline.paper import Paper
from pipeline.report.results import Result

# The smallest trimap, where the paper states its gain; 10 px, the wider one that DeepLab v1 shows;
# 40 px, the authors' last; and one between. A curve that ends before has no such cell.
TRIMAP_WIDTHS = (1, 3, 10, 40)

PAPERS_ROW = "paper's row"
INTERVAL = "95 % interval"
NOTHING = "-"
EMPTY = "No rows were run."


def frame(results: Sequence[Result], paper: Paper) -> pd.DataFrame:
    """All numbers of the table, a line per row.

    Returns:
        Columns as named here; scores and differences in percent and points, unrounded. What does
        not exist is None or NaN.
    """
    columns = {
        "row": [r.key for r in results],
        "desc": [r.desc for r in results],
        "num_images": [r.scores.num_images for r in results],
        "miou": [100 * r.scores.miou for r in results],
        "miou_low": [100 * r.scores.miou_low for r in results],
        "miou_high": [100 * r.scores.miou_high for r in results],
        "pixel_accuracy": [100 * r.scores.pixel_accuracy for r in results],
        "mean_class_accuracy": [100 * r.scores.mean_class_accuracy for r in results],
        **{
            f"miou_trimap_{width}": [_in_percent(r.trimap_miou(width)) for r in results]
            for width in TRIMAP_WIDTHS
        },
        "paper_miou": [r.published.miou if r.published else None for r in results],
        "difference": [_difference(r, paper) for r in results],
        "multiply_adds": [r.multiply_adds for r in results],
        "paper_multiply_adds": [
            r.published.multiply_adds if r.published else None for r in results
        ],
        "training_hours": [r.training.hours if r.training else None for r in results],
        "paper_row": [" ".join(r.published.keys) if r.published else None for r in results],
        "paper_source": [_source(r) for r in results],
    }
    return pd.DataFrame(columns)


def is_comparable(result: Result, paper: Paper) -> bool:
    """Whether a row was scored on as many images as its published counterpart."""
    if result.published is None:
        return False
    return result.scores.num_images == paper.datasets[result.published.dataset]


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The table as text for people: its header, and its lines of as many cells.

    The first cell is the row's key, then come numbers; the last names the published row where any
    has one. What no row has is left out: the difference, a trimap, the paper's mIoU.
    """
    numbers = [
        ("mIoU", "miou", "{:.2f}"),
        ("pixel acc.", "pixel_accuracy", "{:.2f}"),
        *((f"trimap {w} px", f"miou_trimap_{w}", "{:.2f}") for w in TRIMAP_WIDTHS),
        ("paper mIoU", "paper_miou", "{:.2f}"),
        ("difference", "difference", "{:+.2f}"),
    ]
    kept = [
        number
        for number in numbers
        if number[1] in ("miou", "pixel_accuracy") or table[number[1]].notna().any()
    ]
    sources = [PAPERS_ROW] if table["paper_source"].notna().any() else []
    header = ["row", kept[0][0], INTERVAL, *(title for title, _, _ in kept[1:]), *sources]
    lines = [
        [
            str(line["row"]),
            _shown(line["miou"], kept[0][2]),
            f"{line['miou_low']:.1f} to {line['miou_high']:.1f}",
            *(_shown(line[column], layout) for _, column, layout in kept[1:]),
            *(_shown(line["paper_source"], "{}") for _ in sources),
        ]
        for line in table.to_dict("records")
    ]
    return header, lines


def as_text(table: pd.DataFrame) -> str:
    """The table for a terminal: text left, numbers right, two spaces between columns."""
    if table.empty:
        return EMPTY + "\n"
    header, lines = cells(table)
    widths = [max(len(cell) for cell in column) for column in zip(header, *lines, strict=True)]
    texts = {0, header.index(PAPERS_ROW)} if PAPERS_ROW in header else {0}
    padded = [
        "  ".join(
            cell.ljust(width) if index in texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (header, ["-" * width for width in widths], *lines)
    ]
    return "\n".join(padded) + "\n"


def write(table: pd.DataFrame, folder: Path) -> None:
    """Writes table.csv, all columns to six digits, and table.txt."""
    files.write_text(folder / "table.csv", table.to_csv(index=False, float_format="%.6g"))
    files.write_text(folder / "table.txt", as_text(table))


def percent(fraction: float | None) -> str:
    """A fraction as it is printed in tables."""
    return NOTHING if fraction is None else f"{100 * fraction:.2f}"


def _in_percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _difference(result: Result, paper: Paper) -> float | None:
    if result.published is None or not is_comparable(result, paper):
        return None
    return 100 * result.scores.miou - result.published.miou


def _source(result: Result) -> str | None:
    if result.published is None:
        return None
    published = result.published
    return f"{published.backbone}, {published.dataset}, {published.source}"


def _shown(value: float | str | None, layout: str) -> str:
    return NOTHING if value is None or pd.isna(value) else layout.format(value)
