"""What MLflow shows of an import, a trained model and a row, read from DVC's outs alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipeline.tracking.identity import flatten, identity, legal, stage
from pipeline.tracking.provenance import File, read

_SCORES = ("miou", "pixel_accuracy", "mean_class_accuracy")

# What a history's values are called in MLflow, if not train/...
_NAMES = {"validation_miou": "val/miou"}

# Metric -> step -> value.
Curves = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Run:
    """One run, whole.

    Attributes:
        kind: "import", "model" or "row".
        key: of the entry in params.yaml.
        identity: by which it is found again.
        desc: of the entry.
        params: the entry, and of a row its model's too.
        curves: iteration or trimap_width is the step; of a single value 0.
        files: what it was made of and what it made; "data" is the split, which an import has not.
        num_images: in the split.
        figures: name and file; the names are the same in all runs, so that MLflow compares them.
        trained: of a row, the run of its model.
        warnings: of a row, what its evaluation warns of; a sentence each.
    """

    kind: str
    key: str
    identity: str
    desc: str
    params: dict[str, str]
    curves: Curves
    files: dict[str, File]
    num_images: int
    figures: dict[str, Path]
    trained: "Run | None"
    warnings: list[str]

    @property
    def name(self) -> str:
        """The stage whose result this is."""
        return stage(self.kind, self.key)


def of_model(
    key: str,
    entry: Mapping[str, Any],
    *,
    data: File,
    start: File,
    num_images: int,
    checkpoint: Path,
    history: Path,
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
        curves=_history(history),
        files={"data": data, "start": start, **made},
        num_images=num_images,
        figures={},
        trained=None,
        warnings=[],
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
        curves={},
        files={"archive": archive, **made},
        num_images=0,
        figures={},
        trained=None,
        warnings=[],
    )


def of_row(
    key: str,
    entry: Mapping[str, Any],
    *,
    data: File,
    num_images: int,
    trained: Run,
    scores: Path,
    trimap: Path,
    figures: Mapping[str, Path],
) -> Run:
    """Reads a row: its scores, its trimap curve and those of its figures that there are."""
    made = {
        "checkpoint": trained.files["checkpoint"],
        "scores": read(scores),
        "trimap": read(trimap),
    }
    summary = json.loads(scores.read_text(encoding="utf-8"))
    points = json.loads(trimap.read_text(encoding="utf-8"))
    params = flatten(entry) | {f"model.{name}": value for name, value in trained.params.items()}
    return Run(
        kind="row",
        key=key,
        identity=_identity("row", key, params, made),
        desc=entry["desc"],
        params=params,
        curves=_scores(summary) | _trimap(points) | _ious(summary["iou_per_class"]),
        files={"data": data, **made},
        num_images=num_images,
        figures={name: path for name, path in figures.items() if path.exists()},
        trained=trained,
        warnings=summary["warnings"],
    )


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


def _scores(scores: Mapping[str, Any]) -> Curves:
    return {f"score/{name}": {0: scores[name]} for name in _SCORES}


def _ious(iou_per_class: Mapping[str, float]) -> Curves:
    return {legal(f"iou/{name}"): {0: iou} for name, iou in iou_per_class.items()}


def _trimap(points: Sequence[Mapping[str, Any]]) -> Curves:
    return {
        f"trimap/{name}": {point["trimap_width"]: point[name] for point in points}
        for name in ("miou", "pixel_accuracy")
    }
