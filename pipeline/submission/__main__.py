"""Packs a row's label maps as the test server of its data takes them, and checks the archive.

    make submission ROW=v3plus
    python -m pipeline.submission params.yaml ROW predictions submissions

VOC 2012 (comp6) becomes ROW.tgz, Cityscapes ROW.zip. Upload it to the server with your account:
http://host.robots.ox.ac.uk:8080 or https://www.cityscapes-dataset.com/submit.
"""

import sys
from pathlib import Path
from typing import Any

from pipeline import command, params
from pipeline.splits import Split
from pipeline.submission import pack, servers


def main(params_file: Path, row: str, predictions: Path, out: Path) -> None:
    """Writes out/ROW.tgz or .zip; a row names its split from the folder of params.yaml."""
    entry = params.load(params_file, f"rows.{row}", dict[str, Any])
    folder = predictions / row
    if not folder.is_dir():
        raise ValueError(f"{folder}: not there yet; `dvc repro predict@{row}` makes it")
    split = Split(params_file.parent / entry["data"])
    server = servers.of_classes(split.classes, entry["data"])
    archive = out / f"{row}{server.suffix}"
    pack.pack(split, folder, entry["data"], archive)
    if warning := server.shortfall(len(split), entry["data"]):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{archive}: {len(split)} label maps, as {server.name} takes them")


if __name__ == "__main__":
    command.run(main)
