"""Brings git, params.yaml and DVC's outs back to the state that a run of MLflow shows.

Usage: python -m pipeline.tracking.checkout params.yaml RUN
"""

import subprocess
from pathlib import Path

from mlflow import entities

from pipeline import command, files, params, scratch
from pipeline.revision import git
from pipeline.tracking import lookup, outs, states, whereabouts


def main(params_file: Path, run: str) -> None:
    """Changes nothing until all files are known to be here; goes back if it fails midway."""
    project = params_file.parent
    meant = lookup.find(params.load(params_file, "mlflow.experiment", str), run)
    if len(meant) > 1:
        listed = lookup.listed(meant)
        raise ValueError(f"RUN={run} stands for {len(meant)} runs; give the id of one:\n{listed}")
    state = _found(project, meant[0])
    _require_clean(project)
    _require_idle(project)
    _require_outs(project, state)
    before = _position(project)
    if _target(project, state):
        print(f"The way back:  git checkout {before} && dvc checkout --allow-missing", flush=True)
    _move(project, state, before)
    print(f"{lookup.stage(meant[0])} is back: {whereabouts.described(project, state)}")
    _require_bytes(project, meant[0])
    if stale := outs.stale(project):
        print(f"dvc repro would run: {', '.join(stale)}")
    else:
        print("dvc repro has nothing to do.")


def _found(project: Path, run: entities.Run) -> states.State:
    state = whereabouts.best(project, run)
    if state is None:
        where = "\n".join(whereabouts.of(project, run))
        raise ValueError(f"{lookup.stage(run)} {run.info.run_id} cannot be brought back:\n{where}")
    return state


def _require_clean(project: Path) -> None:
    """Raises ValueError if files that git knows have changes that no commit has."""
    changed = _git(project, "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        names = whereabouts.counted([line[3:] for line in changed])
        raise ValueError(f"changes that no commit has: {names}; commit them, or git stash")


def _require_idle(project: Path) -> None:
    """Raises ValueError while a training or prediction runs.

    DVC looks at params, code and data when the command ends: it would record the result as made
    from the state that was checked out meanwhile.
    """
    if busy := scratch.busy(project):
        names = whereabouts.counted([str(folder) for folder in busy])
        raise ValueError(f"at work in {names}: wait for its end, or end it")


def _require_outs(project: Path, state: states.State) -> None:
    found = outs.survey(project, state.commit)
    if found.absent and found.remote and not found.trouble:
        outs.fetch(project, state.commit)
        found = outs.survey(project, state.commit)
    if not found.absent:
        return
    asked = f"nor in DVC's remote {found.remote}" if found.remote else "and DVC has no remote"
    if found.trouble:
        asked = f"and DVC's remote {found.remote} could not be asked, {found.trouble}"
    names = whereabouts.counted(found.absent)
    described = f"{whereabouts.described(project, state)}: not here {asked}: {names}"
    raise ValueError("\n".join([described, *whereabouts.recomputed(state)]))


def _position(project: Path) -> str:
    """The branch, or the commit where there is none."""
    branch = git(project, "symbolic-ref", "--short", "--quiet", "HEAD")
    return branch or _git(project, "rev-parse", "HEAD").strip()


def _move(project: Path, state: states.State, before: str) -> None:
    """Git and DVC refuse to overwrite or remove what they have no copy of; DVC is asked first."""
    outs.remove_unsaved(project, "report")  # a page of some rows, which `make publish` draws again
    outs.checkout(project, allow_missing=True)
    try:
        _git(project, "checkout", "--quiet", *_target(project, state))
        outs.checkout(project)
    except BaseException:  # Ctrl-C too: half of the files are those of another state
        _git(project, "checkout", "--quiet", "--force", before)  # which had no changes
        outs.checkout(project, allow_missing=True)
        raise


def _target(project: Path, state: states.State) -> list[str]:
    """Arguments of git checkout; none where HEAD is that commit, so that a branch stays."""
    is_there = git(project, "rev-parse", "HEAD") == state.commit
    return [] if is_there else ["--detach", state.commit]


def _require_bytes(project: Path, run: entities.Run) -> None:
    """Raises ValueError if a file that the run names is not what it was."""
    for path, md5 in states.md5s(run).items():
        file = project / path
        is_other = file.is_file() and files.digest(file, "md5") != md5
        if is_other and not path.startswith("report/"):  # drawn from all rows, and not a result
            raise ValueError(f"{path}: md5 is not {md5}, which the run has")


def _git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {' '.join(done.stderr.split())}")
    return done.stdout


if __name__ == "__main__":
    command.run(main)
