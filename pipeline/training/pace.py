"""How long a training computed, and on what: told in the report, and part of no result."""

import platform
from typing import TypedDict

import torch

from pipeline.training.config import Training


class Pace(TypedDict):
    """What a training took.

    Attributes:
        seconds: of training and validation, over all its interruptions; not what was lost by them.
        iterations: in these seconds.
        images_per_second: over all of it, validation included.
        device: name of the GPU, or of the processor with the number of threads.
        num_devices: how many there were when it ended.
        torch: version.
    """

    seconds: float
    iterations: int
    images_per_second: float
    device: str
    num_devices: int
    torch: str


def summarise(
    training: Training, *, seconds: float, device: torch.device, num_devices: int
) -> Pace:
    """Sums up a training that took so many seconds to its last iteration."""
    iterations = training.max_iterations
    return Pace(
        seconds=round(seconds, 3),
        iterations=iterations,
        images_per_second=round(iterations * training.batch_size / seconds, 3),
        device=_name(device),
        num_devices=num_devices,
        torch=str(torch.__version__),
    )


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
