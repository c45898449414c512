"""What became of a row of params.yaml: its metrics files, beside what was published."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pandas as pd
from pydantic import Field

from pipeline import params
from pipeline.evaluation.config import Band
from pipeline.paper import Counterpart
from pipeline.params import Config

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


class Pace(Config):
    """A model's pace.json, see `training.pace`."""

    seconds: Annotated[float, Field(gt=0.0)]
    iterations: Annotated[int, Field(ge=1)]
    images_per_second: Annotated[float, Field(gt=0.0)]
    device: str
    num_devices: Annotated[int, Field(ge=1)]
    torch: str


@dataclass(frozen=True)
class TrainingCost:
    """What it took to train a network, from the weights that were fetched on.

    Attributes:
        hours: of all trainings of its chain, each on the devices that it had.
        last: the pace of the last of them.
    """

    hours: float
    last: Pace


@dataclass(frozen=True)
class Result:
    """A row that was run and scored.

    Attributes:
        key: of the row.
        desc: of the row.
        data: path of the split it was scored on.
        trimap_band: how its trimaps were dilated.
        published: what was published of it, if anything was.
        scores: over all scored pixels.
        trimap: the curve, by ascending width; empty where the split has no void pixels.
        multiply_adds: billions, counted as the authors did; None where they were not.
        training: what it took to train its network here; None where nothing was trained.
    """

    key: str
    desc: str
    data: str
    trimap_band: Band
    published: Counterpart | None
    scores: Scores
    trimap: list[TrimapPoint]
    multiply_adds: float | None
    training: TrainingCost | None

    def answers(self, paper_key: str) -> bool:
        """Whether a published row is one that this row is to reproduce."""
        return self.published is not None and paper_key in self.published.keys

    def trimap_miou(self, width: int) -> float | None:
        """Mean IoU within the trimap of that width, or None where the curve does not have it."""
        return next((p.miou for p in self.trimap if p.trimap_width == width), None)


@dataclass(frozen=True)
class Submitted:
    """A row whose labels a test server alone knows.

    Attributes:
        key: of the submission.
        desc: of the submission.
        published: what was published of it, if anything was.
        server_miou: percent, what the server said; None where it was not asked yet.
        training: what it took to train its network here; None where nothing was trained.
    """

    key: str
    desc: str
    published: Counterpart | None
    server_miou: float | None
    training: TrainingCost | None

    def answers(self, paper_key: str) -> bool:
        """Whether a published row is one that this is to reproduce."""
        return self.published is not None and paper_key in self.published.keys


def read_costs(path: Path) -> dict[str, float]:
    """Reads metrics/multiply_adds.json: billions by row, as the authors counted."""
    costs = read_json(path, dict[str, dict[str, float]])
    return {key: cost["authors_multiply_adds"] / 1e9 for key, cost in costs.items()}


def read_training_cost(
    model: str, models: Mapping[str, Mapping[str, Any]], history: Path
) -> TrainingCost | None:
    """Adds up the paces of a model and of those that its weights come from.

    Args:
        model: key of a model, or of an import, which cost nothing here.
        models: of params.yaml, by key.
        history: folder of the paces.

    Raises:
        ValueError: a pace is not what it should be.
    """
    paces = []
    by_checkpoint = {f"checkpoints/{key}.safetensors": key for key in models}
    link: str | None = model if model in models else None
    while link is not None:
        paces.append(read_json(history / f"{link}.pace.json", Pace))
        link = by_checkpoint.get(models[link]["start"])
    if not paces:
        return None
    return TrainingCost(sum(pace.seconds for pace in paces) / 3600, paces[0])


def read(
    key: str,
    desc: str,
    data: str,
    published: Counterpart | None,
    metrics: Path,
    *,
    trimap_band: Band,
    multiply_adds: float | None,
    training: TrainingCost | None,
) -> Result:
    """Reads scores.json and trimap.json of a row's metrics folder.

    Raises:
        ValueError: a file is not what it should be.
    """
    return Result(
        key=key,
        desc=desc,
        data=data,
        trimap_band=trimap_band,
        published=published,
        scores=read_json(metrics / "scores.json", Scores),
        trimap=read_json(metrics / "trimap.json", list[TrimapPoint]),
        multiply_adds=multiply_adds,
        training=training,
    )


def read_confusion(path: Path) -> pd.DataFrame:
    """Reads a row's confusion matrix; a class may be called "0" or "None"."""
    return pd.read_csv(path, dtype={"label": str, "prediction": str}, keep_default_na=False)


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
