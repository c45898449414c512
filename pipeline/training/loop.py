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
from pipeline.training.config import Training, part_mistake
from pipeline.training.interruption import Requested
from pipeline.training.keeper import Keeper
from pipeline.training.team import Team, accumulating

# Reading a loss waits for the device. A CPU has nothing to wait for; a GPU should not each time.
_ITERATIONS_PER_READ = {"cpu": 1, "cuda": 20}

# One iteration's numbers: iteration, loss, learning rate.
Log = Callable[[int, float, float], None]
# Is given the network after so many updates; may leave it in evaluation mode.
Validate = Callable[[DeepLab, int], None]


class EndedEarlyError(SystemExit):
    """The training was asked to end, and has kept its state. As the shell has it, 128 + signal."""

    def __init__(self, number: int) -> None:
        """`number` is the signal's."""
        super().__init__(128 + number)


def train(
    model: DeepLab,
    network: Network,
    training: Training,
    split: Split,
    *,
    class_weights: Sequence[float] | None,
    team: Team,
    keeper: Keeper,
    interruption: Requested,
    log: Log,
    validate: Validate,
    validate_every: int,
) -> DeepLab:
    """Trains a network on this process's device, together with the team's others.

    Args:
        model: filled with its start weights.
        network: its description; gives mean and std of the images.
        training: the recipe.
        split: the images.
        class_weights: see `class_weights.resolve`.
        team: who trains. On a CPU equal inputs give equal bits for a given number of threads.
        keeper: knows where to go on, and is given the state every so often.
        interruption: says whether to end early.
        log: called once for every iteration, in order.
        validate: called every so many iterations and after the last.
        validate_every: so many; 0 is never.

    Returns:
        The trained network.

    Raises:
        ArithmeticError: the loss or a weight is not finite; the last state kept is from before.
        EndedEarlyError: as asked for.
        ValueError: a damaged image, or a network that this device cannot train in bfloat16.
        TimeoutError: an image cannot be read.
    """
    # ---- network, optimiser, data
    if mistake := part_mistake(network, training, num_devices=team.size):
        raise ValueError(mistake)
    device = team.device
    configure_torch(device)
    model = recipe.prepare(model, training, device)
    optimiser = recipe.build_optimiser(model, training)
    first_iteration = keeper.restore(model, optimiser)
    parallel = team.parallel(model)
    positions = team.share(training.batch_size)
    part_size = len(positions) // training.accumulation_steps
    parts = [slice(start, start + part_size) for start in range(0, len(positions), part_size)]
    iterations = range(first_iteration, training.max_iterations)
    stream = batches.training_batches(
        split,
        iterations=iterations,
        positions=positions,
        seed=training.seed,
        batch_size=training.batch_size,
        crop_size=training.crop_size,
        scales=training.scales,
        flip_probability=training.flip_probability,
    )
    ignore_index = split.classes.ignore_index
    weights = None if class_weights is None else torch.tensor(class_weights, device=device)
    unread: list[tuple[int, torch.Tensor, float]] = []
    for iteration, batch in zip(iterations, stream, strict=True):
        # ---- a single training step
        rate = recipe.learning_rate(iteration, training)
        recipe.set_learning_rate(optimiser, rate)
        images = normalise(
            batch.images.to(device, non_blocking=True),
            batch.boxes.to(device, non_blocking=True),
            network.mean,
            network.std,
        )
        labels = batch.labels.to(device, non_blocking=True).long()  # an eighth travels
        total_weight = team.sum(recipe.total_weight(labels, ignore_index, weights))
        loss = torch.zeros((), device=device)
        for part in parts:
            recipe.set_dropout(model, training, iteration, positions[part])
            with accumulating(parallel, is_last=part is parts[-1]):
                with torch.autocast(device.type, torch.bfloat16, training.precision == "bfloat16"):
                    logits = parallel(images[part])
                part_loss = recipe.cross_entropy(
                    logits, labels[part], ignore_index, weights, total_weight
                )
                # The team's gradients are averaged, where they should be added up.
                (part_loss * team.size).backward()  # type: ignore[no-untyped-call]
                loss += part_loss.detach()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

        # ---- once in a while: read the losses, stop when one is not finite
        num_done = iteration + 1
        unread.append((iteration, loss, rate))
        is_last = num_done == training.max_iterations
        is_validated = validate_every > 0 and (num_done % validate_every == 0 or is_last)
        if len(unread) < _ITERATIONS_PER_READ[device.type] and not (is_last or is_validated):
            continue
        losses = team.sum(torch.stack([loss for _, loss, _ in unread])).tolist()
        for (read_iteration, _, read_rate), value in zip(unread, losses, strict=True):
            if not math.isfinite(value):
                raise ArithmeticError(
                    _not_finite(f"the loss is {value}", read_iteration, read_rate, training, split)
                )
            log(read_iteration, value, read_rate)
        unread = []
        if is_validated:
            validate(model, num_done)
            recipe.set_mode(model, training)

        # ---- keep the state, now and then and before an end
        asked = team.maximum(interruption())
        if keeper.is_due or is_last or asked:
            if not recipe.is_finite(model):
                raise ArithmeticError(
                    _not_finite("a weight is not finite", iteration, rate, training, split)
                )
            keeper.save(num_done, model, optimiser)
        if asked and not is_last:
            keeper.say_ended_early(num_done)
            raise EndedEarlyError(asked)

    # ---- a training that was finished before, and is validated on what it was not then
    is_finished = not iterations and validate_every > 0
    if is_finished and team.maximum(int(keeper.lacks_validation(first_iteration))):
        validate(model, first_iteration)
    return model


def configure_torch(device: torch.device) -> None:
    """Sets what torch has but one of in a process, for a training on a device."""
    if device.type == "cpu":
        memory.keep_freed_pages()
    torch.use_deterministic_algorithms(device.type == "cpu")
    # Deterministic without it: nothing here reads what it has not written. 3 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = True  # crops are of one size


def _not_finite(what: str, iteration: int, rate: float, training: Training, split: Split) -> str:
    image_ids = batches.image_ids(
        split, iteration, seed=training.seed, batch_size=training.batch_size
    )
    return (
        f"{what} at iteration {iteration}: the learning rate {rate:g} is probably too "
        f"high for this network and data; the batch was {', '.join(image_ids)}"
    )
