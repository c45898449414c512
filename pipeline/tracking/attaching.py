"""Attaches a file that was made from a row's checkpoint to the row's run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.tracking import identity, store

FOLDER = "exports"


def attach(
    experiment: str,
    row: str,
    inference: Mapping[str, Any],
    checkpoint: str,
    md5: str,
    file: Path,
) -> str:
    """Logs a file as artifact of the latest run of this row, strategy and checkpoint.

    Args:
        experiment: name of MLflow's experiment.
        row: its key.
        inference: the section of its entry.
        checkpoint: its path, as in dvc.yaml.
        md5: of the checkpoint.
        file: to log.

    Returns:
        The run's id, empty where there is no such run.

    Raises:
        ConnectionError: the store is away, closed to us or broken.
    """
    with store.reporting():
        client = store.open_client()
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return ""
        conditions = f"tags.kind = 'row' AND tags.key = '{row}'"
        conditions += f" AND tags.`{identity.md5_tag(checkpoint)}` = '{md5}'"
        strategy = identity.flatten({"inference": inference}).items()
        runs = [
            run
            for run in store.find(client, found.experiment_id, conditions)
            if strategy <= run.data.params.items()
        ]
        if not runs:
            return ""
        run_id: str = runs[-1].info.run_id
        client.log_artifact(run_id, str(file), FOLDER)
        return run_id
