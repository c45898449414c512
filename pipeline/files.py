"""Writing outputs so that a killed program leaves the old file or the new one, never a part."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# What a killed program leaves behind ends in this, and is no file of the pipeline: .dvcignore and
# .gitignore pass it over.
_PARTIAL = ".partial"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it takes the name `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(_PARTIAL, f".{path.name}.", path.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        yield partial
        flush_to_disk(partial)
        partial.chmod(0o666 & ~_umask())  # mkstemp's 0600 would hide the file from colleagues
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`; it replaces `path` whole when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(_PARTIAL, f".{path.name}.", path.parent))
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        _exchange(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Writes JSON with a stable layout, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file's bytes; md5 is what dvc.lock holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def digest_of_json(value: object) -> str:
    """SHA-256 of what can be written as JSON, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def flush_to_disk(path: Path) -> int:
    """Waits until a file's bytes are on the disk; returns their number."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def main_repository() -> Path:
    """The folder of what all checkouts of a repository share: downloads, kept work, the runs.

    DVC gives its stages DVC_ROOT, which is this folder in a temporary checkout too (`dvc exp run
    --temp`, `dvc queue`). Where DVC is not at work, programs run in this folder.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def _exchange(new: Path, path: Path) -> None:
    """Gives `new` the name `path`; a folder that had it is moved aside first and removed last."""
    with tempfile.TemporaryDirectory(_PARTIAL, f".{path.name}.", path.parent) as aside:
        if path.exists():
            path.replace(Path(aside) / "old")
        new.replace(path)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
