"""What the report is made of: sections of paragraphs, grids and pictures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A table; a cell's second line, after a newline, is smaller.

    Attributes:
        header: of each column.
        lines: as many cells each; the first names the line.
        num_text_columns: at the end of each line, not numbers.
        muted: indices of lines that stand back.
    """

    header: list[str]
    lines: list[list[str]]
    num_text_columns: int = 0
    muted: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        file: path relative to the report's folder.
        alt: what it shows, for who cannot see it.
        caption: below it.
        title: above it, if it has one; a titled picture can be folded away.
    """

    file: str
    alt: str
    caption: str
    title: str | None = None


@dataclass(frozen=True)
class Section:
    """A heading and what follows it, in this order.

    A warning stands out; what is folded has its grids and pictures one click away.
    """

    title: str
    paragraphs: list[str]
    grids: list[Grid]
    pictures: list[Picture]
    is_warning: bool = False
    is_folded: bool = False
