"""paper.yaml: the numbers that were published, in percent as printed."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline import params
from pipeline.params import Config

Percent = Annotated[float, Field(gt=0.0, lt=100.0)]


class Published(Config):
    """One row of a published table.

    Attributes:
        table: its number.
        backbone: as the paper calls it.
        dataset: that the mIoU is over; one of the file's datasets.
        miou: percent.
        multiply_adds: billions, where the table has that column.
        note: what a reader of the number should know, where there is something.
    """

    table: Annotated[int, Field(ge=1)]
    backbone: str
    dataset: str
    miou: Percent
    multiply_adds: Annotated[float, Field(gt=0.0)] | None = None
    note: str | None = None


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


class Paper(Config):
    """The whole of paper.yaml.

    Attributes:
        datasets: number of images of each.
        figure5: by backbone.
        rows: of the tables, by key.
    """

    datasets: dict[str, Annotated[int, Field(ge=1)]]
    figure5: dict[str, TrimapGain]
    rows: dict[str, Published]


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
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return paper


def find(paper: Paper, row_key: str, paper_key: str | None) -> Published | None:
    """Looks up what a row of params.yaml names as its published counterpart, null being none.

    Raises:
        ValueError: there is no such published row.
    """
    if paper_key is None:
        return None
    if paper_key not in paper.rows:
        nearest = ", ".join(get_close_matches(paper_key, paper.rows)) or "none"
        raise ValueError(
            f"rows.{row_key}.paper: {paper_key!r} is not one of the {len(paper.rows)} rows of "
            f"paper.yaml; the nearest: {nearest}"
        )
    return paper.rows[paper_key]
