"""The report as Markdown, with links to the pictures beside it."""

import re
from collections.abc import Sequence
from html import escape

from pipeline.report.parts import Grid, Picture, Section

_SYNTAX = re.compile(r"([\\`*\[\]|])")


def render(title: str, note: str, sections: Sequence[Section]) -> str:
    """Renders the report; `note` is printed above all numbers."""
    blocks = [f"# {_plain(title)}"]
    if note:
        blocks.append(f"> **{_plain(note)}**")
    for section in sections:
        blocks.append(f"## {_plain(section.title)}")
        blocks += [_plain(paragraph) for paragraph in section.paragraphs]
        blocks += [_grid(grid) for grid in section.grids]
        blocks += [block for picture in section.pictures for block in _picture(picture)]
    return "\n\n".join(blocks) + "\n"


def _grid(grid: Grid) -> str:
    num_numbers = len(grid.header) - 1 - grid.num_text_columns
    rule = [":--", *["--:"] * num_numbers, *[":--"] * grid.num_text_columns]
    cells = [[_plain(c).replace("\n", "<br>") for c in line] for line in (grid.header, *grid.lines)]
    for index in grid.muted:
        cells[index + 1] = [f"*{cell}*" for cell in cells[index + 1]]
    return "\n".join(f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:]))


def _picture(picture: Picture) -> list[str]:
    title = [f"### {_plain(picture.title.replace(chr(10), ': '))}"] if picture.title else []
    caption = [_plain(picture.caption)] if picture.caption else []
    return [*title, f"![{_plain(picture.alt)}]({picture.file})", *caption]


def _plain(text: str) -> str:
    return _SYNTAX.sub(r"\\\1", escape(text, quote=False))
