"""Page and runs of what was run so far, where a preset of days is not whole yet.

Usage: python -m pipeline.tracking.so_far params.yaml

Runs `multiply_adds`, `compare`, `report` and `publish` on a params.yaml cut down to the entries
that are up to date: `dvc repro` would run neither their stage nor any stage before it. The four are
run directly, not by DVC, which would record a page that lacks rows as the finished one. Where
nothing is left out and the page is up to date, `publish` runs alone.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from pipeline import command, params
from pipeline.tracking import outs

# Sections of params.yaml, and the last stage of each entry.
_LAST_STAGES = {
    "imports": "import_checkpoint",
    "models": "train",
    "rows": "evaluate",
    "submissions": "submission",
}
_STAGES = ("multiply_adds", "compare", "report", "publish")


def main(params_file: Path) -> None:
    """Asks DVC what is up to date, and runs the stages; names what is left out on stderr.

    Raises:
        ChildProcessError: a stage has failed; it has said why.
    """
    project = params_file.parent
    document = params.read(params_file)
    is_new_page = _leave_out(document, project)
    stages = params.read(project / "dvc.yaml")["stages"]
    with tempfile.TemporaryDirectory() as folder:
        entries = Path(folder) / params_file.name
        entries.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        for stage in _STAGES if is_new_page else _STAGES[-1:]:
            _, *arguments = stages[stage]["cmd"].split()
            arguments[arguments.index(params_file.name)] = str(entries)
            if subprocess.run([sys.executable, *arguments], cwd=project).returncode:
                raise ChildProcessError(f"{stage} has failed")


def _leave_out(document: dict[str, Any], project: Path) -> bool:
    """Takes out of params.yaml what is not up to date; returns whether a page is to be made."""
    current = outs.current(project)
    is_new_page = "report" not in current
    for section, stage in _LAST_STAGES.items():
        entries = document.get(section) or {}
        kept = {key: entry for key, entry in entries.items() if f"{stage}@{key}" in current}
        if left_out := [key for key in entries if key not in kept]:
            names = ", ".join(left_out)
            print(f"{section} that dvc repro would run are left out: {names}", file=sys.stderr)
            document[section], is_new_page = kept, True
    return is_new_page


if __name__ == "__main__":
    command.run(main)
