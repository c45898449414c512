"""Scores one row's predicted label maps: mIoU (the tables) and the trimap curve (Fig. 5)."""

import sys
from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params
from pipeline.evaluation import predictions, scores
from pipeline.evaluation.config import Evaluation
from pipeline.splits import Split


def main(
    key: str,
    params_file: Path,
    split_file: Path,
    predictions_folder: Path,
    scores_file: Path,
    trimap_file: Path,
) -> None:
    """Reads a split and a folder of label maps, writes two JSON files of fractions in [0, 1]."""
    evaluation = params.load(params_file, f"rows.{key}.evaluation", Evaluation)
    split = Split(split_file)
    predictions.check_complete(split, predictions_folder)
    pairs = predictions.read(split, predictions_folder)
    counts = scores.count(
        tqdm(pairs, desc=key, total=len(split), unit="image"),
        num_classes=split.classes.num_classes,
        ignore_index=split.classes.ignore_index,
        max_trimap_width=evaluation.max_trimap_width,
    )
    summary = scores.summary(counts, split.classes.names, len(split), evaluation)
    files.write_json(scores_file, summary)
    files.write_json(trimap_file, scores.trimap_curve(counts))
    for warning in summary["warnings"]:
        print(f"{key}: warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
