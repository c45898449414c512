"""Where a training keeps what it needs to go on after it was killed.

DVC removes a stage's outs before it runs, so states lie beside them, in a folder that DVC and git
pass over, one for each training: its name has a hash of all that determines the result. Another
learning rate, other data or other code is another training and does not go on where this one was.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline import files
from pipeline.model.config import Network
from pipeline.training.config import Training

_PACKAGE = Path(__file__).resolve().parents[1]
# Code that a checkpoint's bytes depend on.
_CODE = ("data", "model", "training")
_DESCRIPTION = "determined_by.json"


def determinants(network: Network, training: Training, data: Path, start: Path) -> dict[str, str]:
    """Digests, by name, of all that determines what a training results in."""
    return {
        "network": _digest(network.model_dump_json()),
        "training": _digest(training.model_dump_json()),
        "data": files.digest(data, "sha256"),
        "start": files.digest(start, "sha256"),
        "code": _digest(*(file.read_text(encoding="utf-8") for file in _sources())),
    }


@contextlib.contextmanager
def opened(
    key: str, determined_by: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Path]:
    """Yields a training's own folder, for this process alone.

    Args:
        key: of the model, for people.
        determined_by: see `determinants`.
        say: is told of another training of this key that does not go on here, and why.

    Raises:
        ValueError: another process has it.
    """
    folder = root() / f"{key}-{_digest(json.dumps(dict(determined_by), sort_keys=True))[:12]}"
    if not folder.exists():
        for line in _others(key, determined_by):
            say(line)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ValueError(
                f"{folder}: {key} is being trained by another process ({lock.read().strip()}); "
                "wait for its end, or end it"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        lock.flush()
        files.write_json(folder / _DESCRIPTION, dict(determined_by))
        yield folder


def root() -> Path:
    """The folder of all trainings: the main repository's, also in a temporary checkout of DVC."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / "scratch"


def _others(key: str, determined_by: Mapping[str, str]) -> Iterator[str]:
    for description in sorted(root().glob(f"{key}-*/{_DESCRIPTION}")):
        theirs = json.loads(description.read_text(encoding="utf-8"))
        names = [name for name, value in determined_by.items() if theirs.get(name) != value]
        yield (
            f"starting anew: {description.parent} is of another {', '.join(names)}, and is not "
            "needed any more unless you go back to that"
        )


def _sources() -> list[Path]:
    return sorted(file for part in _CODE for file in (_PACKAGE / part).rglob("*.py"))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
