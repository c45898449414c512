"""Writes a row's network as an ONNX graph, and holds it to `predict`.

    make export ROW=v3plus_os16
    python -m pipeline.exporting params.yaml ROW checkpoints exports

exports/ROW.onnx takes uint8 RGB pictures (N, H, W, 3) of any size and gives their label maps
(N, H, W); normalisation and padding are in the graph. It is written when its labels are those of
`predict`, and put beside the row's run in MLflow.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from pipeline import command, files, params
from pipeline.experiment import Row
from pipeline.exporting import comparison, graph
from pipeline.inference import predict
from pipeline.model import checkpoints as trained
from pipeline.splits import Split
from pipeline.tracking import attaching

# Share of the pixels of each comparison. Two runtimes round differently, which moves the label of a
# pixel where two classes are equally likely to some six digits; a wrong graph is off by far more.
_MAX_DIFFERING = 0.001


def main(params_file: Path, row: str, checkpoints: Path, out: Path) -> None:
    """Reads a checkpoint, writes out/ROW.onnx; a row names its split from params.yaml's folder."""
    entry = params.load(params_file, f"rows.{row}", Row)
    graph.check(row, entry.inference)
    checkpoint = checkpoints / f"{entry.model}.safetensors"
    data = params_file.parent / entry.data
    for needed in (checkpoint, data):
        if not needed.is_file():
            raise ValueError(f"{needed}: not there yet; `dvc repro predict@{row}` makes it")
    inference = entry.inference.model_copy(update={"precision": "float32"})
    model, network, classes = trained.load(checkpoint, output_stride=inference.output_stride)
    ready = predict.prepared(model, inference, torch.device("cpu"))
    md5 = files.digest(checkpoint, "md5")
    facts = {
        "row": row,
        "checkpoint": checkpoint.as_posix(),
        "checkpoint.md5": md5,
        "inference": json.dumps(inference.model_dump()),
    }
    folded = predict.folded(model)
    encoded = graph.build(folded, network, inference, classes, facts).SerializeToString()
    for compared in comparison.compare(encoded, ready, network, inference, Split(data)):
        size = f"{compared.num_images} x {compared.height} x {compared.width}"
        found = f"{compared.differing} pixels ({compared.share:.4%}) differ from predict"
        print(f"{row}: {size:>15}: {found}")
        if compared.share > _MAX_DIFFERING:
            raise ValueError(
                f"{row}: {size}: {found}, at most {_MAX_DIFFERING:.1%} may; nothing is written"
            )
    file = out / f"{row}.onnx"
    with files.atomic_file(file) as partial:
        partial.write_bytes(encoded)
    print(f"{file}: {len(encoded) / 1e6:.1f} MB, ONNX opset {graph.OPSET}")
    if entry.inference.precision != "float32":
        print(f"{file}: in float32, where the row has {entry.inference.precision}")
    _attach(params_file, row, checkpoint, md5, file)


def _attach(params_file: Path, row: str, checkpoint: Path, md5: str, file: Path) -> None:
    """The file is what was asked for: a store that is away takes nothing from it."""
    experiment = params.load(params_file, "mlflow.experiment", str)
    inference = params.load(params_file, f"rows.{row}.inference", dict[str, Any])
    try:
        run_id = attaching.attach(experiment, row, inference, checkpoint.as_posix(), md5, file)
    except ConnectionError as error:
        print(f"MLflow: not logged there, {error}", file=sys.stderr)
        return
    if run_id:
        print(f"MLflow: {attaching.FOLDER}/{file.name} of run {run_id}")
    else:
        print("MLflow: not logged there, it has no run of this row and checkpoint", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
