"""params.yaml as a whole: all sections, and what must hold between them.

The stages load only their own sections. The first stage of the pipeline loads this, so that a typo
in the last row is found before the first model is trained.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline import params, sources
from pipeline.classes import Classes
from pipeline.evaluation.config import Evaluation
from pipeline.importing.config import TABLES, Import
from pipeline.inference.config import Inference
from pipeline.model.config import Network
from pipeline.originals.config import (
    Archive,
    Cityscapes,
    CityscapesCoarse,
    Coco,
    Custom,
    Trainaug,
    Voc,
    VocTest,
)
from pipeline.params import Config
from pipeline.report.config import Report
from pipeline.training.config import Training, Validation, part_mistake, size_mistakes

# A key is part of paths, of DVC's stage names and of its dotted parameter names.
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+$")]


_VOC_SECTIONS = ("voc", "voc_test", "trainaug")
_CUSTOM_SPLITS = {f"data/custom/{split}.arrow" for split in ("train", "val")}
_OTHER_CLASSES_ADVICE = (
    "; start from its weights without a classifier: an import with classes: null, or what make "
    "drop-classifier writes"
)


class Model(Config):
    """One trained network.

    Attributes:
        desc: for people; begins with the paper's section or table.
        data: the split it is trained on.
        start: weights of its backbone, or another model's checkpoint.
        network: what is trained.
        training: how.
        validation: how it is watched meanwhile.
    """

    desc: str
    data: str
    start: str
    network: Network
    training: Training
    validation: Validation


class Row(Config):
    """One row of a table: a trained network under one inference strategy.

    Attributes:
        desc: for people; begins with the paper's section or table.
        model: key of a model, or of an import.
        data: the split it is evaluated on.
        paper: keys of the rows in paper.yaml that published its result, most often one or none.
        inference: how label maps are made.
        evaluation: how they are scored.
    """

    desc: str
    model: str
    data: str
    paper: list[str]
    inference: Inference
    evaluation: Evaluation


class Submission(Config):
    """One row of a table that a test server scores.

    Attributes:
        desc: for people; begins with the paper's section or table.
        model: key of a model, or of an import.
        data: the split without labels.
        paper: keys of the rows in paper.yaml that published its result, most often one or none.
        inference: how label maps are made.
        server_miou: percent, as the server said; null until it did. The report alone reads it.
    """

    desc: str
    model: str
    data: str
    paper: list[str]
    inference: Inference
    server_miou: Annotated[float, Field(gt=0.0, lt=100.0)] | None


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
    voc_test: dict[Key, VocTest]
    trainaug: dict[Key, Trainaug]
    coco: dict[Key, Coco]
    cityscapes: dict[Key, Cityscapes]
    cityscapes_coarse: dict[Key, CityscapesCoarse]
    custom: dict[Key, Custom]
    imports: dict[Key, Import]
    models: dict[Key, Model]
    rows: Annotated[dict[Key, Row], Field(min_length=1)]
    submissions: dict[Key, Submission]
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
        *_import_mistakes(experiment),
        *(
            m
            for key, model in experiment.models.items()
            for m in _model_mistakes(key, model, experiment)
        ),
        *(m for key, row in experiment.rows.items() for m in _row_mistakes(key, row, experiment)),
        *(
            mistake
            for key, submission in experiment.submissions.items()
            for mistake in _submission_mistakes(key, submission, experiment)
        ),
        *_start_mistakes(experiment),
        *_data_mistakes(experiment),
        *_class_mistakes(experiment),
        *(m for custom in experiment.custom.values() for m in _custom_mistakes(custom, experiment)),
    ]


def _source_mistakes(experiment: Experiment) -> list[str]:
    mistakes = [
        f"{section}.{key}: not one of archives ({_listed(experiment.archives)})"
        for section in _VOC_SECTIONS
        for key in getattr(experiment, section)
        if key not in experiment.archives
    ]
    for section in _VOC_SECTIONS:
        if (count := len(getattr(experiment, section))) > 1:
            mistakes.append(f"{section}: {count} archives, but all would write the same splits")
    if experiment.trainaug and not experiment.voc:
        mistakes.append("trainaug: needs VOC train and val, but voc lists no archive")
    if len(experiment.custom) > 1:
        mistakes.append(
            f"custom: {len(experiment.custom)} data sets, but all would write the same splits"
        )
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


def _import_mistakes(experiment: Experiment) -> list[str]:
    mistakes = []
    for key in experiment.imports:
        if key not in experiment.archives:
            mistakes.append(f"imports.{key}: not one of archives ({_listed(experiment.archives)})")
        if key in experiment.models:
            mistakes.append(
                f"imports.{key}: models.{key} is called the same, and both would write "
                f"checkpoints/{key}.safetensors"
            )
    return mistakes


def _model_mistakes(key: str, model: Model, experiment: Experiment) -> list[str]:
    network = model.network
    mistakes = _rate_mistakes(f"models.{key}.network", network, network.output_stride)
    mistakes += [
        f"models.{key}.{mistake}"
        for mistake in size_mistakes(network, model.training, model.validation)
    ]
    if mistake := part_mistake(model.network, model.training, num_devices=1):
        mistakes.append(f"models.{key}.training.{mistake}")
    return mistakes + _class_weight_mistakes(key, model, experiment)


def _class_weight_mistakes(key: str, model: Model, experiment: Experiment) -> list[str]:
    weights = model.training.class_weights
    if not isinstance(weights, list) or model.data not in _labelled_splits(experiment):
        return []
    names = _classes(experiment, model.data).names
    if len(weights) == len(names):
        return []
    return [
        f"models.{key}.training.class_weights: {len(weights)} weights for the {len(names)} classes "
        f"of {model.data} ({', '.join(names)})"
    ]


def _rate_mistakes(place: str, network: Network, output_stride: int) -> list[str]:
    if network.aspp is None:
        return []
    try:
        network.aspp.atrous_rates_at(output_stride)
    except ValueError as error:
        return [f"{place}.{error}"]
    return []


def _row_mistakes(key: str, row: Row, experiment: Experiment) -> list[str]:
    place = f"rows.{key}"
    mistakes = _network_mistakes(place, row.model, row.inference.output_stride, experiment)
    if key == "data":
        mistakes.append("rows.data: metrics/data is where the data's own metrics are; rename it")
    return mistakes


def _submission_mistakes(key: str, submission: Submission, experiment: Experiment) -> list[str]:
    output_stride = submission.inference.output_stride
    return _network_mistakes(f"submissions.{key}", submission.model, output_stride, experiment)


def _network_mistakes(
    place: str, model: str, output_stride: int, experiment: Experiment
) -> list[str]:
    if model in experiment.models:
        network = experiment.models[model].network
        return _rate_mistakes(f"{place}: models.{model}.network", network, output_stride)
    if model not in experiment.imports:
        known = [*experiment.models, *experiment.imports]
        return [f"{place}.model: {model!r} is not one of models or imports ({_listed(known)})"]
    imported = experiment.imports[model]
    if imported.network is None or imported.classes is None:
        return [f"{place}.model: imports.{model} has no classifier, so it cannot be evaluated"]
    return _rate_mistakes(f"{place}: imports.{model}.network", imported.network, output_stride)


def _start_mistakes(experiment: Experiment) -> list[str]:
    known = {f"archives/{key}" for key in experiment.archives}
    known |= {f"checkpoints/{key}.safetensors" for key in (*experiment.models, *experiment.imports)}
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
    labelled, hidden = _labelled_splits(experiment), _hidden_splits(experiment)
    learned = [(f"models.{key}", model.data) for key, model in experiment.models.items()]
    learned += [
        (f"models.{key}.validation", model.validation.data)
        for key, model in experiment.models.items()
    ]
    learned += [(f"rows.{key}", row.data) for key, row in experiment.rows.items()]
    mistakes = [
        f"{place}.data: the labels of {data} are known to a test server alone; it is for "
        "submissions"
        if data in hidden
        else f"{place}.data: {data!r} is not one of {_listed(labelled)}"
        for place, data in learned
        if data not in labelled
    ]
    return mistakes + [
        f"submissions.{key}.data: {submission.data!r} is not one of {_listed(hidden)}"
        for key, submission in experiment.submissions.items()
        if submission.data not in hidden
    ]


def _class_mistakes(experiment: Experiment) -> list[str]:
    """A model's validation split, a model started from its checkpoint, rows and submissions.

    All of these must have the classes of the network.
    """
    asked = [
        (f"models.{key}.validation.data", model.validation.data, key, "")
        for key, model in experiment.models.items()
    ]
    networks = (*experiment.models, *experiment.imports)
    by_checkpoint = {f"checkpoints/{key}.safetensors": key for key in networks}
    asked += [
        (f"models.{key}.data", model.data, by_checkpoint[model.start], _OTHER_CLASSES_ADVICE)
        for key, model in experiment.models.items()
        if model.start in by_checkpoint
    ]
    for section, entries in (("rows", experiment.rows), ("submissions", experiment.submissions)):
        asked += [
            (f"{section}.{key}.data", one.data, one.model, "") for key, one in entries.items()
        ]
    known = _labelled_splits(experiment) | _hidden_splits(experiment)
    told_apart = _classes_of_networks(experiment, known)
    return [
        f"{place}: {data} has other classes than {told_apart[network].source}{advice}"
        for place, data, network, advice in asked
        if network in told_apart
        and data in known
        and not _classes(experiment, data).agrees_with(told_apart[network].classes)
    ]


@dataclass(frozen=True)
class _ToldApart:
    """The classes that a network tells apart, and who says so."""

    classes: Classes
    source: str


def _classes_of_networks(experiment: Experiment, known: set[str]) -> dict[str, _ToldApart]:
    """Of each model on known data, and of each import that names a table."""
    told_apart = {
        key: _ToldApart(
            _classes(experiment, model.data), f"{model.data}, which models.{key} is trained on"
        )
        for key, model in experiment.models.items()
        if model.data in known
    }
    for key, imported in experiment.imports.items():
        if imported.classes in TABLES:
            source = f"imports.{key}, which has those of {imported.classes}"
            told_apart[key] = _ToldApart(TABLES[imported.classes], source)
    return told_apart


def _classes(experiment: Experiment, data: str) -> Classes:
    return sources.classes_of(data, experiment.custom, data)


def _labelled_splits(experiment: Experiment) -> set[str]:
    known = {f"data/coco/{key}.arrow" for key in experiment.coco}
    if experiment.voc:
        known |= {f"data/voc/{split}.arrow" for split in ("train", "val", "trainval")}
    if experiment.trainaug:
        known.add("data/voc/trainaug.arrow")
    if experiment.custom:
        known |= _CUSTOM_SPLITS
    if experiment.cityscapes:
        known |= {f"data/cityscapes/{split}.arrow" for split in ("train", "val")}
    if experiment.cityscapes_coarse:
        known.add("data/cityscapes/coarse.arrow")
    return known


def _hidden_splits(experiment: Experiment) -> set[str]:
    """Those whose labels a test server alone knows."""
    known = set()
    if experiment.voc_test:
        known.add("data/voc/test.arrow")
    if experiment.cityscapes:
        known.add("data/cityscapes/test.arrow")
    return known


def _custom_mistakes(custom: Custom, experiment: Experiment) -> list[str]:
    """Images of the largest size that is allowed must fit into all that predicts them."""
    nominal: list[tuple[str, Validation | Inference]] = [
        (f"models.{key}.validation", model.validation)
        for key, model in experiment.models.items()
        if model.validation.data in _CUSTOM_SPLITS and model.validation.every_iterations
    ]
    nominal += [
        (f"rows.{key}.inference", row.inference)
        for key, row in experiment.rows.items()
        if row.data in _CUSTOM_SPLITS
    ]
    return [
        f"{place}.{side}: {size} is less than the {largest} that max_{side} of custom allows "
        "images to have"
        for place, section in nominal
        for side, size, largest in (
            ("height", section.height, custom.max_height),
            ("width", section.width, custom.max_width),
        )
        if size < largest
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
