"""How fast a training was, and what share of the hardware's arithmetic it used."""

import copy
import time

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pipeline.model.deeplab import DeepLab
from pipeline.training.config import Training

# A backward pass computes the gradient of the input and of the weights: two forward passes more.
_PASSES = 3
_PROBE_SIZE = {"cpu": 1024, "cuda": 8192}
_PROBE_SECONDS = 0.2


def flops_per_image(model: DeepLab, training: Training) -> int:
    """Floating-point operations of one training crop, counted on the network's shapes."""
    shapes = copy.deepcopy(model).to("meta").eval()
    side = training.crop_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(torch.zeros(1, 3, side, side, device="meta"))
    return _PASSES * int(counter.get_total_flops())


def peak_flops(device: torch.device, training: Training) -> float:
    """Floating-point operations a second that a large matrix product reaches on this device."""
    dtype = torch.bfloat16 if training.precision == "bfloat16" else torch.float32
    size = _PROBE_SIZE[device.type]
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    products, start = 0, 0.0
    while products < 2 or time.perf_counter() - start < _PROBE_SECONDS:
        if products == 1:  # the first one warms up
            start = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        products += 1
    return 2.0 * size**3 * (products - 1) / (time.perf_counter() - start)


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
        f"{share:.0%} of what a matrix product reaches on {devices} x {device.type}"
    )
