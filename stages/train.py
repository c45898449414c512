"""Trains one network from its start weights on one split (Sec. 4).

Runs on as many GPUs as the batch can be split over, and on the CPU where there is none. The history
has one line of JSON for each iteration, the first with the class weights if there are any, and one
for each validation. Checkpoint and history are the same bytes for the same inputs on a CPU, however
often the training was interrupted. (Where another validation split or size was set meanwhile, the
history has no validations from before.) The pace tells how long it took; no result is computed from
it.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from pipeline import command, files, params, scratch
from pipeline.data.images import decode_label
from pipeline.model import checkpoints, deeplab
from pipeline.model.config import Network
from pipeline.splits import Split
from pipeline.tracking import live
from pipeline.training import (
    class_weights,
    interruption,
    launch,
    loop,
    pace,
    team,
    validation,
)
from pipeline.training.config import Training, Validation, size_mistakes
from pipeline.training.keeper import Keeper
from pipeline.training.progress import Progress

# Sources that a checkpoint's bytes depend on.
_CODE = (
    "pipeline/classes.py",
    "pipeline/data",
    "pipeline/devices.py",
    "pipeline/label_map.py",
    "pipeline/model",
    "pipeline/parallel.py",
    "pipeline/pixels.py",
    "pipeline/splits.py",
    "pipeline/training",
    "stages/train.py",
)


def main(
    key: str,
    params_file: Path,
    data: Path,
    start: Path,
    validation_data: Path,
    checkpoint: Path,
    history: Path,
    pace_file: Path,
) -> None:
    """Reads two splits and one file of weights, writes a checkpoint, its history and its pace."""
    network = params.load(params_file, f"models.{key}.network", Network)
    training = params.load(params_file, f"models.{key}.training", Training)
    watching = params.load(params_file, f"models.{key}.validation", Validation)
    if mistakes := size_mistakes(network, training, watching):
        raise ValueError("\n".join(f"{params_file}: models.{key}.{m}" for m in mistakes))
    if (processes := launch.num_processes(network, training)) > 1:
        launch.run("stages.train", sys.argv[1:], processes)
        return
    split, watched = Split(data), Split(validation_data)
    watched.classes.require_equal(split.classes, str(validation_data), str(data))
    if watching.every_iterations:
        watched.require_within(watching.height, watching.width)
    model = deeplab.build(
        network,
        num_classes=split.classes.num_classes,
        output_stride=network.output_stride,
        seed=training.seed,
    )
    checkpoints.start(model, start, network.backbone, split.classes)
    weights = class_weights.resolve(training, split.classes, map(decode_label, split))
    with ExitStack() as stack:
        interrupted = stack.enter_context(interruption.awaited())
        us = stack.enter_context(team.joined())
        progress = stack.enter_context(Progress(key, training, us))
        keeper, show = Keeper(us, None, progress.say), live.show_nothing
        if us.is_leader:
            determined_by = scratch.determinants(
                {"network": network, "training": training}, {"data": data, "start": start}, _CODE
            )
            folder = stack.enter_context(scratch.opened(key, determined_by, progress.say))
            keeper = Keeper(us, folder, progress.say)
            keeper.validate_on(
                [files.digest(validation_data, "sha256"), watching.height, watching.width]
            )
            show = stack.enter_context(
                live.live_run(params_file, key, folder, checkpoint=checkpoint, history=history)
            )

        def log(iteration: int, loss: float, learning_rate: float) -> None:
            numbers = {"loss": loss, "learning_rate": learning_rate}
            numbers |= class_weights.named(weights, split.classes) if iteration == 0 else {}
            keeper.record({"iteration": iteration, **numbers})
            show(iteration, {f"train/{name}": number for name, number in numbers.items()})
            progress.update(iteration, loss, learning_rate)

        def validate(trained: deeplab.DeepLab, iteration: int) -> None:
            panels = keeper.panels(iteration)
            miou = validation.miou(
                trained, network, training, watched, watching, team=us, panels=panels
            )
            keeper.record_validation(iteration, miou)
            show(iteration, {"val/miou": miou, "best/miou": keeper.best_miou()}, panels)
            progress.say(f"mIoU {100 * miou:.2f} on {validation_data} after {iteration} iterations")

        model = loop.train(
            model,
            network,
            training,
            split,
            class_weights=weights,
            team=us,
            keeper=keeper,
            interruption=interrupted,
            log=log,
            validate=validate,
            validate_every=watching.every_iterations,
        )
        if us.is_leader:
            checkpoints.save(checkpoint, model, network, split.classes)
            summary = pace.summarise(training, keeper.seconds, keeper.computed_on)
            files.write_json(pace_file, summary)
            keeper.hand_over(history)
        progress.finish(model)


if __name__ == "__main__":
    command.run(main)
