"""What MLflow shows of an import, a trained model and a row, read from DVC's outs alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipeline.paper import Counterpart, Paper, counterpart
from pipeline.report import results, table
from pipeline.report.results import Result, Scores, TrainingCost, TrimapPoint
from pipeline.tracking import facts
from pipeline.tracking.identity import flatten, identity, legal, stage
from pipeline.tracking.provenance import File, read

_SCORES = ("miou", "miou_low", "miou_high", "pixel_accuracy", "mean_class_accuracy")
_TRIMAP = ("miou", "miou_low", "miou_high", "pixel_accuracy")

# What a history's values are called in MLflow, if not train/...
_NAMES = {"validation_miou": "val/miou"}

# Metric -> step -> value.
Curves = dict[str, dict[int, float]]


@dataclass(frozen=True)
class DataSet:
    """A split that a run reads.

    Attributes:
        file: the split.
        num_images: in it.
        context: "training", "validation" or "evaluation".
    """

    file: File
    num_images: int
    context: str


@dataclass(frozen=True)
class Run:
    """One run, whole.

    Attributes:
        kind: "import", "model" or "row".
        key: of the entry in params.yaml.
        identity: by which it is found again.
        desc: of the entry.
        params: the entry, and of a row its model's too.
        tags: by which runs are sorted and searched.
        files: what it was made of and what it made, by role.
        curves: by metric; the step is the iteration or the trimap_width, and 0 of a single value.
        data_sets: what it reads; the first is the one in `files`.
        figures: name and file; the names are the same in all runs, so that MLflow compares them.
        trained: of a row, the run of its model.
        scores: of a row.
        published: of a row, what was published of it, if anything was.
        is_comparable: whether the published score is over as many images.
        inference: of a row, the section of its entry; else empty.
    """

    kind: str
    key: str
    identity: str
    desc: str
    params: dict[str, str]
    tags: dict[str, str]
    files: dict[str, File]
    curves: Curves = field(default_factory=dict)
    data_sets: list[DataSet] = field(default_factory=list)
    figures: dict[str, Path] = field(default_factory=dict)
    trained: "Run | None" = None
    scores: Scores | None = None
    published: Counterpart | None = None
    is_comparable: bool = False
    inference: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """The stage whose result this is."""
        return stage(self.kind, self.key)

    @property
    def name(self) -> str:
        """What a person types to find it: a row's key and table, a model's stage."""
        if self.kind != "row":
            return self.stage
        return f"{self.key} ({self.published.source})" if self.published else self.key

    @property
    def warnings(self) -> list[str]:
        """What a row's evaluation warns of; a sentence each."""
        return self.scores.warnings if self.scores else []


def of_model(
    key: str,
    entry: Mapping[str, Any],
    *,
    data: DataSet,
    validation: DataSet,
    start: File,
    checkpoint: Path,
    history: Path,
    training: TrainingCost | None,
) -> Run:
    """Reads a trained model: its curve is in the history, a JSON object per iteration.

    Raises:
        ValueError: a line of the history is not as `train` writes it.
    """
    made = {"checkpoint": read(checkpoint), "history": read(history)}
    params = flatten(entry)
    return Run(
        kind="model",
        key=key,
        identity=_identity("model", key, params, made),
        desc=entry["desc"],
        params=params,
        curves=_history(history) | _single(facts.training_cost(training)),
        tags=facts.of_network(entry["network"]) | facts.devices(training),
        files={"data": data.file, "start": start, **made},
        data_sets=_once([data, validation]),
    )


def of_import(
    key: str, entry: Mapping[str, Any], *, archive: File, checkpoint: Path, history: Path
) -> Run:
    """Reads a checkpoint of the authors that was imported."""
    made = {"checkpoint": read(checkpoint), "history": read(history)}
    params = flatten(entry)
    return Run(
        kind="import",
        key=key,
        identity=_identity("import", key, params, made),
        desc=entry["desc"],
        params=params,
        tags=facts.of_network(entry["network"]),
        files={"archive": archive, **made},
    )


def of_row(
    key: str,
    entry: Mapping[str, Any],
    *,
    data: DataSet,
    trained: Run,
    paper: Paper,
    metrics: Path,
    cost: Mapping[str, float],
    training: TrainingCost | None,
    figures: Mapping[str, Path],
) -> Run:
    """Reads a row: its scores, its trimap curve and those of its figures that exist.

    Raises:
        ValueError: a file in its folder of metrics is not as `evaluate` writes it, or it names
            published rows that do not exist.
    """
    made = {
        "checkpoint": trained.files["checkpoint"],
        "scores": read(metrics / "scores.json"),
        "trimap": read(metrics / "trimap.json"),
    }
    result = results.read(
        key,
        entry["desc"],
        entry["data"],
        counterpart(paper, f"rows.{key}", entry["paper"]),
        metrics,
        trimap_band=entry["evaluation"]["trimap_band"],
        multiply_adds=None,
        training=training,
    )
    is_comparable = table.is_comparable(result, paper)
    params = flatten(entry) | {f"model.{name}": value for name, value in trained.params.items()}
    costs = facts.inference_cost(cost) | facts.training_cost(training)
    stride = {"output_stride.evaluation": str(entry["inference"]["output_stride"])}
    published = {"table": result.published.source} if result.published else {}
    return Run(
        kind="row",
        key=key,
        identity=_identity("row", key, params, made),
        desc=entry["desc"],
        params=params,
        curves=_scores(result, is_comparable=is_comparable)
        | _trimap(result.trimap)
        | _ious(result.scores.iou_per_class)
        | _single(costs),
        tags=trained.tags | stride | published,
        files={"data": data.file, **made},
        data_sets=[data],
        figures={name: path for name, path in figures.items() if path.exists()},
        trained=trained,
        scores=result.scores,
        published=result.published,
        is_comparable=is_comparable,
        inference=entry["inference"],
    )


def _once(data_sets: Sequence[DataSet]) -> list[DataSet]:
    """Each split once, with all its contexts: MLflow keeps one text for each data set."""
    contexts: dict[File, list[str]] = {}
    for used in data_sets:
        contexts.setdefault(used.file, []).append(used.context)
    sizes = {used.file: used.num_images for used in data_sets}
    return [DataSet(file, sizes[file], ", ".join(names)) for file, names in contexts.items()]


def _identity(kind: str, key: str, params: dict[str, str], made: dict[str, File]) -> str:
    return identity(kind, key, params, {role: file.md5 for role, file in made.items()})


def _history(path: Path) -> Curves:
    curves: Curves = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            point = json.loads(line)
            iteration = point.pop("iteration")
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}:{number}: no JSON object with an iteration: {line}"
            ) from error
        for name, value in point.items():
            curves.setdefault(_NAMES.get(name, legal(f"train/{name}")), {})[iteration] = value
    if validated := curves.get("val/miou"):
        best = accumulate(validated.values(), max)
        curves["best/miou"] = dict(zip(validated, best, strict=True))
    return curves


def _scores(result: Result, *, is_comparable: bool) -> Curves:
    scores = {name: getattr(result.scores, name) for name in _SCORES}
    if result.published is not None:
        scores["paper_miou"] = round(result.published.miou / 100, 6)  # 0.7721, not 0.77209...
        if is_comparable:
            scores["difference"] = result.scores.miou - scores["paper_miou"]
    return _single({f"score/{name}": value for name, value in scores.items()})


def _ious(iou_per_class: Mapping[str, float]) -> Curves:
    return _single({legal(f"iou/{name}"): iou for name, iou in iou_per_class.items()})


def _trimap(points: Sequence[TrimapPoint]) -> Curves:
    return {
        f"trimap/{name}": {point.trimap_width: getattr(point, name) for point in points}
        for name in _TRIMAP
        if points
    }


def _single(values: Mapping[str, float]) -> Curves:
    return {name: {0: value} for name, value in values.items()}
