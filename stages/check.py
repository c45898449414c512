"""Checks that params.yaml is whole and consistent, before anything runs."""

from pathlib import Path

from pipeline import command, experiment
from pipeline.report import paper


def main(params_file: Path, paper_file: Path) -> None:
    """Reads the file and the published rows it refers to, and writes nothing."""
    rows = experiment.load(params_file).rows
    paper.check(paper.load(paper_file), {key: row.paper for key, row in rows.items()})


if __name__ == "__main__":
    command.run(main)
