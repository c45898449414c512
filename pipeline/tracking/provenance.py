"""Which code and which bytes a run came from: git's commit, DVC's experiment and md5s."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline import files, revision

# The tags that say where a run was made, see `origin`.
ORIGIN_TAGS = ("git.commit", "git.state", "dvc.experiment")


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
    return locked_in(lock.read_text(encoding="utf-8")) if lock.exists() else {}


def locked_in(text: str) -> dict[str, File]:
    """The files that the text of a dvc.lock names, by path."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the plain one takes seconds
    stages = yaml.load(text, Loader=loader)["stages"].values()
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
    head = revision.head(project)
    if head is None:
        return {}
    state = "clean" if head.is_clean else "dirty"
    tags = {"git.commit": head.commit, "git.state": state}
    tags["mlflow.source.git.commit"] = head.commit
    experiment = os.environ.get("DVC_EXP_NAME")
    return tags | ({"dvc.experiment": experiment} if experiment else {})


def title(name: str, origin: Mapping[str, str]) -> str:
    """The name under which a run is shown; that of its DVC experiment follows, where it has one."""
    experiment = origin.get("dvc.experiment")
    return f"{name} {experiment}" if experiment else name
