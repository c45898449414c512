"""Checks that params.yaml is whole and consistent, before anything runs."""

from pathlib import Path

from pipeline import command, experiment


def main(params_file: Path) -> None:
    """Reads the file; a mistake is an error that lists them all."""
    experiment.load(params_file)


if __name__ == "__main__":
    command.run(main)
