"""Whose live run it is, to tell a training from a run that says RUNNING long after its end."""

import os
import socket
import time
from collections.abc import Mapping

from pipeline import scratch

# The tag of a live run that names its training's host, process and start.
TAG = "live.process"
# The tag that names the folder of a training's states, see `scratch.identity`: the same after an
# interruption, and another on another machine.
TRAINING = "live.training"


def tag(pid: int) -> str:
    """The tag's value for a training on this machine; no two trainings share one."""
    return f"{socket.gethostname()}:{pid}:{time.time_ns()}"


def is_here(tags: Mapping[str, str]) -> bool:
    """Whether a live run is of a training whose states are in this project's scratch folder."""
    mine = {scratch.identity(folder) for folder in scratch.root().glob("*") if folder.is_dir()}
    return tags.get(TRAINING) in mine


def is_gone(value: str) -> bool:
    """Whether the training was on this machine and has ended; of other machines nothing is known.

    A process number that was given out again makes a training seem alive, until it ends too.
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
    return False
