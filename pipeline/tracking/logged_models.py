"""MLflow's LoggedModels: each checkpoint under a strategy, kept in the store whole and once.

A model is found by its identity. One that a killed `publish` left unfinished is finished under the
same id and in the same place, so that nothing is stored twice; one that has lost its files, or the
link to one of its runs, gets them back.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
)

from pipeline.tracking import identity, provenance, servable
from pipeline.tracking.runs import Run

_SCORES = ("score/miou", "score/pixel_accuracy", "score/mean_class_accuracy")
_VALIDATED = ("best/miou",)


def ensure(
    client: MlflowClient,
    experiment_id: str,
    row: Run,
    trained: Run,
    wanted: Mapping[str, str],
    run_ids: Mapping[str, str],
) -> LoggedModel:
    """Finds the model that serves a row, makes what is missing of it, and shows its scores.

    Args:
        client: of the store.
        experiment_id: where the runs are.
        row: gives the strategy and the scores.
        trained: the run of the row's checkpoint.
        wanted: facts of the model, its identity among them.
        run_ids: of both runs in MLflow, by name.
    """
    model = _found(client, experiment_id, wanted[identity.TAG])
    if model is None:
        origin = client.get_run(run_ids[trained.name]).data.tags
        model = client.create_logged_model(
            experiment_id,
            name=trained.key,
            source_run_id=run_ids[trained.name],
            tags={
                **{tag: origin[tag] for tag in provenance.ORIGIN_TAGS if tag in origin},
                **wanted,
                identity.NOTE: row.desc,
            },
            params=row.params,
        )
    is_ready = model.status == LoggedModelStatus.READY
    if not is_ready or not client.list_logged_model_artifacts(model.model_id):
        _upload(client, model, row)
    _link(client, model, run_ids[trained.name], run_ids[row.name], _last_step(trained))
    if not is_ready:
        model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    _log_metrics(client, model, row, trained, run_ids)
    return model


def facts(model: LoggedModel) -> dict[str, str]:
    """What it is made of: its tags without those that MLflow's pages use."""
    return {name: value for name, value in model.tags.items() if not name.startswith("mlflow.")}


def _found(client: MlflowClient, experiment_id: str, wanted: str) -> LoggedModel | None:
    """The oldest finished model of an identity, else the oldest; the others are deleted."""
    found = sorted(
        client.search_logged_models([experiment_id], f"tags.{identity.TAG} = '{wanted}'"),
        key=lambda one: (
            one.status != LoggedModelStatus.READY,
            one.creation_timestamp,
            one.model_id,
        ),
    )
    for repeated in found[1:]:  # two machines published at the same moment
        client.delete_logged_model(repeated.model_id)
    return found[0] if found else None


def _upload(client: MlflowClient, model: LoggedModel, row: Run) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        checkpoint = Path(row.files["checkpoint"].path)
        servable.write(
            folder, checkpoint, row.inference, model_id=model.model_id, facts=facts(model)
        )
        client.log_model_artifacts(model.model_id, str(folder))


def _link(client: MlflowClient, model: LoggedModel, trained: str, row: str, step: int) -> None:
    """Shows the model in the run that made it and in the run that used it, once in each."""
    outputs = client.get_run(trained).outputs
    if model.model_id not in {one.model_id for one in (outputs.model_outputs if outputs else [])}:
        client.log_outputs(trained, [LoggedModelOutput(model.model_id, step)])
    inputs = client.get_run(row).inputs
    if model.model_id not in {one.model_id for one in (inputs.model_inputs if inputs else [])}:
        client.log_inputs(row, models=[LoggedModelInput(model.model_id)])


def _last_step(trained: Run) -> int:
    """The iteration of the checkpoint; 0 for an import."""
    return max(trained.curves.get("train/loss", {0: 0.0}))


def _log_metrics(
    client: MlflowClient, model: LoggedModel, row: Run, trained: Run, run_ids: Mapping[str, str]
) -> None:
    """Shows the model's scores: its run's latest points, logged once more with the model's id.

    They are equal in value, time and step, so that the run gains no point.
    """
    there = {(metric.key, metric.run_id) for metric in model.metrics or []}
    data = row.files["data"]
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
