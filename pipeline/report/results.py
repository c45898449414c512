"""What became of a row of params.yaml: its metrics files, beside what was published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from pipeline import params
from pipeline.params import Config
from pipeline.report.paper import Counterpart, Paper, counterpart

T = TypeVar("T")

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Scores(Config):
    """A row's scores.json, see `evaluation.scores.summary`."""

    miou: Fraction
    miou_low: Fraction
    miou_high: Fraction
    pixel_accuracy: Fraction
    mean_class_accuracy: Fraction
    num_images: Annotated[int, Field(ge=1)]
    iou_per_class: dict[str, Fraction]
    absent_classes: list[str]
    warnings: list[str]


class TrimapPoint(Config):
    """An entry of a row's trimap.json, see `evaluation.scores.trimap_curve`."""

    trimap_width: Annotated[int, Field(ge=1)]
    miou: Fraction
    miou_low: Fraction
    miou_high: Fraction
    pixel_accuracy: Fraction


class WorstImage(Config):
    """An entry of a row's worst_images.json, see `evaluation.scores.worst_images`."""

    image_id: str
    miou: Fraction
    iou_per_class: dict[str, Fraction]


@dataclass(frozen=True)
class Result:
    """A row that was run and scored.

    Attributes:
        key: of the row.
        desc: of the row.
        data: path of the split it was scored on.
        published: what was published of it, if anything was.
        scores: over all scored pixels.
        trimap: the curve, by ascending width; empty where the split has no void pixels.
        multiply_adds: billions, counted as the authors did; None where they were not.
    """

    key: str
    desc: str
    data: str
    published: Counterpart | None
    scores: Scores
    trimap: list[TrimapPoint]
    multiply_adds: float | None

    def answers(self, paper_key: str) -> bool:
        """Whether a published row is one that this row is to reproduce."""
        return self.published is not None and paper_key in self.published.keys

    def trimap_miou(self, width: int) -> float | None:
        """Mean IoU within the trimap of that width, or None where the curve does not have it."""
        return next((p.miou for p in self.trimap if p.trimap_width == width), None)


def read_costs(path: Path) -> dict[str, float]:
    """Reads metrics/multiply_adds.json: billions by row, as the authors counted."""
    costs = read_json(path, dict[str, dict[str, float | None]])
    billions = {key: cost["authors_multiply_adds"] for key, cost in costs.items()}
    return {key: cost / 1e9 for key, cost in billions.items() if cost is not None}


def read(
    key: str,
    desc: str,
    data: str,
    paper_keys: Sequence[str],
    paper: Paper,
    metrics: Path,
    multiply_adds: float | None,
) -> Result:
    """Reads scores.json and trimap.json of a row's metrics folder.

    Raises:
        ValueError: a file is not what it should be, or `paper_keys` are not published rows of one
            result.
    """
    return Result(
        key=key,
        desc=desc,
        data=data,
        published=counterpart(paper, key, paper_keys),
        scores=read_json(metrics / "scores.json", Scores),
        trimap=read_json(metrics / "trimap.json", list[TrimapPoint]),
        multiply_adds=multiply_adds,
    )


def read_json(path: Path, type_: type[T]) -> T:
    """Reads a metrics file.

    Raises:
        ValueError: not JSON, or not what it should be; names the file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from error
    return params.validate(path, document, type_)
