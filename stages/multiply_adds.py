"""Counts what every row costs: multiply-adds, the authors' count of them, and parameters.

It needs neither data nor weights: networks are built in shapes alone.
"""

from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params
from pipeline.cost import rows
from pipeline.cost.config import Described, Row
from pipeline.originals.config import Custom


def main(params_file: Path, out: Path) -> None:
    """Reads which rows there are and of which networks, writes one JSON of numbers by row."""
    models = params.load(params_file, "models", dict[str, Described])
    imports = params.load(params_file, "imports", dict[str, Described])
    wanted = params.load(params_file, "rows", dict[str, Row])
    custom = params.load(params_file, "custom", dict[str, Custom])
    costs = rows.costs(models, imports, wanted, custom)
    bar = tqdm(costs, total=len(wanted), desc="multiply-adds", unit="row", disable=None)
    files.write_json(out, {key: asdict(cost) for key, cost in bar})


if __name__ == "__main__":
    command.run(main)
