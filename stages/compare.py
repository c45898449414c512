"""Compares rows in pairs: is a difference one of the networks, or of the images drawn (Sec. 4)?

Rows are comparable when they were scored on the same split, with the same trimaps and draws.
"""

from pathlib import Path
from typing import Any

from pipeline import command, files, params
from pipeline.evaluation import comparisons, tally
from pipeline.evaluation.config import ScoredRow


def main(params_file: Path, counts: Path, out: Path) -> None:
    """Reads the counts of all rows, writes a list of JSON, an entry per pair."""
    rows = params.load(params_file, "rows", dict[str, ScoredRow])
    found: list[dict[str, Any]] = []
    for keys in comparisons.alike(rows):
        tallies = ((key, tally.read(counts / f"{key}.arrow")) for key in keys)
        found += comparisons.compare(tallies, rows[keys[0]].evaluation)
    files.write_json(out, found)


if __name__ == "__main__":
    command.run(main)
