"""paper.yaml: the numbers that were published, in percent as printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline import params
from pipeline.params import Config

Percent = Annotated[float, Field(gt=0.0, lt=100.0)]


class Published(Config):
    """One row of a published table.

    Attributes:
        table: its number, or "zoo" for the authors' model zoo.
        backbone: as the paper calls it.
        dataset: that the mIoU is over; one of the file's datasets.
        miou: percent.
        multiply_adds: billions as printed, where the table has that column.
        multiply_adds_corrected: billions, where the printed figure is a misprint.
        note: what a reader of the number should know, where there is something.
    """

    table: Annotated[int, Field(ge=1)] | Literal["zoo"]
    backbone: str
    dataset: str
    miou: Percent
    multiply_adds: Annotated[float, Field(gt=0.0)] | None = None
    multiply_adds_corrected: Annotated[float, Field(gt=0.0)] | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _corrects_what_is_printed(self) -> Self:
        if self.multiply_adds_corrected is not None and self.multiply_adds is None:
            raise ValueError("multiply_adds_corrected: there is no multiply_adds to correct")
        return self

    @property
    def source(self) -> str:
        """Where it stands, for people."""
        return "model zoo" if self.table == "zoo" else f"Table {self.table}"


class TrimapGain(Config):
    """Two curves of Fig. 5 and what Sec. 4.4 says of them.

    Attributes:
        decoder: key of the published row with the decoder.
        bilinear: key of the one with bilinear upsampling in its place.
        gain: mIoU points of the first over the second at the smallest trimap width.
    """

    decoder: str
    bilinear: str
    gain: float


class Claim(Config):
    """What the paper says of two of its rows.

    Attributes:
        section: and table where it says so.
        text: the claim, a sentence.
        row: key of a published row.
        over: key of the one it is compared with.
        expected: whether the first is said to gain over the second.
    """

    section: str
    text: str
    row: str
    over: str
    expected: Literal["gain", "no gain"]


class Paper(Config):
    """The whole of paper.yaml.

    Attributes:
        datasets: number of images of each.
        figure5: by backbone.
        claims: by name.
        tables: what each is of, by number.
        rows: of the tables, by key.
    """

    datasets: dict[str, Annotated[int, Field(ge=1)]]
    figure5: dict[str, TrimapGain]
    claims: dict[str, Claim]
    tables: dict[int, str]
    rows: dict[str, Published]


@dataclass(frozen=True)
class Counterpart:
    """What was published of a row of params.yaml: one result, under one or several keys.

    Attributes:
        keys: of the published rows.
        source: where these stand, for people: "Tables 1 and 2".
        backbone: as the paper calls it.
        dataset: that the mIoU is over.
        miou: percent.
        multiply_adds: billions as printed, where one of the rows has them.
    """

    keys: tuple[str, ...]
    source: str
    backbone: str
    dataset: str
    miou: float
    multiply_adds: float | None


def load(path: Path) -> Paper:
    """Loads paper.yaml.

    Raises:
        ValueError: a mistake in the file; a line each.
    """
    paper = params.validate(path, params.read(path), Paper)
    mistakes = [
        f"{path}: rows.{key}.dataset: {row.dataset!r} is not one of datasets"
        for key, row in paper.rows.items()
        if row.dataset not in paper.datasets
    ]
    mistakes += [
        f"{path}: figure5.{backbone}: {key!r} is not one of rows"
        for backbone, pair in paper.figure5.items()
        for key in (pair.decoder, pair.bilinear)
        if key not in paper.rows
    ]
    mistakes += [
        f"{path}: claims.{name}: {key!r} is not one of rows"
        for name, claim in paper.claims.items()
        for key in (claim.row, claim.over)
        if key not in paper.rows
    ]
    mistakes += [
        f"{path}: rows.{key}.table: {row.table} is not one of tables"
        for key, row in paper.rows.items()
        if row.table != "zoo" and row.table not in paper.tables
    ]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return paper


def find(paper: Paper, place: str, paper_key: str) -> Published:
    """Looks up one published row that a row of params.yaml names.

    Raises:
        ValueError: there is no such published row.
    """
    if paper_key not in paper.rows:
        nearest = ", ".join(get_close_matches(paper_key, paper.rows)) or "none"
        raise ValueError(
            f"{place}.paper: {paper_key!r} is not one of the {len(paper.rows)} rows of "
            f"paper.yaml; the nearest: {nearest}"
        )
    return paper.rows[paper_key]


def counterpart(paper: Paper, place: str, paper_keys: Sequence[str]) -> Counterpart | None:
    """Looks up all published rows that a row of params.yaml names; none give None.

    Raises:
        ValueError: one does not exist or is named twice, or they are not of one result.
    """
    found = [find(paper, place, key) for key in paper_keys]
    if not found:
        return None
    for index, key in enumerate(paper_keys):
        if key in paper_keys[:index]:
            raise ValueError(f"{place}.paper: {key!r} is named twice")
    first = found[0]
    for key, other in zip(paper_keys, found, strict=True):
        if _result(other) != _result(first):
            raise ValueError(
                f"{place}.paper: {paper_keys[0]!r} published {_result(first)}, but {key!r} "
                f"{_result(other)}: one row cannot answer both"
            )
    printed = {row.multiply_adds for row in found if row.multiply_adds is not None}
    if len(printed) > 1:
        listed = " and ".join(f"{figure:g}" for figure in sorted(printed))
        raise ValueError(
            f"{place}.paper: the published rows cost {listed} billion multiply-adds: one "
            "row cannot answer both"
        )
    return Counterpart(
        keys=tuple(paper_keys),
        source=_joined(found),
        backbone=first.backbone,
        dataset=first.dataset,
        miou=first.miou,
        multiply_adds=next(iter(printed), None),
    )


def check(paper: Paper, paper_keys: Mapping[str, Sequence[str]]) -> None:
    """Looks up the counterparts of all rows, by where params.yaml names them ("rows.v3").

    Raises:
        ValueError: a line per row with a mistake.
    """
    mistakes = []
    for place, keys in paper_keys.items():
        try:
            counterpart(paper, place, keys)
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ValueError("\n".join(mistakes))


def _result(published: Published) -> str:
    """What published rows of one result have in common."""
    return f"{published.miou:.2f} % of {published.dataset} with {published.backbone}"


def _joined(rows: Sequence[Published]) -> str:
    """Names tables first, by ascending number: "Tables 2 and 3", "Table 5 and model zoo"."""
    numbers = [str(n) for n in sorted({row.table for row in rows if isinstance(row.table, int)})]
    names = []
    if len(numbers) == 1:
        names.append(f"Table {numbers[0]}")
    elif numbers:
        names.append(f"Tables {', '.join(numbers[:-1])} and {numbers[-1]}")
    if any(row.table == "zoo" for row in rows):
        names.append("model zoo")
    return " and ".join(names)
