"""Packs a user's own images and label maps into two splits: train and val."""

import sys
from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params, splits, summary
from pipeline.originals import custom, custom_files
from pipeline.originals.config import Custom


def main(
    key: str,
    params_file: Path,
    images: Path,
    labels: Path,
    train: Path,
    val: Path,
    metrics: Path,
) -> None:
    """Checks every file before it writes anything, and says what it found."""
    config = params.load(params_file, f"custom.{key}", Custom)
    found = custom_files.find(config, images, labels)
    pairs = [pair for part in found.splits.values() for pair in part]
    checked = custom.check(config, found, tqdm(pairs, desc="check", unit=" images"))
    outs = {"train": train, "val": val}
    for split, out in outs.items():
        samples = custom.samples(config, found.splits[split], checked, key)
        bar = tqdm(samples, desc=split, total=len(found.splits[split]), unit=" images")
        splits.write(out, bar, config.table)
    files.write_json(metrics, {split: summary.summarise(out) for split, out in outs.items()})
    for line in custom.describe(config, found, checked):
        print(f"{key}: {line}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
