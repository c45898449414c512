"""dvc.lock: what each stage was run with, and what it made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def stages(lock: Path) -> dict[str, Any]:
    """What dvc.lock says of each stage, by name; nothing where there is no dvc.lock."""
    return stages_in(lock.read_text(encoding="utf-8")) if lock.exists() else {}


def stages_in(text: str) -> dict[str, Any]:
    """What the text of a dvc.lock says of each stage, by name."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the plain one takes seconds
    found: dict[str, Any] = yaml.load(text, Loader=loader)["stages"]
    return found


def other_params(locked_stage: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """Sections of params.yaml, as dvc.yaml names them, that are not what a stage was run with.

    Args:
        locked_stage: what dvc.lock says of it.
        params: of params.yaml, all that the stage names of it.
    """
    return [
        name
        for sections in locked_stage.get("params", {}).values()
        for name, value in sections.items()
        if not _is_same(_at(params, name), value)
    ]


def _at(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal; DVC writes 0.00001 as 1e-05, which PyYAML takes for a text."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, float) and isinstance(other, str):
        return repr(one) == other
    return bool(one == other)
