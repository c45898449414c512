"""Brings every checkpoint and every row of params.yaml into MLflow, from DVC's outs alone.

What MLflow shows already is found again and completed: this can run any number of times.
"""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline import command, paper, params, splits
from pipeline.report import results
from pipeline.tracking import provenance, publishing, runs


def main(
    params_file: Path,
    paper_file: Path,
    data: Path,
    checkpoints: Path,
    history: Path,
    metrics: Path,
    report: Path,
) -> None:
    """Reads all results, fills the experiment that params.yaml names."""
    imports = params.load(params_file, "imports", dict[str, dict[str, Any]])
    models = params.load(params_file, "models", dict[str, dict[str, Any]])
    rows = params.load(params_file, "rows", dict[str, dict[str, Any]])
    published = paper.load(paper_file)
    costs = json.loads((metrics / "multiply_adds.json").read_text(encoding="utf-8"))
    project = data.parent  # params.yaml names files from here
    locked = provenance.locked(project / "dvc.lock")

    @functools.cache
    def file(path: str) -> provenance.File:
        return locked.get(path) or provenance.read(project / path)

    @functools.cache
    def data_set(path: str, context: str) -> runs.DataSet:
        return runs.DataSet(file(path), len(splits.Split(project / path)), context)

    imported = {
        key: runs.of_import(
            key,
            entry,
            archive=file(f"archives/{key}"),
            checkpoint=checkpoints / f"{key}.safetensors",
            history=history / f"{key}.jsonl",
        )
        for key, entry in imports.items()
    }
    trained = imported | {
        key: runs.of_model(
            key,
            entry,
            data=data_set(entry["data"], "training"),
            validation=data_set(entry["validation"]["data"], "validation"),
            start=file(entry["start"]),
            checkpoint=checkpoints / f"{key}.safetensors",
            history=history / f"{key}.jsonl",
            training=results.read_training_cost(key, models, history),
        )
        for key, entry in models.items()
    }
    evaluated = [
        runs.of_row(
            key,
            entry,
            data=data_set(entry["data"], "evaluation"),
            trained=trained[entry["model"]],
            paper=published,
            metrics=metrics / key,
            cost=costs[key],
            training=results.read_training_cost(entry["model"], models, history),
            figures={
                "panels.png": report / "panels" / f"{key}.png",
                "trimap.png": report / "trimap.png",
            },
        )
        for key, entry in rows.items()
    ]
    experiment = params.load(params_file, "mlflow", dict[str, str])["experiment"]
    try:
        publishing.publish(experiment, [*trained.values(), *evaluated], provenance.origin(project))
    except ConnectionError as error:
        if "DVC_EXP_NAME" not in os.environ:
            raise
        # DVC would throw the experiment away, with all that was trained in it.
        print(f"MLflow: {error}; `make publish` brings it in", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
