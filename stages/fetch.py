"""Fetches one original archive or weight file, checksummed (Sec. 4)."""

import sys
from pathlib import Path

from tqdm import tqdm

from pipeline import command, params
from pipeline.originals import downloads, fetch
from pipeline.originals.config import Archive
from pipeline.originals.transfer import Progress


def main(key: str, params_file: Path, out: Path) -> None:
    """Downloads, copies or generates `archives.<key>`; leaves no part of a file at its place."""
    archive = params.load(params_file, f"archives.{key}", Archive)
    with tqdm(desc=key, unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def begin(here: int, size: int | None) -> None:
            bar.reset(size)
            bar.total = size  # `reset` keeps the old one where there is none
            bar.initial = bar.n = here  # what was here before counts in no speed
            bar.refresh()

        def advance(num_bytes: int) -> None:
            bar.update(num_bytes)

        def say(line: str) -> None:
            bar.write(f"archives.{key}: {line}", file=sys.stderr)

        fetch.save(key, archive, out, downloads.folder(), Progress(begin, advance, say))


if __name__ == "__main__":
    command.run(main)
