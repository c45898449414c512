"""Prints what a run of MLflow was, down to its bytes, and where its state is in this repository.

Usage: python -m pipeline.tracking.show params.yaml RUN
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mlflow import entities

from pipeline import command, files, params
from pipeline.tracking import identity, lookup, outs, provenance, states, store, whereabouts


def main(params_file: Path, run: str) -> None:
    """Shows the latest run that RUN stands for: an id, a key, or a DVC experiment's name."""
    project = params_file.parent
    shown, *others = lookup.find(params.load(params_file, "mlflow.experiment", str), run)
    print(lookup.stage(shown))
    print(re.sub(r"\[(.+?)\]\(.+?\)", r"\1", shown.data.tags.get(identity.NOTE, "")))
    _print("run", _summary(shown))
    _print("params", shown.data.params)
    scores = sorted(shown.data.metrics.items(), key=lambda item: (item[0].startswith("iou/"), item))
    _print("scores", {name: f"{value:.6g}" for name, value in scores})
    _print("files", _files(project, states.md5s(shown)))
    print("\nstate")
    for line in whereabouts.of(project, shown):
        print(f"  {line}")
    if others:
        print(f"\nearlier runs of this name: {len(others)}")
        print(lookup.listed(others))


def _summary(run: entities.Run) -> dict[str, str]:
    summary = {
        "id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "started": lookup.date(run),
        "store": store.redacted(store.uri()),
    }
    tags = run.data.tags
    return summary | {name: tags[name] for name in provenance.ORIGIN_TAGS if name in tags}


def _files(project: Path, md5s: Mapping[str, str]) -> dict[str, str]:
    """The md5 of each file, and a place that has these bytes."""
    cached = outs.cached(project, md5s)
    shown = {}
    for path, md5 in md5s.items():
        file = project / path
        is_here = file.is_file() and files.digest(file, "md5") == md5
        shown[path] = f"{md5}  {'in the working tree' if is_here else cached.get(path, '-')}"
    return shown


def _print(title: str, values: Mapping[str, str]) -> None:
    print(f"\n{title}")
    width = max(map(len, values), default=0)
    for name, value in values.items():
        print(f"  {name:<{width}}  {value}")


if __name__ == "__main__":
    command.run(main)
