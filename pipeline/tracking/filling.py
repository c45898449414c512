"""Logs what MLflow lacks of one run."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mlflow import MlflowClient, entities
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from pipeline import files
from pipeline.tracking import identity, notes, store
from pipeline.tracking.runs import DataSet, Run

# The tag of a run that was published before, all its params and curves included. Its value is the
# md5 of the description that we wrote, which tells whether a person has changed it since. MLflow's
# pages do not show tags that begin with "mlflow.".
_PUBLISHED = "mlflow.published"
# Names of the curves that a training shows while it runs.
_SEEN_LIVE = ("train/", "val/", "best/")


def fill(
    client: MlflowClient,
    there: entities.Run,
    run: Run,
    origin: Mapping[str, str],
    links: Mapping[str, str],
) -> None:
    """Completes a run.

    Args:
        client: of the store.
        there: what the store has.
        run: what it should have.
        origin: tags that say where it is from.
        links: addresses in MLflow by name of the runs before this one.
    """
    run_id, tags = there.info.run_id, there.data.tags
    client.log_batch(run_id, params=_missing_params(there, run))
    store.log_metrics(client, run_id, _missing_points(client, there, run))
    client.log_inputs(run_id, _missing_data_sets(there, run))
    origin = _origin(tags, origin)
    wanted = {
        **run.tags,
        **identity.tags(run.kind, run.key),
        identity.TAG: run.identity,
        **{identity.md5_tag(file.path): file.md5 for file in run.files.values()},
        "params.sha256": files.digest_of_json(run.params),
        **_figures(client, there, run),
        **({"warnings": " ".join(run.warnings)} if run.warnings else {}),
        **origin,
        **_note(tags, notes.describe(run, run_id, {**tags, **origin}, links)),
    }
    changed = [RunTag(*tag) for tag in wanted.items() if tags.get(tag[0]) != tag[1]]
    client.log_batch(run_id, tags=changed)
    if there.info.status != "FINISHED":
        client.set_terminated(run_id, "FINISHED")


def _missing_params(there: entities.Run, run: Run) -> list[Param]:
    return [Param(*param) for param in run.params.items() if param[0] not in there.data.params]


def _missing_points(client: MlflowClient, there: entities.Run, run: Run) -> list[Metric]:
    return [
        Metric(name, curve[step], timestamp, step)
        for name, curve in run.curves.items()
        if not _is_whole(there, name, curve)
        for step, timestamp in _missing_steps(client, there, name, curve)
    ]


def _is_whole(there: entities.Run, name: str, curve: Mapping[int, float]) -> bool:
    """Whether a curve was published before, as its last value tells; else all are compared."""
    return _PUBLISHED in there.data.tags and there.data.metrics.get(name) == curve[max(curve)]


def _missing_steps(
    client: MlflowClient, there: entities.Run, name: str, curve: Mapping[int, float]
) -> list[tuple[int, int]]:
    """Steps that MLflow lacks, each with a timestamp between those of its neighbours.

    Where MLflow has no point of a curve, all get the time of the run's start: two machines that
    fill it at once log equal points, which MLflow keeps once. A step with another value there, such
    as a published score that was mistyped, gets the present time, because MLflow shows the later of
    two values. A training's curve keeps the values that were seen first: on a GPU, the iterations
    that a training repeats after an interruption come out a little different.
    """
    now, present = time.time_ns() // 10**6, {}
    if name in there.data.metrics:
        points = client.get_metric_history(there.info.run_id, name)
        present = {point.step: point for point in sorted(points, key=lambda p: p.timestamp)}
    changed = [
        (step, now)
        for step in curve.keys() & present.keys()
        if present[step].value != curve[step] and not name.startswith(_SEEN_LIVE)
    ]
    missing = sorted(curve.keys() - present.keys())
    known = sorted(present) or [0]
    start = there.info.start_time
    times = [present[step].timestamp if step in present else start for step in known]
    timestamps = np.interp(missing, known, times)
    return changed + [(step, int(t)) for step, t in zip(missing, timestamps, strict=True)]


def _missing_data_sets(there: entities.Run, run: Run) -> list[DatasetInput]:
    inputs = there.inputs.dataset_inputs if there.inputs else []
    present = {(used.dataset.name, tag.value) for used in inputs for tag in used.tags}
    return [
        _data_set(used) for used in run.data_sets if (used.file.path, used.context) not in present
    ]


def _data_set(used: DataSet) -> DatasetInput:
    """A split as MLflow shows it; its pages look for `num_rows` by that name."""
    file = used.file
    source = json.dumps({"uri": file.path})
    profile = json.dumps(
        {"num_rows": used.num_images, "num_images": used.num_images, "bytes": file.size}
    )
    dataset = entities.Dataset(file.path, file.md5, "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", used.context)])


def _figures(client: MlflowClient, there: entities.Run, run: Run) -> dict[str, str]:
    """Logs the figures that are not there or have changed.

    Returns:
        The md5 tags that record which version is logged.
    """
    if not run.figures:
        return {}
    listed = {artifact.path for artifact in client.list_artifacts(there.info.run_id)}
    tags = {}
    for name, path in run.figures.items():
        tag, md5 = identity.md5_tag(path.as_posix()), files.digest(path, "md5")
        if name not in listed or there.data.tags.get(tag) != md5:
            with tempfile.TemporaryDirectory() as folder:
                named = shutil.copy(path, Path(folder) / name)
                client.log_artifact(there.info.run_id, str(named))
        tags[tag] = md5
    return tags


def _origin(tags: Mapping[str, str], origin: Mapping[str, str]) -> dict[str, str]:
    """A run keeps its first origin, except that a clean commit replaces a dirty one."""
    if "git.state" not in tags:
        return dict(origin)
    if (tags["git.state"], origin.get("git.state")) == ("dirty", "clean"):
        return {name: value for name, value in origin.items() if name != "dvc.experiment"}
    return {}


def _note(tags: Mapping[str, str], note: str) -> dict[str, str]:
    """The description, unless a person has written another in MLflow."""
    is_ours = identity.NOTE not in tags or _md5(tags[identity.NOTE]) == tags.get(_PUBLISHED)
    return {_PUBLISHED: _md5(note)} | ({identity.NOTE: note} if is_ours else {})


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
