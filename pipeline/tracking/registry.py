"""Servable models: each evaluated checkpoint, registered, and the best of them by name.

A checkpoint under the strategy of its best row is a LoggedModel of the experiment, and a version of
the registered model that is called as the experiment: `models:/NAME/3`. What is there already is
found again by both and stays as it is. The alias `champion` is on the version with the highest
mIoU among those whose row was evaluated on the same data: the split, and its bytes, that most rows
of params.yaml are evaluated on. It moves when that changes, whoever else has moved it.

A model costs one copy of its checkpoint in the store, and while it is written one more in the
temporary folder.
"""

import math
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
)
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.tracking import identity, servable, store
from pipeline.tracking.provenance import File
from pipeline.tracking.runs import Run

CHAMPION = "champion"
_SCORE = "score/miou"
_SCORES = (_SCORE, "score/pixel_accuracy", "score/mean_class_accuracy")
_VALIDATED = ("best/miou",)
_ORIGIN = ("git.commit", "git.state", "dvc.experiment")
_DESCRIPTION = (
    "Networks of the experiment of the same name, each under the strategy of its best row. "
    f"The alias {CHAMPION} is on the highest mIoU on the data that most rows are evaluated on."
)

# What a store says that has no registry, or none for us.
_ABSENT = {
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",  # an address that no registry has
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
}


def publish(
    client: MlflowClient,
    experiment_id: str,
    experiment: str,
    runs: Sequence[Run],
    run_ids: Mapping[str, str],
) -> None:
    """Registers what is new of the models and names the champion; says so where it moves.

    Args:
        client: of the store.
        experiment_id: where the runs are.
        experiment: its name.
        runs: all that params.yaml lists.
        run_ids: of these in MLflow, by name.
    """
    rows = [run for run in runs if run.kind == "row" and math.isfinite(_miou(run))]
    if not rows:
        return
    if reason := _missing(client, experiment_id):
        print(f"MLflow: runs are published, models are not: {reason}", file=sys.stderr)
        return
    name = registered_name(experiment)
    data = _compared(rows)
    known = {version.tags.get(identity.TAG): version for version in _versions(client, name)}
    for row in _best(rows, data):
        tags = _tags(row)
        model = _found(client, experiment_id, tags) or _made(
            client, experiment_id, row, tags, run_ids
        )
        _log_metrics(client, model, row, run_ids)
        version = known.get(tags[identity.TAG]) or _registered(client, name, model, row, tags)
        for tag, value in tags.items():
            if version.tags.get(tag) != value:
                client.set_model_version_tag(name, version.version, tag, value)
    _crown(client, name, data)


def registered_name(experiment: str) -> str:
    """The experiment's name as the registry allows it."""
    return re.sub(r"[/:'\"%]", "-", experiment)


def _missing(client: MlflowClient, experiment_id: str) -> str:
    """Why the store takes no models, empty if it does."""
    try:
        client.search_registered_models(max_results=1)
        client.search_logged_models([experiment_id], max_results=1)
    except NotImplementedError:
        return "the store has no model registry"
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return store.redacted(" ".join(str(error).split()))[:300]
    return ""


def _miou(row: Run) -> float:
    return row.curves[_SCORE][0]


def _compared(rows: Sequence[Run]) -> File:
    """The split that most rows are evaluated on, the first of equally many."""
    return Counter(row.files["data"] for row in rows).most_common(1)[0][0]


def _best(rows: Sequence[Run], data: File) -> list[Run]:
    """Of each checkpoint the row with the highest mIoU, on the compared split if it has one."""
    best: dict[str, Run] = {}
    for row in rows:
        key = row.files["checkpoint"].md5
        if key not in best or _rank(row, data) > _rank(best[key], data):
            best[key] = row
    return list(best.values())


def _rank(row: Run, data: File) -> tuple[bool, float]:
    return row.files["data"] == data, _miou(row)


def _tags(row: Run) -> dict[str, str]:
    """What a version is, and how good: the latter can change."""
    md5 = row.files["checkpoint"].md5
    strategy = identity.flatten({"inference": row.inference})
    return {
        identity.TAG: identity.identity("served", "", strategy, {"checkpoint": md5}),
        "model": _trained(row).key,
        "row": row.key,
        "miou": repr(_miou(row)),
        "data": row.files["data"].path,
        "data.md5": row.files["data"].md5,
        "checkpoint.md5": md5,
    }


def _trained(row: Run) -> Run:
    if row.trained is None:
        raise ValueError(f"{row.name}: is no row of a trained model")
    return row.trained


def _found(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> LoggedModel | None:
    """The model if it is there whole; what a killed `publish` left of one is deleted."""
    condition = f"tags.{identity.TAG} = '{tags[identity.TAG]}'"
    found = None
    for model in client.search_logged_models([experiment_id], condition):
        if model.status == LoggedModelStatus.READY:
            found = model
        else:
            client.delete_logged_model(model.model_id)
    return found


def _made(
    client: MlflowClient,
    experiment_id: str,
    row: Run,
    tags: Mapping[str, str],
    run_ids: Mapping[str, str],
) -> LoggedModel:
    trained = _trained(row)
    source = client.get_run(run_ids[trained.name])
    facts = {tag: value for tag, value in source.data.tags.items() if tag in _ORIGIN}
    facts |= {tag: value for tag, value in tags.items() if tag != "miou"}  # that can change
    model = client.create_logged_model(
        experiment_id,
        name=trained.key,
        source_run_id=source.info.run_id,
        tags=facts,
        params=row.params,
    )
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        checkpoint = Path(row.files["checkpoint"].path)
        servable.write(folder, checkpoint, row.inference, model_id=model.model_id, facts=facts)
        client.log_model_artifacts(model.model_id, str(folder))
    last = max(trained.curves.get("train/loss", {0: 0.0}))
    client.log_outputs(source.info.run_id, [LoggedModelOutput(model.model_id, last)])
    client.log_inputs(run_ids[row.name], models=[LoggedModelInput(model.model_id)])
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _log_metrics(
    client: MlflowClient, model: LoggedModel, row: Run, run_ids: Mapping[str, str]
) -> None:
    """Shows the model's scores; a point is the very one of its run, which is not logged again."""
    there = {(metric.key, metric.run_id) for metric in model.metrics or []}
    data, trained = row.files["data"], _trained(row)
    for run, names in ((row, _SCORES), (trained, _VALIDATED)):
        run_id = run_ids[run.name]
        points = [
            max(client.get_metric_history(run_id, name), key=lambda point: point.step)
            for name in names
            if name in run.curves and (name, run_id) not in there
        ]
        of_data = {"dataset_name": data.path, "dataset_digest": data.md5} if run is row else {}
        metrics = [
            Metric(p.key, p.value, p.timestamp, p.step, model_id=model.model_id, **of_data)
            for p in points
        ]
        if metrics:
            client.log_batch(run_id, metrics=metrics)


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Those of ours, oldest first."""
    versions = client.search_model_versions(f"name = '{name}'")
    ours = [version for version in versions if identity.TAG in version.tags]
    return sorted(ours, key=lambda version: int(version.version))


def _registered(
    client: MlflowClient, name: str, model: LoggedModel, row: Run, tags: Mapping[str, str]
) -> ModelVersion:
    try:
        client.create_registered_model(name, description=_DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name,
        f"models:/{model.model_id}",
        run_id=model.source_run_id,
        tags={**model.tags, **tags},
        description=row.desc,
        model_id=model.model_id,
    )


def _crown(client: MlflowClient, name: str, data: File) -> None:
    """Gives the alias to the best version, the one that has it or else the oldest of equal ones."""
    scores = {
        str(version.version): float(version.tags["miou"])  # a number, of a bare database
        for version in _versions(client, name)
        if (version.tags.get("data"), version.tags.get("data.md5")) == (data.path, data.md5)
    }
    if not scores:
        return
    present = client.get_registered_model(name).aliases.get(CHAMPION)
    best = max(scores.values())
    if present is not None and scores.get(str(present)) == best:
        return
    version = next(number for number, score in scores.items() if score == best)
    client.set_registered_model_alias(name, CHAMPION, version)
    print(
        f"MLflow: models:/{name}@{CHAMPION} is version {version}, mIoU {best:.4f} on {data.path}",
        file=sys.stderr,
    )
