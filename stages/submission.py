"""Predicts a split whose labels a test server alone knows, and packs what that server takes.

Table 6 and Table 7 (b). The archive is checked for what the server would refuse it for before it
gets its name; the label maps stay beside it, to be looked at.
"""

import sys
from pathlib import Path

from pipeline import command, devices, files, label_folder, params
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
    device = devices.default()
    with (
        label_folder.kept(f"submission-{key}", inference, checkpoint, data, device) as kept,
        files.atomic_folder(out) as folder,
    ):
        labels = folder / "labels"
        label_folder.write(
            labels, kept, model, network, split, inference, classes, name=key, device=device
        )
        pack.pack(split, labels, str(data), folder / f"results{server.suffix}")
    if warning := server.shortfall(len(split), str(data)):
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
