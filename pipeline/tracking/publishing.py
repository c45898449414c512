"""Brings runs into MLflow: makes what is missing, completes what is there, repeats nothing."""

import random
import time
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient, entities
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_CONFLICT

from pipeline.tracking import (
    filling,
    identity,
    machine,
    owner,
    provenance,
    registry,
    store,
    views,
)
from pipeline.tracking.runs import Run

# Errors of a store in which another machine publishes the same at this moment: what we create is
# there already, or what we found has been deleted as the younger of two.
_CONFLICTS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
}
_RUNNING = "RUNNING"
# After this silence a live run of another machine counts as left behind. It is long because a
# training may be without its store for a weekend.
_SILENT_SECONDS = 3 * 24 * 3600.0
_TRIES = 5
_PAUSE_SECONDS = 3.0


def publish(experiment: str, runs: Sequence[Run], origin: Mapping[str, str]) -> None:
    """Makes an experiment show the runs, however much of them it shows already.

    If another machine comes between, it starts over, and finds what is there by then.

    Args:
        experiment: its name.
        runs: each row after its model.
        origin: tags that say where the runs are from; a run that has such tags keeps them.

    Raises:
        ConnectionError: the store is away, closed to us or broken.
    """
    # Two processes without the lock would both create a run that they share.
    with store.reporting(), store.locked("publish"):
        client = store.open_client()
        for tries_left in reversed(range(_TRIES)):
            try:
                _publish(client, experiment, runs, origin)
                break
            except MlflowException as error:
                if error.error_code not in _CONFLICTS or not tries_left:
                    raise
                time.sleep(random.uniform(0, _PAUSE_SECONDS))  # so that they do not keep in step


def _publish(
    client: MlflowClient, experiment: str, runs: Sequence[Run], origin: Mapping[str, str]
) -> None:
    links: dict[str, str] = {}
    run_ids: dict[str, str] = {}
    experiment_id = store.open_experiment(client, experiment)
    views.save(client, experiment_id)
    for run in runs:
        there = _found(client, experiment_id, run)
        there = there or _created(client, experiment_id, run, origin)
        filling.fill(client, there, run, origin, links)
        run_ids[run.name] = there.info.run_id
        links[run.name] = views.run_address(experiment_id, there.info.run_id)
    _end_those_left(client, experiment_id)
    try:
        registry.publish(client, experiment_id, experiment, runs, run_ids)
    except MlflowException as error:
        # A registry answers 500 to one of two that write the same at once. A store that answers so
        # to every request would have failed above.
        if error.error_code != "INTERNAL_ERROR":
            raise
        raise MlflowException(error.message, RESOURCE_CONFLICT) from error


def _created(
    client: MlflowClient, experiment_id: str, run: Run, origin: Mapping[str, str]
) -> entities.Run:
    # In this order on the run's page: what a person reads before what a program compares.
    tags = {**identity.tags(run.kind, run.key), **run.tags, **origin, identity.TAG: run.identity}
    title = provenance.title(run.name, origin)
    return client.create_run(experiment_id, tags=tags, run_name=title)


def _found(client: MlflowClient, experiment_id: str, run: Run) -> entities.Run | None:
    """Finds the run in the store, or else the live run of its training, which lost the store."""
    equal = store.find(client, experiment_id, f"tags.{identity.TAG} = '{run.identity}'")
    for repeated in equal[1:]:  # two machines published at the same moment
        client.delete_run(repeated.info.run_id)
    found = equal[0] if equal else None
    for left in _left_behind(client, experiment_id, run):
        if found is None and _is_part(client, left, run):
            found = left
    return found


def _left_behind(client: MlflowClient, experiment_id: str, run: Run) -> list[entities.Run]:
    """Live runs of this key that were left unfinished, the latest first.

    A training that was killed may have gone on, and have come to its end, while the store was away.
    """
    conditions = f"tags.kind = '{run.kind}' AND tags.key = '{run.key}'"
    there = store.find(client, experiment_id, f"{conditions} AND attributes.status != 'FINISHED'")
    return [one for one in reversed(there) if _is_left(one)]


def _is_left(there: entities.Run) -> bool:
    tags = there.data.tags
    if identity.TAG in tags or owner.TAG not in tags:
        return False
    return there.info.status != _RUNNING or owner.is_gone(tags[owner.TAG])


def _end_those_left(client: MlflowClient, experiment_id: str) -> None:
    """Ends live runs of trainings that are gone, whatever became of their keys in params.yaml.

    A training on another machine counts as gone after a long silence, because one that is shown
    logs every few seconds. If it was only cut off from the store, its points and its end still
    arrive.
    """
    running = store.find(client, experiment_id, f"attributes.status = '{_RUNNING}'")
    for there in running:
        is_live = identity.TAG not in there.data.tags and owner.TAG in there.data.tags
        if _is_left(there) or (is_live and _is_silent(client, there)):
            client.set_terminated(there.info.run_id, "KILLED")


def _is_silent(client: MlflowClient, there: entities.Run) -> bool:
    losses = client.get_metric_history(there.info.run_id, "train/loss")
    latest: int = max([there.info.start_time, *(point.timestamp for point in losses)])
    return time.time() - latest / 1000 > _SILENT_SECONDS


def _is_part(client: MlflowClient, there: entities.Run, run: Run) -> bool:
    """Whether a live run is of the training that made this run, and lost the store.

    Its params must be the run's. Besides, either the training's folder has the run's history, or
    every point that the live run has is on the run's curves.
    """
    if not there.data.params.items() <= run.params.items():
        return False
    if owner.has_made(there.data.tags, run.files["history"].md5):
        return True
    return all(
        run.curves.get(name, {}).get(point.step) == point.value
        for name in there.data.metrics
        if not name.startswith(machine.PREFIX)  # how busy the machine was, which no history has
        for point in client.get_metric_history(there.info.run_id, name)
    )
