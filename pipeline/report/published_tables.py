"""The paper's tables, a line per published row, ours beside it where it was run."""

import re
from collections.abc import Mapping, Sequence

from pipeline.paper import Paper, Published
from pipeline.report import table
from pipeline.report.parts import Grid, Section
from pipeline.report.results import Result, Submitted

_HEADER = ["published row", "paper", "ours", table.INTERVAL, "difference"]
_COSTS = ["paper's G MAdds", "our G MAdds"]
_OURS = ["training h", "our row"]
_PREFIX = re.compile(r"^(table\d+|zoo)_")


def build(results: Sequence[Result], submitted: Sequence[Submitted], paper: Paper) -> list[Section]:
    """A section for each table that has a row here, and one, folded, with all the others."""
    by_table: dict[int | str, dict[str, Published]] = {}
    for key, row in paper.rows.items():
        by_table.setdefault(row.table, {})[key] = row
    titles = {number: _title(number, paper) for number in by_table}
    ours: list[Result | Submitted] = [*results, *submitted]
    answered = {key for one in ours for key in (one.published.keys if one.published else ())}
    run = [number for number, rows in by_table.items() if answered & rows.keys()]
    sections = [Section(titles[n], [], [_grid(by_table[n], ours, paper)], []) for n in run]
    others = [number for number in by_table if number not in run]
    if others:
        listed = "; ".join(f"{titles[n]} ({len(by_table[n])} rows)" for n in others)
        grids = [_grid(by_table[number], ours, paper) for number in others]
        sections.append(Section("Tables not run here", [f"{listed}."], grids, [], is_folded=True))
    return sections


def _title(number: int | str, paper: Paper) -> str:
    if isinstance(number, int):
        return f"Table {number}: {paper.tables[number]}"
    return "The authors' model zoo"


def _grid(rows: Mapping[str, Published], ours: Sequence[Result | Submitted], paper: Paper) -> Grid:
    """One line for each published row, and one more for each further row of ours of the same."""
    has_costs = any(row.multiply_adds is not None for row in rows.values())
    lines: list[list[str]] = []
    muted: set[int] = set()
    for key, row in rows.items():
        answers: list[Result | Submitted | None] = [one for one in ours if one.answers(key)]
        for one in answers or [None]:
            if one is None:
                muted.add(len(lines))
            costs = _costs(row, one) if has_costs else []
            note = f"; {row.note}" if row.note else ""
            name = [f"{_PREFIX.sub('', key)}\n{row.dataset}{note}", f"{row.miou:.2f}"]
            lines.append([*name, *_scores(row, one, paper), *costs, *_made(one)])
    header = [*_HEADER, *(_COSTS if has_costs else []), *_OURS]
    return Grid(header, lines, num_text_columns=1, muted=frozenset(muted))


def _scores(row: Published, ours: Result | Submitted | None, paper: Paper) -> list[str]:
    """Ours, its interval, and the difference; a server gives no interval."""
    if isinstance(ours, Result):
        miou = 100 * ours.scores.miou
        interval = f"{100 * ours.scores.miou_low:.1f} to {100 * ours.scores.miou_high:.1f}"
        is_comparable = table.is_comparable(ours, paper)
        return [
            f"{miou:.2f}",
            interval,
            f"{miou - row.miou:+.2f}" if is_comparable else table.NOTHING,
        ]
    if ours is None or ours.server_miou is None:
        return [table.NOTHING] * 3
    return [f"{ours.server_miou:.2f}", table.NOTHING, f"{ours.server_miou - row.miou:+.2f}"]


def _costs(row: Published, ours: Result | Submitted | None) -> list[str]:
    counted = ours.multiply_adds if isinstance(ours, Result) else None
    costs = [table.NOTHING if c is None else f"{c:.2f}" for c in (row.multiply_adds, counted)]
    if row.multiply_adds_corrected is not None:
        costs[0] += f"\na misprint of {row.multiply_adds_corrected:.2f}"
    return costs


def _made(ours: Result | Submitted | None) -> list[str]:
    if ours is None:
        return [table.NOTHING, "not run"]
    hours = f"{ours.training.hours:.2f}" if ours.training else table.NOTHING
    if isinstance(ours, Submitted) and ours.server_miou is None:
        return [hours, f"{ours.key}\nawaits the server"]
    return [hours, ours.key]
