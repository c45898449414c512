"""Which run of MLflow a person means: by its id, or by a name that several may share."""

import datetime
from collections.abc import Sequence

from mlflow import MlflowClient, entities
from mlflow.exceptions import MlflowException

from pipeline.tracking import identity, store

# An id has 32 digits. Its beginning stands for it from this length on; what is shorter is a name.
_SHORTEST_ID = 6


def find(experiment: str, name: str) -> list[entities.Run]:
    """Finds the runs that a name stands for, the latest first.

    Args:
        experiment: in which a name is looked for; an id is looked for in all.
        name: a run's id or the beginning of it; the key of a row, a model or an import;
            e.g. "evaluate@v3"; or the name of a DVC experiment.

    Raises:
        ValueError: there is none.
        ConnectionError: the store is away, closed to us or broken.
    """
    with store.reporting():
        client = store.open_client()
        by_id = _by_id(client, name)
        if by_id:
            return [by_id]
        runs = store.find(client, store.open_experiment(client, experiment), "")
    ours = [run for run in reversed(runs) if "kind" in run.data.tags and "key" in run.data.tags]
    found = [run for run in ours if _is_meant(run, name)]
    if found:
        return found
    names = sorted({stage(run) for run in ours})
    raise ValueError(
        f"RUN={name}: no run of experiment {experiment} has this id, key or DVC experiment; "
        f"it has {', '.join(names) or 'no runs'}"
    )


def stage(run: entities.Run) -> str:
    """The stage whose result a run shows."""
    return identity.stage(run.data.tags["kind"], run.data.tags["key"])


def listed(runs: Sequence[entities.Run]) -> str:
    """A line for each run: id, date, name, score, status."""
    return "\n".join(f"  {_line(run)}" for run in runs)


def date(run: entities.Run) -> str:
    """When a run was started, in local time."""
    moment = datetime.datetime.fromtimestamp(run.info.start_time / 1000)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _line(run: entities.Run) -> str:
    score = run.data.metrics.get("score/miou", run.data.metrics.get("best/miou"))
    shown = "" if score is None else f"mIoU {100 * score:.2f}  "
    return f"{run.info.run_id}  {date(run)}  {run.info.run_name}  {shown}{run.info.status}"


def _by_id(client: MlflowClient, name: str) -> entities.Run | None:
    if len(name) != 32:
        return None
    try:
        run = client.get_run(name)
    except MlflowException:
        return None
    return run if "kind" in run.data.tags and "key" in run.data.tags else None


def _is_meant(run: entities.Run, name: str) -> bool:
    if len(name) >= _SHORTEST_ID and run.info.run_id.startswith(name):
        return True
    names = {stage(run), run.data.tags["key"], run.info.run_name}
    return name in names | {run.data.tags.get("dvc.experiment")}
