"""DVC's outs: which of a commit's can be had here, and bringing them into the working tree."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import CheckoutError, DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.repo.brancher import switch
from dvc_data.hashfile.hash_info import HashInfo


@dataclass(frozen=True)
class Outs:
    """The outs of a commit.

    Attributes:
        num_all: how many dvc.lock has.
        absent: those that cannot be had here: not in DVC's cache or, for outs that are not cached,
            not in the tree with dvc.lock's md5.
        remote: name of DVC's default remote, if there is one.
        lost: those absent ones that the remote does not have either.
        trouble: why the remote could not be asked.
    """

    num_all: int
    absent: list[str]
    remote: str | None
    lost: list[str]
    trouble: str | None


def survey(project: Path, commit: str) -> Outs:
    """Looks for every out of a commit.

    Raises:
        ValueError: the commit's dvc.yaml cannot be read.
    """
    with _opened(project) as repo:
        remote = repo.config["core"].get("remote")
        with switch(repo, commit):
            outs = [out for out in repo.index.outs if out.hash_info]  # others were never made
            absent = [out for out in outs if not _is_here(out)]
        hashes = {out.def_path: out.hash_info for out in absent if out.use_cache and out.hash_info}
        found, trouble = _fetchable(repo, remote, hashes)
        names = [out.def_path for out in absent]
        lost = [name for name in names if name not in found]
        return Outs(len(outs), names, remote, lost, trouble)


def cached(project: Path, md5s: Mapping[str, str]) -> dict[str, Path]:
    """Where the cache has the bytes of files, by path; those that it has not are left out."""
    with _opened(project) as repo:
        cache = repo.cache.local
        return {p: Path(cache.oid_to_path(md5)) for p, md5 in md5s.items() if cache.exists(md5)}


def fetch(project: Path, commit: str) -> None:
    """Brings what the remote has of a commit's outs into the cache.

    Raises:
        ConnectionError: not everything came.
    """
    with _opened(project) as repo:
        try:
            repo.fetch(revs=[commit], workspace=False)
        except Exception as error:  # each kind of remote has errors of its own
            raise ConnectionError(f"the remote of DVC: {_line(error)}") from error


def checkout(project: Path, *, allow_missing: bool = False) -> None:
    """Makes the outs in the working tree those of dvc.lock.

    Raises:
        ValueError: bytes that the cache does not have would be lost, or are missing.
    """
    with _opened(project) as repo:
        try:
            repo.checkout(allow_missing=allow_missing)
        except CheckoutError as error:
            never_made = {out.fs_path for out in repo.index.outs if not out.hash_info}
            if not {str(project.resolve() / target) for target in error.target_infos} <= never_made:
                raise


def remove_unsaved(project: Path, path: str) -> None:
    """Removes an out of which dvc.lock has other bytes, or none."""
    with _opened(project) as repo:
        for out in repo.index.outs:
            if out.def_path == path and out.exists and out.changed_checksum():
                out.remove()


def stale(project: Path) -> list[str]:
    """The stages that `dvc repro` would run, or try to restore."""
    with _opened(project) as repo:
        return list(repo.status())


def current(project: Path) -> set[str]:
    """Names of the stages that `dvc repro` would not run, nor any that they come from.

    Archives that were removed to save room are no matter, nor are a user's own folders that are on
    another machine: what was packed from them is there.
    """
    with _opened(project) as repo:
        changed = {
            name for name, changes in repo.status().items() if not _are_of_originals(name, changes)
        }
        return {
            stage.addressing
            for stage in repo.index.stages
            if not changed
            & {one.addressing for one in repo.stage.collect(stage.addressing, with_deps=True)}
        }


@contextlib.contextmanager
def _opened(project: Path) -> Iterator[Repo]:
    try:
        with Repo(str(project)) as repo:
            yield repo
    except DvcException as error:
        raise ValueError(f"DVC: {_line(error)}") from error


def _are_of_originals(stage: str, changes: list[Any]) -> bool:
    """Whether all of a stage's changes, as DVC's status has them, are originals that are not here.

    Originals are archives, and the folders that one's own data is packed from.

    Args:
        stage: its name.
        changes: such as {"changed deps": {"archives/voc2012": "deleted"}} or "changed command".
    """
    return all(
        isinstance(change, dict)
        and all(
            state in ("deleted", "not in cache")
            and (path.startswith("archives/") or (stage.startswith("custom@") and "deps" in kind))
            for kind, states in change.items()
            for path, state in states.items()
        )
        for change in changes
    )


def _is_here(out: Output) -> bool:
    if out.use_cache:
        return not bool(out.changed_cache())
    return bool(out.exists) and not out.changed_checksum()


def _fetchable(
    repo: Repo, remote: str | None, hashes: Mapping[str, HashInfo]
) -> tuple[set[str], str | None]:
    """Names of the outs that the remote has, and why it could not be asked."""
    if remote is None or not hashes:
        return set(), None
    try:
        status = repo.cloud.status(set(hashes.values()))
    except Exception as error:  # each kind of remote has errors of its own
        return set(), _line(error)
    there = {hash_info.value for hash_info in status.ok | status.deleted}
    return {name for name, hash_info in hashes.items() if hash_info.value in there}, None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
