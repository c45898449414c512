"""Label maps of your own pictures, by any checkpoint that was trained here.

    make predict CHECKPOINT=checkpoints/v3plus.safetensors IMAGES=holiday OUT=holiday-labels
    python -m pipeline.pictures CHECKPOINT IMAGES OUT MAX_SIDE params.yaml ROW

The strategy is that of a row of params.yaml; with an empty ROW it is the picture at its own scale
and the output stride of training. For each picture in the folder IMAGES, and in the folders in it,
OUT/labels has a palette PNG of the picture's size, and OUT/overlays the picture with the classes
drawn over it. A picture whose longer side has more than MAX_SIDE pixels is shrunk for the network.
Pictures that cannot be read are named at the end; the others are done all the same.
"""

import sys
from pathlib import Path

from tqdm import tqdm

from pipeline import command, devices, files, label_map, params
from pipeline.inference import predict
from pipeline.inference.config import Inference
from pipeline.model import checkpoints
from pipeline.parallel import map_ahead
from pipeline.pictures import labelling, overlay, reading

_PICTURES_AHEAD = 2
_MIN_SIDE = 33


def main(
    checkpoint: Path, images: Path, out: Path, max_side: int, params_file: Path, row: str
) -> None:
    """Reads a checkpoint and a folder of pictures, writes two folders; each file whole or not."""
    if max_side < _MIN_SIDE:
        raise ValueError(f"MAX_SIDE: {max_side} is less than {_MIN_SIDE} pixels")
    found, others = reading.find(images)
    for folder in {images, *(picture.parent for picture in found)}:
        if out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{out}: is in {folder}, where the next run would take it for pictures"
            )
    chosen = params.load(params_file, f"rows.{row}.inference", Inference) if row else None
    output_stride = chosen.output_stride if chosen else None
    model, network, classes = checkpoints.load(checkpoint, output_stride=output_stride)
    device = devices.default()
    strategy = chosen or labelling.strategy(network)
    ready = predict.prepared(model, strategy, device)
    mistakes = []
    pictures = map_ahead(reading.read, found, _PICTURES_AHEAD)
    for picture in tqdm(pictures, desc=images.name, total=len(found), unit=" pictures"):
        if picture.image is None:
            mistakes.append(f"{picture.file}: {picture.mistake}")
            continue
        label = labelling.label(
            ready, network, picture.image, strategy, max_side=max_side, device=device
        )
        # With its suffix: a.jpg and a.png may both be there.
        name = f"{picture.file.relative_to(images)}.png"
        with files.atomic_file(out / "labels" / name) as partial:
            partial.write_bytes(label_map.encode(label, classes))
        with files.atomic_file(out / "overlays" / name) as partial:
            overlay.draw(picture.image, label, classes).save(partial, "PNG", compress_level=1)
    if others:
        named = ", ".join(path.name for path in others[:3]) + ", ..." * (len(others) > 3)
        print(f"{len(others)} files are no pictures by their names: {named}", file=sys.stderr)
    if mistakes:
        lines = [f"{len(mistakes)} of {len(found)} pictures could not be read", *mistakes]
        raise ValueError("\n".join(lines))
    print(f"{len(found)} pictures: {out / 'labels'}, {out / 'overlays'}")


if __name__ == "__main__":
    command.run(main)
