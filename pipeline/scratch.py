"""Where long work keeps what it needs to go on after it was killed.

DVC removes a stage's outs before it runs, so what is kept lies beside them, in a folder that DVC
and git pass over, one for each training and each prediction: its name has a hash of all that
determines the result. Another learning rate, other data or other code is other work and does not go
on where this one was.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline import files
from pipeline.params import Config

_PROJECT = Path(__file__).resolve().parents[1]
_DESCRIPTION = "determined_by.json"
_LOCK = "lock"
# What tells this folder from one of the same name, for the same work on another machine.
_ID = "id"
_DIGITS = 12


def determinants(
    sections: Mapping[str, Config], read: Mapping[str, Path], code: Sequence[str]
) -> dict[str, str]:
    """Digests, by name, of all that determines what the work results in.

    Args:
        sections: of params.yaml.
        read: files.
        code: packages and modules, as "pipeline/data" and "stages/train.py".
    """
    parts = [_PROJECT / part for part in code]
    sources = sorted(f for p in parts for f in ([p] if p.is_file() else p.rglob("*.py")))
    return {
        **{name: _digest(section.model_dump_json()) for name, section in sections.items()},
        **{name: files.digest(path, "sha256") for name, path in read.items()},
        "code": _digest(*(file.read_text(encoding="utf-8") for file in sources)),
    }


class BusyError(ValueError):
    """Another process does the same work."""


@contextlib.contextmanager
def opened(
    key: str, determined_by: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Path]:
    """Yields the work's own folder, for this process alone.

    Args:
        key: of the model or row, for people.
        determined_by: see `determinants`.
        say: is told of other work of this key that does not go on here, and why.

    Raises:
        BusyError: another process has it.
    """
    folder = root() / f"{key}-{_digest(json.dumps(dict(determined_by), sort_keys=True))[:_DIGITS]}"
    if not folder.exists():
        for line in _others(key, determined_by):
            say(line)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise BusyError(
                f"{folder}: {key} is being computed by another process ({lock.read().strip()}); "
                "wait for its end, or end it"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename} in {Path.cwd()}\n")
        lock.flush()
        files.write_json(folder / _DESCRIPTION, dict(determined_by))
        if not (folder / _ID).exists():
            renew_identity(folder)
        yield folder


def busy(project: Path) -> list[Path]:
    """The folders of the work that is under way in a checkout; DVC's temporary ones are others."""
    locks = sorted(root().glob(f"*/{_LOCK}"))
    there = f" in {project.resolve()}\n"
    return [lock.parent for lock in locks if _is_busy(lock) and lock.read_text().endswith(there)]


def identity(folder: Path) -> str:
    """Tells a folder's work from the same work in another folder, as on another machine."""
    file = folder / _ID
    return f"{folder.name}-{file.read_text(encoding='utf-8')}" if file.exists() else folder.name


def renew_identity(folder: Path) -> None:
    """Makes the work in a folder another than what it was shown as."""
    files.write_text(folder / _ID, uuid.uuid4().hex)


def root() -> Path:
    """The folder of all such work, which temporary checkouts of DVC share."""
    return files.main_repository() / "scratch"


def _others(key: str, determined_by: Mapping[str, str]) -> Iterator[str]:
    # Not `*`, which would take the work of model-large for that of model.
    for description in sorted(root().glob(f"{key}-{'[0-9a-f]' * _DIGITS}/{_DESCRIPTION}")):
        if not _is_left(description.parent):
            continue
        theirs = json.loads(description.read_text(encoding="utf-8"))
        names = [name for name, value in determined_by.items() if theirs.get(name) != value]
        yield (
            f"starting anew: {description.parent} is of another {', '.join(names)}, and is not "
            "needed any more unless you go back to that"
        )


def _is_left(folder: Path) -> bool:
    """Whether a folder has something to go on from, and no process that does."""
    if {path.name for path in folder.iterdir()} <= {_LOCK, _DESCRIPTION, _ID}:
        return False
    return not _is_busy(folder / _LOCK)


def _is_busy(lock: Path) -> bool:
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
