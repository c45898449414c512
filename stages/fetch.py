"""Fetches one original archive or weight file, checksummed (Sec. 4)."""

from pathlib import Path

from tqdm import tqdm

from pipeline import command, params
from pipeline.originals import fetch
from pipeline.originals.config import Archive


def main(key: str, params_file: Path, out: Path) -> None:
    """Downloads, copies or generates `archives.<key>`; leaves no part of a file behind."""
    archive = params.load(params_file, f"archives.{key}", Archive)
    with tqdm(desc=key, unit="B", unit_scale=True, unit_divisor=1024) as bar:

        def report(done: int, size: int | None) -> None:
            bar.total = size
            bar.update(done - bar.n)

        fetch.save(key, archive, out, report)


if __name__ == "__main__":
    command.run(main)
