"""A split's label maps as a folder of PNGs; what was predicted before a program was killed is kept.

Batches are predicted whole or again, so that an interruption changes no bit.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from pipeline import files, label_map, scratch
from pipeline.classes import Classes
from pipeline.inference import predict
from pipeline.inference.config import Inference
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.splits import Split

# Sources that a label map and its file depend on.
_CODE = (
    "pipeline/classes.py",
    "pipeline/data",
    "pipeline/devices.py",
    "pipeline/inference",
    "pipeline/label_folder.py",
    "pipeline/label_map.py",
    "pipeline/model",
    "pipeline/parallel.py",
    "pipeline/pixels.py",
    "pipeline/splits.py",
)


@contextlib.contextmanager
def kept(
    name: str, inference: Inference, checkpoint: Path, data: Path, device: torch.device
) -> Iterator[Path]:
    """Yields the folder of what was predicted; it goes when the block succeeds, and else stays.

    Where another process predicts the same at this moment, nothing is kept.

    Args:
        name: of the work, as "predict-" and the key of the row.
        inference: the strategy.
        checkpoint: of the network.
        data: the split.
        device: where to compute; another one rounds otherwise.
    """
    determined_by = scratch.determinants(
        {"inference": inference}, {"checkpoint": checkpoint, "data": data}, _CODE
    )
    determined_by["device"] = device.type
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch.opened(name, determined_by, _say))
        except scratch.BusyError:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        labels = folder / "labels"
        yield labels
        shutil.rmtree(labels)


def write(
    out: Path,
    kept: Path,
    model: DeepLab,
    network: Network,
    split: Split,
    inference: Inference,
    classes: Classes,
    *,
    name: str,
    device: torch.device,
) -> None:
    """Writes label maps as palette PNGs, <image_id>.png each, and shows a progress bar.

    Args:
        out: folder, made where it is missing.
        kept: folder of those that need not be predicted again.
        model: in evaluation mode, built at inference.output_stride.
        network: its description.
        split: the images.
        inference: the strategy.
        classes: give the palette.
        name: of the row, for the bar.
        device: where to compute.

    Raises:
        ValueError: an image is larger than the nominal size, or damaged.
    """
    names = [f"{image_id}.png" for image_id in split.image_ids]
    first = _first_missing([kept / file for file in names], inference.batch_size)
    if first:
        _say(f"{name}: goes on after {first} of {len(split)} images")
    found = predict.label_maps(model, network, split, inference, device=device, first=first)
    bar = tqdm(found, initial=first, total=len(split), desc=name, unit="image")
    for image_id, label in bar:
        with files.atomic_file(kept / f"{image_id}.png") as partial:
            partial.write_bytes(label_map.encode(label, classes))
    out.mkdir(parents=True, exist_ok=True)
    for file in names:
        shutil.copyfile(kept / file, out / file)


def _first_missing(paths: list[Path], batch_size: int) -> int:
    """Where the first batch begins of which a file is missing."""
    there = next((k for k, path in enumerate(paths) if not path.exists()), len(paths))
    return len(paths) if there == len(paths) else there // batch_size * batch_size


def _say(line: str) -> None:
    print(line, file=sys.stderr)
