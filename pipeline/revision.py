"""The commit that a working tree is at, for who wants to know which code made a number."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

# What a result depends on. dvc.lock and metrics/ change by running, and are left out.
_SOURCES = ("params.yaml", "paper.yaml", "dvc.yaml", "pipeline", "stages")


@dataclass(frozen=True)
class Revision:
    """A commit, and whether the sources that determine a result are as it has them.

    Attributes:
        commit: hexadecimal, 40 digits.
        is_clean: whether they are.
    """

    commit: str
    is_clean: bool


def head(project: Path) -> Revision | None:
    """The commit that is checked out, or None outside git."""
    commit = git(project, "rev-parse", "HEAD")
    if commit is None:
        return None
    return Revision(commit, not git(project, "status", "--porcelain", "--", *_SOURCES))


def git(project: Path, *arguments: str) -> str | None:
    """What git prints, stripped; None where it fails, or there is no git or no repository."""
    command = ["git", "--no-optional-locks", "-C", str(project), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
