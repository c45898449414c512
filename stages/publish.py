"""Brings every checkpoint and every row of params.yaml into MLflow, from DVC's outs alone.

What MLflow shows already is found again and completed: this can run any number of times.
"""

from pathlib import Path
from typing import Any

from pipeline import command, params, splits
from pipeline.tracking import provenance, publishing, runs


def main(
    params_file: Path, data: Path, checkpoints: Path, history: Path, metrics: Path, report: Path
) -> None:
    """Reads all results, fills the experiment that params.yaml names."""
    imports = params.load(params_file, "imports", dict[str, dict[str, Any]])
    models = params.load(params_file, "models", dict[str, dict[str, Any]])
    rows = params.load(params_file, "rows", dict[str, dict[str, Any]])
    project = data.parent  # params.yaml names files from here
    locked = provenance.locked(project / "dvc.lock")

    def file(path: str) -> provenance.File:
        return locked.get(path) or provenance.read(project / path)

    used = {entry["data"] for entry in (*models.values(), *rows.values())}
    num_images = {path: len(splits.Split(project / path)) for path in used}
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
            data=file(entry["data"]),
            start=file(entry["start"]),
            num_images=num_images[entry["data"]],
            checkpoint=checkpoints / f"{key}.safetensors",
            history=history / f"{key}.jsonl",
        )
        for key, entry in models.items()
    }
    evaluated = [
        runs.of_row(
            key,
            entry,
            data=file(entry["data"]),
            num_images=num_images[entry["data"]],
            trained=trained[entry["model"]],
            scores=metrics / key / "scores.json",
            trimap=metrics / key / "trimap.json",
            figures={
                "panels.png": report / "panels" / f"{key}.png",
                "trimap.png": report / "trimap.png",
            },
        )
        for key, entry in rows.items()
    ]
    experiment = params.load(params_file, "mlflow", dict[str, str])["experiment"]
    publishing.publish(experiment, [*trained.values(), *evaluated], provenance.origin(project))


if __name__ == "__main__":
    command.run(main)
