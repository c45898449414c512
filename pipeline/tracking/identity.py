"""What makes two runs the same run: equal params and equal bytes of the files they stand for.

A run that DVC restores from its cache, or repeats with the same result, is found again by its
identity instead of being shown twice.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from pipeline import files

# The tag that holds the identity. A live run gets it when its training has succeeded, not before.
TAG = "identity"
# The tag that MLflow's pages show as the description of a run, a model or an experiment.
NOTE = "mlflow.note.content"

_STAGES = {"import": "import_checkpoint", "model": "train", "row": "evaluate"}


def stage(kind: str, key: str) -> str:
    """The stage whose result a run shows, as in `dvc stage list`."""
    return f"{_STAGES[kind]}@{key}"


def tags(kind: str, key: str) -> dict[str, str]:
    """Tags by which the runs of an entry of params.yaml are found, and made again."""
    return {"kind": kind, "key": key, "mlflow.source.name": f"dvc repro {stage(kind, key)}"}


def legal(name: str) -> str:
    """The name of a metric as MLflow allows it; a class name in it may have any character."""
    return re.sub(r"[^/\w\- ]", "_", name)


def md5_tag(path: str) -> str:
    """The tag that holds the md5 of a file, named as MLflow allows: a key in it may have a `+`."""
    return "dvc.md5/" + re.sub(r"[^/\w.\- ]", "_", path)


def flatten(entry: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Turns an entry of params.yaml into dotted names and values as text; `desc` is left out."""
    flat: dict[str, str] = {}
    for name, value in entry.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        elif name != "desc":
            flat[f"{prefix}{name}"] = _text(value)
    return flat


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def identity(kind: str, key: str, params: Mapping[str, str], md5s: Mapping[str, str]) -> str:
    """Hashes what a run is and what it was computed from.

    Args:
        kind: "import", "model" or "row".
        key: of the entry in params.yaml.
        params: the entry, flattened.
        md5s: role of each file, e.g. "checkpoint", and md5 of its bytes.
    """
    return files.digest_of_json([kind, key, params, md5s])
