"""Trains one network from its start weights on one split (Sec. 4).

Runs on a GPU when there is one. The history has one line of JSON for each iteration, the first with
the class weights if there are any; both outputs are the same bytes for the same inputs on a CPU.
"""

import json
from pathlib import Path

import torch
from tqdm import tqdm

from pipeline import command, files, params
from pipeline.data.images import decode_label
from pipeline.model import checkpoints, deeplab
from pipeline.model.config import Network
from pipeline.splits import Split
from pipeline.tracking import live
from pipeline.training import loop, recipe
from pipeline.training.config import Training


def main(
    key: str, params_file: Path, data: Path, start: Path, checkpoint: Path, history: Path
) -> None:
    """Reads one split and one file of weights, writes a checkpoint and its history."""
    network = params.load(params_file, f"models.{key}.network", Network)
    training = params.load(params_file, f"models.{key}.training", Training)
    split = Split(data)
    model = deeplab.build(
        network,
        num_classes=split.classes.num_classes,
        output_stride=network.output_stride,
        seed=training.seed,
    )
    checkpoints.start(model, start, network.backbone, split.classes)
    weights = recipe.class_weights(training, split.classes, map(decode_label, split))
    shown = {} if weights is None else dict(zip(split.classes.names, weights, strict=True))
    settled = {f"class_weight/{name}": weight for name, weight in shown.items()}
    with (
        live.live_run(params_file, key, checkpoint=checkpoint, history=history) as show,
        files.atomic_file(history) as partial_history,
        partial_history.open("w", encoding="utf-8") as lines,
        tqdm(total=training.max_iterations, desc=key, unit="it", smoothing=0.05) as bar,
    ):

        def log(iteration: int, loss: float, learning_rate: float) -> None:
            record = {"loss": loss, "learning_rate": learning_rate}
            record |= settled if iteration == 0 else {}
            lines.write(json.dumps({"iteration": iteration} | record) + "\n")
            show(iteration, {f"train/{name}": value for name, value in record.items()})
            images_per_second = (bar.format_dict["rate"] or 0.0) * training.batch_size
            bar.set_postfix_str(f"loss {loss:.3f}, {images_per_second:.1f} images/s", refresh=False)
            bar.update()

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loop.train(model, network, training, split, class_weights=weights, device=device, log=log)
        checkpoints.save(checkpoint, model, network, split.classes)


if __name__ == "__main__":
    command.run(main)
