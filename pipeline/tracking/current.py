"""Which results are of the params that there are now: what `dvc repro` did not run may be older.

A run of MLflow shows params.yaml beside scores, and must not show those of other params. dvc.lock
says what each stage was run with.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.tracking import provenance

Entries = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Current:
    """What is of today's params; what is not is named on stderr, and left out.

    Attributes:
        locked: what dvc.lock says of each stage, by name.
        all_imports: of params.yaml, by key.
        all_models: likewise.
        all_rows: likewise.
    """

    locked: Mapping[str, Any]
    all_imports: Entries
    all_models: Entries
    all_rows: Entries

    def imports(self, entries: Entries) -> Entries:
        """The imports among these that are."""
        return _kept("import", entries, lambda key: self._others(f"import_checkpoint@{key}"))

    def models(self, entries: Entries) -> Entries:
        """The models among these that are, as are all that their weights come from."""
        return _kept("model", entries, self._of_model)

    def rows(self, entries: Entries, trained: Entries) -> Entries:
        """The rows among these that are, and whose checkpoint is one of the trained."""
        known = {key: entry for key, entry in entries.items() if entry["model"] in trained}
        return _kept("row", known, lambda key: self._others(f"predict@{key}", f"evaluate@{key}"))

    def _of_model(self, model: str) -> list[str]:
        keys = {f"checkpoints/{key}.safetensors": key for key in self.all_models}
        found: list[str] = []
        link: str | None = model
        while link is not None:
            found += self._others(f"train@{link}")
            link = keys.get(self.all_models[link]["start"])
        return found

    def _others(self, *stages: str) -> list[str]:
        params = {
            "imports": self.all_imports,
            "models": self.all_models,
            "rows": self.all_rows,
        }
        return [
            name
            for stage in stages
            for name in provenance.other_params(self.locked.get(stage, {}), params)
        ]


def _kept(kind: str, entries: Entries, others: Callable[[str], list[str]]) -> Entries:
    kept = {}
    for key, entry in entries.items():
        if changed := others(key):
            listed = ", ".join(changed)
            print(f"{kind} {key}: left out, it was made with another {listed}", file=sys.stderr)
        else:
            kept[key] = entry
    return kept
