"""Says where a run's state is in this repository, and how it can be brought back from here."""

from collections.abc import Sequence
from pathlib import Path

from mlflow import entities

from pipeline.revision import git
from pipeline.tracking import identity, lookup, outs, states

_NAMES = 5  # how many files are named where there are more
_STATES = 8  # how many of the commits that hold a run are surveyed, which takes DVC a while


def of(project: Path, run: entities.Run) -> list[str]:
    """Lines that say where a run's state is, and whether all of it can be had."""
    if identity.TAG not in run.data.tags:
        return ["none: the run has no result, its training has not come to its end"]
    if git(project, "rev-parse", "HEAD") is None:
        return ["here is no git repository that has a commit"]
    state = best(project, run)
    if state is not None:
        return [described(project, state), *_of_outs(project, state, run)]
    if states.is_in_working_tree(project, run):
        return [
            "params.yaml and dvc.lock in the working tree have it; no commit has it yet.",
            "To keep it:  git add params.yaml dvc.lock metrics && git commit",
        ]
    return _lost(project, run)


def best(project: Path, run: entities.Run) -> states.State | None:
    """The first state of a run that has all its outs here, else the first; None if there is none.

    A commit may lack metrics that a later one brought, or have those of an earlier state. Those
    of whose outs the cache lacks the fewest are surveyed, and HEAD too wherever it holds the run.
    """
    found = list(states.find(project, run))
    made = {state: states.md5s_of_outs(project, state) for state in found}
    cached = outs.cached(project, {md5: md5 for md5s in made.values() for md5 in md5s}).keys()
    found.sort(key=lambda state: len(made[state] - cached))
    asked = found[:_STATES]
    head = states.at_head(project, run)
    if head and head not in asked:
        asked.append(head)
    whole = (state for state in asked if not outs.survey(project, state.commit).absent)
    return next(whole, asked[0]) if asked else None


def described(project: Path, state: states.State) -> str:
    """A state in one line: experiment, commit, date, subject."""
    form = "%h, %cs" if state.experiment else "%h, %cs, %s"
    commit = f"commit {git(project, 'show', '--no-patch', f'--format={form}', state.commit)}"
    return f"DVC experiment {state.experiment}, {commit}" if state.experiment else commit


def recomputed(state: states.State) -> list[str]:
    """Lines that say how to come to a state whose outs are not all available."""
    return [
        "To bring back what there is and compute the rest:",
        f"  git checkout {state.commit[:12]}; dvc checkout --allow-missing; dvc repro",
    ]


def counted(names: Sequence[str]) -> str:
    """Some of the names, and how many more there are."""
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _of_outs(project: Path, state: states.State, run: entities.Run) -> list[str]:
    found = outs.survey(project, state.commit)
    here = (
        f"{found.num_all - len(found.absent)} of its {found.num_all} outs are in DVC's cache or git"
    )
    restored = ["To bring it back:", f"  make checkout RUN={run.info.run_id}"]
    if not found.absent:
        return [f"{here}.", *restored]
    lines = [f"{here}, but not {counted(found.absent)}."]
    if found.remote is None:
        lines.append("DVC has no default remote to ask.")
    elif found.trouble:
        lines.append(f"DVC's remote {found.remote} could not be asked: {found.trouble}")
    elif found.lost:
        lines.append(f"DVC's remote {found.remote} does not have {counted(found.lost)}.")
    else:
        return [*lines, f"DVC's remote {found.remote} has them.", *restored]
    return [*lines, *recomputed(state)]


def _lost(project: Path, run: entities.Run) -> list[str]:
    """What is missing of a state that no commit holds, and what can be done."""
    lines = ["no commit and no DVC experiment in this repository has it."]
    if git(project, "rev-parse", "--is-shallow-repository") == "true":
        lines.append(
            "This clone is shallow, the rest of its history comes with git fetch --unshallow."
        )
    if "git.commit" not in run.data.tags:
        return [*lines, "The run names no commit either: it was made outside git."]
    commit = states.recorded_commit(project, run.data.tags)
    if commit is None:
        lines.append(
            f"Nor is commit {run.data.tags['git.commit'][:12]} here, on which it was made."
        )
        return [*lines, "It may come with git fetch, and an experiment with dvc exp pull."]
    changed = states.changed_params(project, commit, run)
    lines += ["To make it again:", f"  git checkout {commit[:12]}"]
    if changed:
        lines.append("  in params.yaml, set")
        lines += [f"    {name}: {ours}    # is {there}" for name, (ours, there) in changed.items()]
    return [
        *lines,
        f"  dvc repro {lookup.stage(run)}",
        "DVC's run cache gives the same bytes if it has them, else they are computed. Whether code",
        "or data, too, had been changed since that commit was not recorded.",
    ]
