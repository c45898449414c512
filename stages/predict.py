"""Predicts a label map for each image of a split, under one row's inference strategy (Sec. 4).

Runs on a GPU when there is one. What it writes is the end of the GPU work: palette PNGs of the
images' own sizes, from which scores, figures and submissions are made. Killed, it goes on with the
batch at which it was.
"""

from pathlib import Path

from pipeline import command, devices, files, label_folder, params
from pipeline.inference.config import Inference
from pipeline.model import checkpoints
from pipeline.splits import Split


def main(key: str, params_file: Path, checkpoint: Path, data: Path, predictions: Path) -> None:
    """Reads one checkpoint and one split, writes a folder of PNGs named by image id."""
    inference = params.load(params_file, f"rows.{key}.inference", Inference)
    split = Split(data)
    model, network, classes = checkpoints.load(checkpoint, output_stride=inference.output_stride)
    classes.require_equal(split.classes, str(checkpoint), str(data))
    device = devices.default()
    with (
        label_folder.kept(f"predict-{key}", inference, checkpoint, data, device) as kept,
        files.atomic_folder(predictions) as folder,
    ):
        label_folder.write(
            folder, kept, model, network, split, inference, classes, name=key, device=device
        )


if __name__ == "__main__":
    command.run(main)
