"""The paper's tables, a line per published row, ours beside it where it was run."""

import re
from collections.abc import Mapping, Sequence

from pipeline.report import table
from pipeline.report.paper import Paper, Published
from pipeline.report.parts import Grid, Section
from pipeline.report.results import Result

_HEADER = ["published row", "paper", "ours", table.INTERVAL, "difference"]
_COSTS = ["paper's G MAdds", "our G MAdds"]
_OURS = "our row"
_PREFIX = re.compile(r"^(table\d+|zoo)_")


def build(results: Sequence[Result], paper: Paper) -> list[Section]:
    """A section for each table that has a row here, and one, folded, with all the others."""
    by_table: dict[int | str, dict[str, Published]] = {}
    for key, row in paper.rows.items():
        by_table.setdefault(row.table, {})[key] = row
    titles = {number: _title(number, paper) for number in by_table}
    answered = {key for result in results for key in _keys(result)}
    run = [number for number, rows in by_table.items() if answered & rows.keys()]
    sections = [Section(titles[n], [], [_grid(by_table[n], results, paper)], []) for n in run]
    others = [number for number in by_table if number not in run]
    if others:
        listed = "; ".join(f"{titles[n]} ({len(by_table[n])} rows)" for n in others)
        grids = [_grid(by_table[number], results, paper) for number in others]
        sections.append(Section("Tables not run here", [f"{listed}."], grids, [], is_folded=True))
    return sections


def _keys(result: Result) -> Sequence[str]:
    return result.published.keys if result.published else ()


def _title(number: int | str, paper: Paper) -> str:
    if isinstance(number, int):
        return f"Table {number}: {paper.tables[number]}"
    return "The authors' model zoo"


def _grid(rows: Mapping[str, Published], results: Sequence[Result], paper: Paper) -> Grid:
    """One line for each published row, and one more for each further row of ours of the same."""
    has_costs = any(row.multiply_adds is not None for row in rows.values())
    lines: list[list[str]] = []
    muted = set()
    for key, row in rows.items():
        ours = [result for result in results if result.answers(key)]
        if not ours:
            muted.add(len(lines))
            lines.append(_line(key, row, None, paper, has_costs))
        lines += [_line(key, row, result, paper, has_costs) for result in ours]
    header = [*_HEADER, *(_COSTS if has_costs else []), _OURS]
    return Grid(header, lines, num_text_columns=1, muted=frozenset(muted))


def _line(
    key: str, row: Published, result: Result | None, paper: Paper, has_costs: bool
) -> list[str]:
    name = f"{_PREFIX.sub('', key)}\n{row.dataset}"
    line = [name, f"{row.miou:.2f}"]
    if result is None:
        line += [table.NOTHING] * 3
    else:
        scores = result.scores
        difference = f"{100 * scores.miou - row.miou:+.2f}"
        line += [
            f"{100 * scores.miou:.2f}",
            f"{100 * scores.miou_low:.1f} to {100 * scores.miou_high:.1f}",
            difference if table.is_comparable(result, paper) else table.NOTHING,
        ]
    if has_costs:
        cost = result.multiply_adds if result else None
        printed = row.multiply_adds
        line += [table.NOTHING if c is None else f"{c:.2f}" for c in (printed, cost)]
    return [*line, result.key if result else "not run"]
