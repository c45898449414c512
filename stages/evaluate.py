"""Scores one row's predicted label maps: mIoU (the tables) and the trimap curve (Fig. 5).

Each mIoU comes with a 95 % interval, and each image is counted by itself, so that rows can be
compared and the worst images looked at.
"""

import sys
from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params
from pipeline.evaluation import predictions, scores, tally
from pipeline.evaluation.config import Evaluation
from pipeline.splits import Split


def main(
    key: str,
    params_file: Path,
    split_file: Path,
    predictions_folder: Path,
    scores_file: Path,
    trimap_file: Path,
    worst_file: Path,
    counts_file: Path,
    confusion_file: Path,
) -> None:
    """Reads a split and a folder of label maps, writes JSON of fractions in [0, 1], and counts."""
    evaluation = params.load(params_file, f"rows.{key}.evaluation", Evaluation)
    split = Split(split_file)
    predictions.check_complete(split, predictions_folder)
    pairs = predictions.read(split, predictions_folder)
    names = split.classes.names
    counts, images = scores.count(
        tqdm(pairs, desc=key, total=len(split), unit="image"),
        evaluation,
        num_classes=split.classes.num_classes,
        ignore_index=split.classes.ignore_index,
    )
    *within, everywhere = scores.intervals(images, evaluation)
    summary = scores.summary(counts, everywhere, names, len(split), evaluation)
    files.write_json(scores_file, summary)
    files.write_json(trimap_file, scores.trimap_curve(counts, within))
    files.write_json(worst_file, scores.worst_images(images, names, evaluation.worst_images))
    tally.write(counts_file, images, split.classes)
    files.write_text(confusion_file, scores.confusion_table(counts, names))
    for warning in summary["warnings"]:
        print(f"{key}: warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
