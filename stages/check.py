"""Checks that params.yaml is whole and consistent, before anything runs."""

from pathlib import Path

from pipeline import command, experiment, paper


def main(params_file: Path, paper_file: Path) -> None:
    """Reads the file and the published rows it refers to, and writes nothing."""
    loaded = experiment.load(params_file)
    keys = {
        f"{section}.{key}": entry.paper
        for section, entries in (("rows", loaded.rows), ("submissions", loaded.submissions))
        for key, entry in entries.items()
    }
    paper.check(paper.load(paper_file), keys)


if __name__ == "__main__":
    command.run(main)
