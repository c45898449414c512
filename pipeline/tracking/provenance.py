"""Which code and which bytes a run came from: git's commit, DVC's experiment and md5s."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline import files

# What a result depends on. dvc.lock and metrics/ change by running, and are left out.
_SOURCES = ("params.yaml", "paper.yaml", "dvc.yaml", "pipeline", "stages")


@dataclass(frozen=True)
class File:
    """A file that a run was made of, or made.

    Attributes:
        path: as in dvc.yaml.
        md5: of its bytes, as in dvc.lock.
        size: bytes.
    """

    path: str
    md5: str
    size: int


def read(path: Path) -> File:
    """Takes the md5 of a file's bytes."""
    return File(path.as_posix(), files.digest(path, "md5"), path.stat().st_size)


def locked(lock: Path) -> dict[str, File]:
    """The files that dvc.lock names, by path; none where there is no dvc.lock.

    Data sets are large and start weights may not be in the workspace: DVC has read them already.
    """
    if not lock.exists():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the plain one takes seconds
    stages = yaml.load(lock.read_text(encoding="utf-8"), Loader=loader)["stages"].values()
    entries = [entry for part in ("deps", "outs") for s in stages for entry in s.get(part, [])]
    found = [
        File(entry["path"], entry["md5"], entry["size"]) for entry in entries if "md5" in entry
    ]
    return {file.path: file for file in found}


def origin(project: Path) -> dict[str, str]:
    """Tags that say where a run was made; none outside git.

    Returns:
        The commit, whether the sources differ from it ("dirty") or not ("clean"), and the name of
        the DVC experiment in one.
    """
    commit = _git(project, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git(project, "status", "--porcelain", "--", *_SOURCES)
    state = "dirty" if changes else "clean"
    tags = {"git.commit": commit, "git.state": state, "mlflow.source.git.commit": commit}
    experiment = os.environ.get("DVC_EXP_NAME")
    return tags | ({"dvc.experiment": experiment} if experiment else {})


def title(name: str, origin: Mapping[str, str]) -> str:
    """The name under which a run is shown: variations in DVC experiments have theirs behind."""
    experiment = origin.get("dvc.experiment")
    return f"{name} {experiment}" if experiment else name


def _git(project: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(project), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
