"""The training loop: one long, flat function."""

import math
from collections.abc import Callable, Sequence

import torch

from pipeline.data import batches
from pipeline.data.images import normalise
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.splits import Split
from pipeline.training import memory, recipe
from pipeline.training.config import Training

# Reading a loss waits for the device. A CPU has nothing to wait for; a GPU should not each time.
_ITERATIONS_PER_READ = {"cpu": 1, "cuda": 20}

# One iteration's numbers: iteration, loss, learning rate.
Log = Callable[[int, float, float], None]


def train(
    model: DeepLab,
    network: Network,
    training: Training,
    split: Split,
    *,
    class_weights: Sequence[float] | None,
    device: torch.device,
    log: Log,
) -> None:
    """Trains `model` in place; it ends on `device`.

    Args:
        model: filled with its start weights.
        network: its description; gives mean and std of the images.
        training: the recipe.
        split: the images.
        class_weights: by `recipe.class_weights`.
        device: where to compute. On a CPU equal inputs give equal bits for a given thread count.
        log: called once for every iteration, in order.

    Raises:
        ArithmeticError: the loss is not finite.
        ValueError: a damaged image.
    """
    # ---- network, optimiser, data
    if device.type == "cpu":
        memory.keep_freed_pages()
    torch.use_deterministic_algorithms(device.type == "cpu")
    torch.backends.cudnn.benchmark = True  # crops are of one size
    torch.manual_seed(training.seed)  # dropout
    model.to(device).train()
    optimiser = recipe.build_optimiser(model, training)
    stream = batches.training_batches(
        split,
        iterations=range(training.max_iterations),
        seed=training.seed,
        batch_size=training.batch_size,
        crop_size=training.crop_size,
        scales=training.scales,
        flip_probability=training.flip_probability,
    )
    weights = None if class_weights is None else torch.tensor(class_weights, device=device)
    unread: list[tuple[int, torch.Tensor, float]] = []
    for iteration, batch in enumerate(stream):
        # ---- a single training step
        rate = recipe.learning_rate(iteration, training)
        recipe.set_learning_rate(optimiser, rate)
        images = normalise(
            batch.images.to(device, non_blocking=True),
            batch.boxes.to(device, non_blocking=True),
            network.mean,
            network.std,
        )
        labels = batch.labels.to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, training.precision == "bfloat16"):
            logits = model(images)
        loss = recipe.cross_entropy(logits, labels, split.classes.ignore_index, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

        # ---- once in a while: read the losses, stop when one is not finite
        unread.append((iteration, loss.detach(), rate))
        is_last = iteration + 1 == training.max_iterations
        if len(unread) < _ITERATIONS_PER_READ[device.type] and not is_last:
            continue
        losses = torch.stack([loss for _, loss, _ in unread]).tolist()
        for (read_iteration, _, read_rate), value in zip(unread, losses, strict=True):
            if not math.isfinite(value):
                raise ArithmeticError(
                    f"the loss is {value} at iteration {read_iteration}: the learning rate "
                    f"{read_rate:g} is probably too high for this network and data"
                )
            log(read_iteration, value, read_rate)
        unread = []
