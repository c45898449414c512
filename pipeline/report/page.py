"""The report as one HTML page that needs no other file: pictures and style are inside it."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipeline.report.parts import Grid, Picture, Section

_STYLE_FILE = Path(__file__).with_name("page.css")

# Titled pictures after these are folded, so that a page of many rows opens at a glance.
_NUM_UNFOLDED = 2

_MAX_COLUMNS_BESIDE_SENTENCES = 4


def render(title: str, note: str, sections: Sequence[Section], folder: Path) -> str:
    """Renders the page.

    Args:
        title: its heading.
        note: what its numbers are and are not; printed above them.
        sections: its contents.
        folder: that the sections' pictures stand in.

    Returns:
        HTML.
    """
    body = "\n".join(
        _section(section, folder, place) for place, section in enumerate(sections, start=1)
    )
    links = "".join(
        f'<li><a href="#part-{place}">{escape(section.title)}</a></li>'
        for place, section in enumerate(sections, start=1)
    )
    warning = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE_FILE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<p class="eyebrow">A reproduction of DeepLab v3+,
<a href="https://arxiv.org/abs/1802.02611">arXiv:1802.02611</a></p>
<h1>{escape(title)}</h1>
{warning}
<nav aria-label="Contents"><ul>{links}</ul></nav>
{body}
<footer>The same numbers are in table.csv, and as text in table.txt and report.md, beside this
page. Every one of them was computed by a stage of dvc.yaml: <code>dvc dag</code> shows from
what.</footer>
</main>
</body>
</html>
"""


def _section(section: Section, folder: Path, place: int) -> str:
    told = [
        f"<h2>{escape(section.title)}</h2>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs),
    ]
    shown = [
        *(_grid(grid) for grid in section.grids),
        *(
            _picture(picture, folder, unfolded=index < _NUM_UNFOLDED)
            for index, picture in enumerate(section.pictures)
        ),
    ]
    if section.is_folded:
        shown = ["<details><summary>Show</summary>", *shown, "</details>"]
    look = ' class="warning"' if section.is_warning else ""
    return f'<section{look} id="part-{place}">\n' + "\n".join([*told, *shown]) + "\n</section>"


def _grid(grid: Grid) -> str:
    num_numbers = len(grid.header) - grid.num_text_columns
    looks = ["" if index < num_numbers else ' class="text"' for index in range(len(grid.header))]
    titles = [
        f'<th scope="col"{look}>{escape(title)}</th>'
        for title, look in zip(grid.header, looks, strict=True)
    ]
    lines = []
    for index, (name, *values) in enumerate(grid.lines):
        cells = [
            f'<td{look} data-column="{escape(title)}"><span>{_two_lines(value)}</span></td>'
            for value, title, look in zip(values, grid.header[1:], looks[1:], strict=True)
        ]
        muted = ' class="muted"' if index in grid.muted else ""
        lines.append(f'<tr{muted}><th scope="row">{_two_lines(name)}</th>{"".join(cells)}</tr>')
    head, body = "".join(titles), "\n".join(lines)
    # Where there are few numbers, the names may be whole sentences.
    kind = ' class="sentences"' if len(grid.header) <= _MAX_COLUMNS_BESIDE_SENTENCES else ""
    table = f"<table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f'<div class="wide">{table}</div>'


def _picture(picture: Picture, folder: Path, *, unfolded: bool) -> str:
    encoded = base64.b64encode((folder / picture.file).read_bytes()).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    image = f'<img alt="{escape(picture.alt)}" src="data:image/png;base64,{encoded}">'
    figure = f"<figure>{image}{caption}</figure>"
    if picture.title is None:
        return figure
    state = " open" if unfolded else ""
    return f"<details{state}><summary>{_two_lines(picture.title)}</summary>{figure}</details>"


def _two_lines(text: str) -> str:
    first, _, second = text.partition("\n")
    return escape(first) + (f"<small>{escape(second)}</small>" if second else "")
