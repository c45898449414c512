"""Turns one of the authors' TensorFlow checkpoints into a checkpoint here (the model zoo)."""

import json
from pathlib import Path

from pipeline import command, files, params
from pipeline.importing import convert, tensorflow_file
from pipeline.importing.config import Import


def main(key: str, params_file: Path, archive_file: Path, checkpoint: Path, history: Path) -> None:
    """Reads an archive of the model zoo, writes the network that `imports.<key>` declares.

    The history is one line: the authors' number of iterations, where they say it.
    """
    config = params.load(params_file, f"imports.{key}", Import)
    variables = tensorflow_file.read(archive_file)
    convert.declared(archive_file, variables, config, checkpoint)
    record = {"iteration": tensorflow_file.global_step(variables), "variables": len(variables)}
    files.write_text(history, json.dumps(record) + "\n")


if __name__ == "__main__":
    command.run(main)
