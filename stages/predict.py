"""Predicts a label map for each image of a split, under one row's inference strategy (Sec. 4).

Runs on a GPU when there is one. What it writes is the end of the GPU work: palette PNGs of the
images' own sizes, from which scores, figures and submissions are made.
"""

from pathlib import Path

import torch
from tqdm import tqdm

from pipeline import command, files, params
from pipeline.inference import predict
from pipeline.inference.config import Inference
from pipeline.model import checkpoints
from pipeline.splits import Split


def main(key: str, params_file: Path, checkpoint: Path, data: Path, predictions: Path) -> None:
    """Reads one checkpoint and one split, writes a folder of PNGs named by image id."""
    inference = params.load(params_file, f"rows.{key}.inference", Inference)
    split = Split(data)
    model, network, classes = checkpoints.load(checkpoint, output_stride=inference.output_stride)
    classes.require_equal(split.classes, str(checkpoint), str(data))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = predict.label_maps(model, network, split, inference, device=device)
    with files.atomic_folder(predictions) as folder:
        predict.write(folder, tqdm(labels, total=len(split), desc=key, unit="image"), classes)


if __name__ == "__main__":
    command.run(main)
