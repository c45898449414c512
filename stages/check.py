"""Checks that params.yaml is whole and consistent, before anything runs."""

from pathlib import Path

from pipeline import command, experiment
from pipeline.report import paper


def main(params_file: Path, paper_file: Path) -> None:
    """Reads the file and the published rows it refers to, and writes nothing."""
    rows = experiment.load(params_file).rows
    published = paper.load(paper_file)
    for key, row in rows.items():
        paper.find(published, key, row.paper)


if __name__ == "__main__":
    command.run(main)
