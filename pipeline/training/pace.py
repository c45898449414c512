"""How long a training computed, and on what: told in the report, and part of no result."""

import platform
from typing import TypedDict

import torch

from pipeline.training.config import Training


class Machine(TypedDict):
    """What a training is computed on.

    Attributes:
        device: name of the GPU, or of the processor with the number of threads.
        num_devices: how many there are.
        torch: version.
    """

    device: str
    num_devices: int
    torch: str


class Pace(Machine):
    """What a training took, and on what it came to its last iteration.

    Attributes:
        seconds: of training and validation, over all its interruptions; not what was lost by them.
        iterations: in these seconds.
        images_per_second: over all of it, validation included.
    """

    seconds: float
    iterations: int
    images_per_second: float


def machine(device: torch.device, num_devices: int) -> Machine:
    """What is computed on here."""
    return Machine(device=_name(device), num_devices=num_devices, torch=str(torch.__version__))


def summarise(training: Training, seconds: float, computed_on: Machine) -> Pace:
    """Sums up a training that took so many seconds to its last iteration."""
    iterations = training.max_iterations
    return Pace(
        seconds=round(seconds, 3),
        iterations=iterations,
        images_per_second=round(iterations * training.batch_size / seconds, 3),
        **computed_on,
    )


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
