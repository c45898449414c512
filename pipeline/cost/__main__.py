"""Prints our Multiply-Adds beside the published ones; fails where one is off or missing.

Usage: python -m pipeline.cost paper.yaml presets/voc.yaml [another preset ...]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from pipeline import command, paper, params
from pipeline.cost import comparison, rows
from pipeline.cost.comparison import Candidate, Comparison
from pipeline.cost.config import Described, Row
from pipeline.originals.config import Custom
from pipeline.paper import Paper


def main(paper_file: Path, presets: Sequence[Path]) -> bool:
    """Prints the comparison; whether the presets have every published figure, and none is off."""
    found = comparisons(paper_file, presets)
    print(comparison.as_text(found))
    print(comparison.verdict(found))
    return bool(found) and all(one.agrees for one in found)


def comparisons(paper_file: Path, presets: Sequence[Path]) -> list[Comparison]:
    """Compares the published Multiply-Adds with the rows of all presets.

    Raises:
        ValueError: a mistake in a file, which is named.
    """
    published = paper.load(paper_file)
    candidates = [row for preset in presets for row in _candidates(preset, published)]
    return comparison.compare(published, candidates)


def _candidates(preset: Path, published: Paper) -> Iterator[Candidate]:
    """The rows of a preset that answer a published one with Multiply-Adds."""
    models = params.load(preset, "models", dict[str, Described])
    imports = params.load(preset, "imports", dict[str, Described])
    wanted = params.load(preset, "rows", dict[str, Row])
    try:
        answering = {key: row for key, row in wanted.items() if _has_figure(key, row, published)}
        custom = params.load(preset, "custom", dict[str, Custom])
        costs = rows.costs(models, imports, answering, custom)
        bar = tqdm(costs, total=len(answering), desc=preset.stem, unit="row", disable=None)
        yield from (Candidate(key, answering[key].paper, cost) for key, cost in bar)
    except ValueError as error:
        raise ValueError(f"{preset}: {error}") from error


def _has_figure(key: str, row: Row, published: Paper) -> bool:
    answered = [paper.find(published, f"rows.{key}", paper_key) for paper_key in row.paper]
    return any(one.multiply_adds is not None for one in answered)


def run() -> None:
    """Parses argv, calls main and ends with its verdict as exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paper_file", type=Path)
    parser.add_argument("presets", type=Path, nargs="+")
    try:
        sys.exit(0 if main(**vars(parser.parse_args())) else 1)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {command.describe(error)}")


if __name__ == "__main__":
    run()
