"""Tells whether the training of a live run goes on: its run may say RUNNING long after its end."""

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline import files, scratch

# The tag of a live run that names its training's host, process and start.
TAG = "live.process"
# The tag that names the folder of a training's states, see `scratch.identity`: the same after an
# interruption, and another on another machine.
TRAINING = "live.training"


def tag(pid: int) -> str:
    """The tag's value for a training on this machine; no two trainings share one."""
    return f"{socket.gethostname()}:{pid}:{time.time_ns()}"


def has_made(tags: Mapping[str, str], history_md5: str) -> bool:
    """Whether a live run is of the training that made a history, as its folder here shows."""
    return any(
        scratch.identity(folder) == tags.get(TRAINING)
        and files.digest(folder / "history.jsonl", "md5") == history_md5
        for folder in scratch.root().glob("*")
        if (folder / "history.jsonl").exists()
    )


def is_gone(value: str) -> bool:
    """Whether the training was on this machine and has ended; of other machines nothing is known.

    If its process number was given to another process, it seems alive until that one ends.
    """
    host, pid, _ = value.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _is_zombie(int(pid))


def _is_zombie(pid: int) -> bool:
    """Whether it has ended unreaped by its parent, as in a container without an init process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux, or gone by now
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
