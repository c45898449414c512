"""How fast a training was, and what share of the hardware's arithmetic it used."""

import copy
import math
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pipeline.model.deeplab import DeepLab
from pipeline.training.config import Training

# A backward pass computes the gradient of the input and of the weights: two forward passes more.
PASSES_PER_STEP = 3
_PROBE_SIZE = {"cpu": 1024, "cuda": 8192}
_PROBE_SECONDS = 0.2


def flops_per_image(model: DeepLab, training: Training) -> int:
    """Floating-point operations of one training crop, counted on the network's shapes.

    Convolutions and matrix products alone: some 0.1 % are missing where a CPU trains ASPP's
    depthwise convolutions as `depthwise`.
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    side = training.crop_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(torch.zeros(1, 3, side, side, device="meta"))
    return PASSES_PER_STEP * int(counter.get_total_flops())


def peak_flops(device: torch.device, training: Training) -> float:
    """Floating-point operations a second that this device is seen to reach.

    That of a large matrix product or of a large convolution, whichever is faster here: on a CPU
    the libraries behind the two differ.
    """
    dtype = torch.bfloat16 if training.precision == "bfloat16" else torch.float32
    size = _PROBE_SIZE[device.type]
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    maps = torch.ones(8, 256, size // 16, size // 16, device=device, dtype=dtype)
    maps = maps.to(memory_format=torch.channels_last)
    kernel = torch.ones(256, 256, 3, 3, device=device, dtype=dtype)
    convolution_flops = 2.0 * 9 * 256**2 * 8 * (size // 16) ** 2
    return max(
        2.0 * size**3 / _seconds(lambda: matrix @ matrix, device),
        convolution_flops / _seconds(lambda: F.conv2d(maps, kernel, padding=1), device),
    )


def _seconds(compute: Callable[[], torch.Tensor], device: torch.device) -> float:
    """The shortest time that it takes, after a first time that warms up."""
    compute()
    shortest, end = math.inf, time.perf_counter() + _PROBE_SECONDS
    while math.isinf(shortest) or time.perf_counter() < end:
        start = time.perf_counter()
        compute()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def summary(
    model: DeepLab, training: Training, *, iterations: int, seconds: float, devices: int
) -> str:
    """One line on the speed of so many iterations that took so many seconds."""
    device = next(model.parameters()).device
    images_per_second = iterations * training.batch_size / seconds
    used = images_per_second * flops_per_image(model, training)
    share = used / (devices * peak_flops(device, training))
    return (
        f"{iterations} iterations in {tqdm.format_interval(seconds)}, "
        f"{images_per_second:.1f} images/s, "
        f"{share:.0%} of the fastest arithmetic seen on {devices} x {device.type}"
    )
