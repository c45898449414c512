"""Which entries of params.yaml were run as they are now.

A preset of days is looked at after its first row; and what `dvc repro` did not run may be of long
ago: neither a page nor a run of MLflow may show its scores beside the params of now.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline import dvc_lock

T = TypeVar("T")


def entries(all_entries: Mapping[str, T], file: Callable[[str], Path], what: str) -> dict[str, T]:
    """The entries whose file is there, by key; says how many are not.

    Args:
        all_entries: of params.yaml, by key.
        file: of a key.
        what: they are, for people: "rows".
    """
    found = {key: entry for key, entry in all_entries.items() if file(key).exists()}
    if len(found) < len(all_entries):
        print(
            f"{len(found)} of {len(all_entries)} {what} were run; the others are left out",
            file=sys.stderr,
        )
    return found


@dataclass(frozen=True)
class Current:
    """Tells what was run with the params of now; what was not is named on stderr, and left out.

    Attributes:
        locked: what dvc.lock says of each stage, by name.
        imports: of params.yaml, by key.
        models: likewise.
        rows: likewise.
    """

    locked: Mapping[str, Any]
    imports: Mapping[str, Any]
    models: Mapping[str, Any]
    rows: Mapping[str, Any]

    def of_imports(self, found: Mapping[str, T]) -> dict[str, T]:
        """The imports among these that were."""
        return _kept("import", found, self._import)

    def of_models(self, found: Mapping[str, T]) -> dict[str, T]:
        """The models among these that were, and all that their weights come from."""
        return _kept("model", found, self._model)

    def of_rows(self, found: Mapping[str, T]) -> dict[str, T]:
        """The rows among these that were, and their models."""
        return _kept("row", found, self._row)

    def _import(self, key: str) -> list[str]:
        return self._others(f"import_checkpoint@{key}")

    def _model(self, key: str) -> list[str]:
        keys = {f"checkpoints/{model}.safetensors": model for model in self.models}
        found: list[str] = []
        link: str | None = key
        while link is not None:
            found += self._others(f"train@{link}")
            link = keys.get(self.models[link]["start"])
        return found

    def _row(self, key: str) -> list[str]:
        model = self.rows[key]["model"]
        of_model = self._model(model) if model in self.models else self._import(model)
        return self._others(f"predict@{key}") + self._others(f"evaluate@{key}") + of_model

    def _others(self, stage: str) -> list[str]:
        params = {"imports": self.imports, "models": self.models, "rows": self.rows}
        return dvc_lock.other_params(self.locked.get(stage, {}), params)


def _kept(kind: str, found: Mapping[str, T], others: Callable[[str], list[str]]) -> dict[str, T]:
    kept = {}
    for key, entry in found.items():
        if changed := others(key):
            listed = ", ".join(changed)
            print(f"{kind} {key}: left out, it was made with another {listed}", file=sys.stderr)
        else:
            kept[key] = entry
    return kept
