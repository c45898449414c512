"""Predicts a split whose labels a test server alone knows, and packs what that server takes.

Table 6 and Table 7 (b). The archive is checked for what the server would refuse it for before it
gets its name; the label maps stay beside it, to be looked at.
"""

import sys
from pathlib import Path

import torch
from tqdm import tqdm

from pipeline import command, files, params
from pipeline.inference import predict
from pipeline.inference.config import Inference
from pipeline.model import checkpoints
from pipeline.splits import Split
from pipeline.submission import pack, servers


def main(key: str, params_file: Path, checkpoint: Path, data: Path, out: Path) -> None:
    """Writes a folder with results.tgz or results.zip and the label maps, by image id."""
    inference = params.load(params_file, f"submissions.{key}.inference", Inference)
    split = Split(data)
    server = servers.of_classes(split.classes, str(data))
    model, network, classes = checkpoints.load(checkpoint, output_stride=inference.output_stride)
    classes.require_equal(split.classes, str(checkpoint), str(data))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = predict.label_maps(model, network, split, inference, device=device)
    with files.atomic_folder(out) as folder:
        bar = tqdm(labels, total=len(split), desc=key, unit="image")
        predict.write(folder / "labels", bar, classes)
        pack.pack(split, folder / "labels", str(data), folder / f"results{server.suffix}")
    if warning := server.shortfall(len(split), str(data)):
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
