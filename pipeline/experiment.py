"""params.yaml as a whole: all sections, and what must hold between them.

The stages load only their own sections. The first stage of the pipeline loads this, so that a typo
in the last row is found before the first model is trained.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline import params
from pipeline.evaluation.config import Evaluation
from pipeline.inference.config import Inference
from pipeline.model.config import Network
from pipeline.originals.config import (
    Archive,
    Cityscapes,
    CityscapesCoarse,
    Coco,
    Trainaug,
    Voc,
)
from pipeline.params import Config
from pipeline.report.config import Report
from pipeline.training.config import Training

# A key is part of paths, of DVC's stage names and of its dotted parameter names.
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+$")]


class Model(Config):
    """One trained network.

    Attributes:
        desc: for people; begins with the paper's section or table.
        data: the split it is trained on.
        start: weights of its backbone, or another model's checkpoint.
        network: what is trained.
        training: how.
    """

    desc: str
    data: str
    start: str
    network: Network
    training: Training


class Row(Config):
    """One row of a table: a trained network under one inference strategy.

    Attributes:
        desc: for people; begins with the paper's section or table.
        model: key of a model.
        data: the split it is evaluated on.
        paper: key of the published row in paper.yaml, or null where there is none.
        inference: how label maps are made.
        evaluation: how they are scored.
    """

    desc: str
    model: str
    data: str
    paper: str | None
    inference: Inference
    evaluation: Evaluation


class Mlflow(Config):
    """Where MLflow files the runs.

    Attributes:
        experiment: name of the experiment.
    """

    experiment: Annotated[str, Field(min_length=1)]


class Experiment(Config):
    """The whole of params.yaml."""

    archives: dict[Key, Archive]
    voc: dict[Key, Voc]
    trainaug: dict[Key, Trainaug]
    coco: dict[Key, Coco]
    cityscapes: dict[Key, Cityscapes]
    cityscapes_coarse: dict[Key, CityscapesCoarse]
    models: Annotated[dict[Key, Model], Field(min_length=1)]
    rows: Annotated[dict[Key, Row], Field(min_length=1)]
    report: Report
    mlflow: Mlflow


def load(path: Path) -> Experiment:
    """Loads and checks all of params.yaml.

    Raises:
        ValueError: with a line per mistake.
    """
    experiment = params.validate(path, params.read(path), Experiment)
    mistakes = [f"{path}: {mistake}" for mistake in _mistakes(experiment)]
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return experiment


def _mistakes(experiment: Experiment) -> list[str]:
    return [
        *_source_mistakes(experiment),
        *(m for key, model in experiment.models.items() for m in _model_mistakes(key, model)),
        *(m for key, row in experiment.rows.items() for m in _row_mistakes(key, row, experiment)),
        *_start_mistakes(experiment),
        *_data_mistakes(experiment),
    ]


def _source_mistakes(experiment: Experiment) -> list[str]:
    mistakes = [
        f"{section}.{key}: not one of archives ({_listed(experiment.archives)})"
        for section, keys in (("voc", experiment.voc), ("trainaug", experiment.trainaug))
        for key in keys
        if key not in experiment.archives
    ]
    for section, count in (("voc", len(experiment.voc)), ("trainaug", len(experiment.trainaug))):
        if count > 1:
            mistakes.append(f"{section}: {count} archives, but all would write the same splits")
    if experiment.trainaug and not experiment.voc:
        mistakes.append("trainaug: needs VOC train and val, but voc lists no archive")
    return mistakes + _zip_source_mistakes(experiment)


def _zip_source_mistakes(experiment: Experiment) -> list[str]:
    """Of the sources that name two archives each: one of images, one of labels."""
    named = [
        *((f"coco.{k}.images", e.images) for k, e in experiment.coco.items()),
        *((f"coco.{k}.annotations", e.annotations) for k, e in experiment.coco.items()),
    ]
    for section in ("cityscapes", "cityscapes_coarse"):
        entries: dict[str, Cityscapes | CityscapesCoarse] = getattr(experiment, section)
        named += [(f"{section}.{k}.images", e.images) for k, e in entries.items()]
        named += [(f"{section}.{k}.labels", e.labels) for k, e in entries.items()]
    mistakes = [
        f"{place}: {name!r} is not one of archives ({_listed(experiment.archives)})"
        for place, name in named
        if name not in experiment.archives
    ]
    return mistakes + [
        f"{section}: {count} entries, but all would write the same splits"
        for section in ("cityscapes", "cityscapes_coarse")
        if (count := len(getattr(experiment, section))) > 1
    ]


def _model_mistakes(key: str, model: Model) -> list[str]:
    stride, crop_size = model.network.output_stride, model.training.crop_size
    if crop_size % stride != 1 or crop_size <= stride:
        return [
            f"models.{key}.training.crop_size: {crop_size} is not k * {stride} + 1 with k >= 1, "
            f"as output_stride {stride} needs; nearest: {_fitting_size(crop_size, stride)}"
        ]
    return []


def _row_mistakes(key: str, row: Row, experiment: Experiment) -> list[str]:
    mistakes = []
    if key == "data":
        mistakes.append("rows.data: metrics/data is where the data's own metrics are; rename it")
    if row.model not in experiment.models:
        mistakes.append(
            f"rows.{key}.model: {row.model!r} is not one of models ({_listed(experiment.models)})"
        )
    stride = row.inference.output_stride
    for side, size in (("height", row.inference.height), ("width", row.inference.width)):
        for scale in row.inference.scales:
            scaled = (size - 1) * scale + 1
            if scaled % stride != 1 or scaled <= stride:
                mistakes.append(
                    f"rows.{key}.inference.{side}: {size} at scale {scale} gives {scaled:g}, which "
                    f"is not k * {stride} + 1 with k >= 1, as output_stride {stride} needs"
                )
    return mistakes


def _start_mistakes(experiment: Experiment) -> list[str]:
    known = {f"archives/{key}" for key in experiment.archives}
    known |= {f"checkpoints/{key}.safetensors" for key in experiment.models}
    mistakes = [
        f"models.{key}.start: {model.start!r} is not one of {_listed(known)}"
        for key, model in experiment.models.items()
        if model.start not in known
    ]
    return mistakes + [
        f"models.{key}.start: {model.start!r} leads back to {key}: a chain of models needs a first"
        for key, model in experiment.models.items()
        if _starts_from_itself(key, experiment.models)
    ]


def _starts_from_itself(key: str, models: dict[str, Model]) -> bool:
    by_checkpoint = {f"checkpoints/{other}.safetensors": other for other in models}
    start = by_checkpoint.get(models[key].start)
    for _ in models:
        if start is None or start == key:
            break
        start = by_checkpoint.get(models[start].start)
    return start == key


def _data_mistakes(experiment: Experiment) -> list[str]:
    known: set[str] = set()
    if experiment.voc:
        known |= {f"data/voc/{split}.arrow" for split in ("train", "val", "trainval")}
    if experiment.trainaug:
        known.add("data/voc/trainaug.arrow")
    known |= {f"data/coco/{key}.arrow" for key in experiment.coco}
    if experiment.cityscapes:
        known |= {f"data/cityscapes/{split}.arrow" for split in ("train", "val", "test")}
    if experiment.cityscapes_coarse:
        known.add("data/cityscapes/coarse.arrow")
    entries = [(f"models.{key}", model.data) for key, model in experiment.models.items()]
    entries += [(f"rows.{key}", row.data) for key, row in experiment.rows.items()]
    return [
        f"{place}.data: {data!r} is not one of {_listed(known)}"
        for place, data in entries
        if data not in known
    ]


def _fitting_size(size: int, stride: int) -> int:
    return max(1, round((size - 1) / stride)) * stride + 1


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
