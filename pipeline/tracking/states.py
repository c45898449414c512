"""Which state of the repository a run shows: the commit that holds its params and its bytes.

A run is usually made before its state is committed: params.yaml is edited, `dvc repro` runs, and
the commit comes later or never. HEAD at that time, which the run's tags name, is not its state. The
commit sought is one whose params.yaml and dvc.lock give the run's identity, and whose dvc.lock has
no file of the run with another md5. DVC's experiments are commits too, under refs/exps.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow import entities

from pipeline.revision import git
from pipeline.tracking.identity import TAG, flatten, identity, md5_tag
from pipeline.tracking.provenance import File, locked_in

_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_EXPERIMENT = re.compile(r"(\w+) refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")
_SECTIONS = {"import": "imports", "model": "models", "row": "rows"}
# All that a result depends on, and dvc.lock, which has its md5.
_SOURCES = ("params.yaml", "paper.yaml", "dvc.yaml", "dvc.lock", "pipeline", "stages")


@dataclass(frozen=True)
class State:
    """A commit that holds a run.

    Attributes:
        commit: its full hash.
        experiment: the DVC experiment's name, where it is one's.
    """

    commit: str
    experiment: str | None


def find(project: Path, run: entities.Run) -> Iterator[State]:
    """Finds the commits that hold a run's state, the likeliest to have its code first.

    In this order: the commit that the run names, its DVC experiment, the commits of branches and
    tags from the oldest on, other experiments. HEAD stands in for a commit from which it differs
    in nothing that a result depends on.

    Args:
        project: folder of dvc.yaml, in a git repository.
        run: as MLflow has it.
    """
    head = git(project, "rev-parse", "HEAD")
    for state in _states(project, run.data.tags):
        if _holds(run, *_content(project, state.commit)):
            changes = git(project, "diff", "--name-only", state.commit, "HEAD", "--", *_SOURCES)
            yield State(head, None) if head and changes == "" else state


def at_head(project: Path, run: entities.Run) -> State | None:
    """HEAD, if it holds a run's state."""
    head = git(project, "rev-parse", "HEAD")
    return State(head, None) if head and _holds(run, *_content(project, head)) else None


def is_in_working_tree(project: Path, run: entities.Run) -> bool:
    """Whether params.yaml and dvc.lock, as they lie there, hold the run's state."""
    paths = (project / "params.yaml", project / "dvc.lock")
    if not all(path.exists() for path in paths):
        return False
    return _holds(run, *(path.read_text(encoding="utf-8") for path in paths))


def md5s(run: entities.Run) -> dict[str, str]:
    """The files that a run was made of or made, by path as its tags have it, and their md5."""
    prefix = md5_tag("")
    tags = run.data.tags.items()
    return {name.removeprefix(prefix): md5 for name, md5 in tags if name.startswith(prefix)}


def md5s_of_outs(project: Path, state: State) -> set[str]:
    """The md5s of all outs that a state's dvc.lock names."""
    stages = _section(_parsed(_content(project, state.commit)[1]), "stages").values()
    return {out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}


def changed_params(project: Path, commit: str, run: entities.Run) -> dict[str, tuple[str, str]]:
    """A run's params that differ from a commit's params.yaml: dotted name, then the two values."""
    kind, key = run.data.tags["kind"], run.data.tags["key"]
    document = _parsed(_content(project, commit)[0])
    there = _params(document, kind, key) or {}
    model = run.data.params.get("model")
    section = "imports" if model in _section(document, "imports") else "models"
    changed = {}
    for name in sorted(run.data.params.keys() | there.keys()):
        values = (run.data.params.get(name, "-"), there.get(name, "-"))
        if values[0] != values[1]:
            is_models = kind == "row" and name.startswith("model.")
            place = f"{section}.{model}" if is_models else f"{_SECTIONS[kind]}.{key}"
            changed[f"{place}.{name.removeprefix('model.')}"] = values
    return changed


def recorded_commit(project: Path, tags: Mapping[str, str]) -> str | None:
    """The commit that a run names, HEAD when it was made; None if it is not in this repository."""
    commit = tags.get("git.commit", "")
    is_one = _COMMIT.fullmatch(commit)  # anyone may have written the tag
    is_here = is_one and git(project, "cat-file", "-e", f"{commit}^{{commit}}") is not None
    return commit if is_here else None


def _states(project: Path, tags: Mapping[str, str]) -> Iterator[State]:
    recorded = recorded_commit(project, tags)
    if recorded:
        yield State(recorded, None)
    refs = git(project, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps") or ""
    experiments = [State(*match.groups()) for match in _EXPERIMENT.finditer(refs)]
    yield from (state for state in experiments if state.experiment == tags.get("dvc.experiment"))
    everywhere = ("HEAD", "--branches", "--tags", "--remotes")
    paths = ("--", "params.yaml", "dvc.lock", "metrics")
    commits = git(project, "log", "--reverse", "--full-history", "--format=%H", *everywhere, *paths)
    yield from (State(commit, None) for commit in (commits or "").split())
    yield from experiments


def _content(project: Path, commit: str) -> tuple[str, str]:
    """The texts of a commit's params.yaml and dvc.lock; empty where it has none."""
    params, lock = (
        git(project, "show", f"{commit}:./{name}") or "" for name in ("params.yaml", "dvc.lock")
    )
    return params, lock


def _holds(run: entities.Run, params: str, lock: str) -> bool:
    wanted, tags = md5s(run), run.data.tags
    made = [md5 for path, md5 in wanted.items() if path.startswith("checkpoints/")]
    if not all(md5 in lock for md5 in made):  # spares reading most of a long history as YAML
        return False
    locked = _locked(lock)
    there = {md5_tag(path).removeprefix(md5_tag("")): file.md5 for path, file in locked.items()}
    if any(there.get(path, md5) != md5 for path, md5 in wanted.items()):
        return False
    this = _identity(_parsed(params), locked, tags["kind"], tags["key"])
    return this is not None and this == tags.get(TAG)


def _identity(
    document: Mapping[str, Any], locked: Mapping[str, File], kind: str, key: str
) -> str | None:
    """The identity of an entry's run in a state; None where the state has no such result."""
    params = _params(document, kind, key)
    if params is None:
        return None
    made = {"checkpoint": f"checkpoints/{key}.safetensors", "history": f"history/{key}.jsonl"}
    if kind == "row":
        made = {name: f"metrics/{key}/{name}.json" for name in ("scores", "trimap")}
        made["checkpoint"] = f"checkpoints/{params['model']}.safetensors"
    if not all(path in locked for path in made.values()):
        return None
    return identity(kind, key, params, {role: locked[path].md5 for role, path in made.items()})


def _params(document: Mapping[str, Any], kind: str, key: str) -> dict[str, str] | None:
    """The params of an entry's run: a row has its model's, too."""
    entry = _section(document, _SECTIONS[kind]).get(key)
    if not isinstance(entry, dict):
        return None
    params = flatten(entry)
    if kind == "row":
        models = _section(document, "imports") | _section(document, "models")
        trained = models.get(params.get("model"))
        if not isinstance(trained, dict):
            return None
        params |= {f"model.{name}": value for name, value in flatten(trained).items()}
    return params


def _section(document: Mapping[str, Any], name: str) -> dict[Any, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> Mapping[str, Any]:
    """Parses a params.yaml or dvc.lock of any commit; text that is no YAML mapping gives {}."""
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return {}
    return document if isinstance(document, dict) else {}


@functools.lru_cache(maxsize=64)
def _locked(lock: str) -> Mapping[str, File]:
    try:
        return locked_in(lock)
    except (yaml.YAMLError, TypeError, KeyError, AttributeError):
        return {}
