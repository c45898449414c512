"""The label map of one picture of any size.

A picture is padded with the mean pixel: to the strategy's nominal size, as `predict` pads, or along
a side that is longer than that to the next length that the network takes at all of its scales,
k * output_stride + 1. Memory grows with its pixels: one that is larger than the limit is shrunk for
the network, and its label map enlarged again to the picture's own size.
"""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.images import normalise
from pipeline.inference import predict
from pipeline.inference.config import Inference, exact
from pipeline.label_map import LabelMap
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab


def label(
    model: DeepLab,
    network: Network,
    image: NDArray[np.uint8],
    inference: Inference,
    *,
    max_side: int,
    device: torch.device,
) -> LabelMap:
    """Predicts the label map of a picture.

    Args:
        model: from `predict.prepared`, built at inference.output_stride.
        network: its description.
        image: (H, W, 3) uint8 RGB.
        inference: the strategy; its nominal size is the least that the network is given.
        max_side: of the longer side of what the network is given, pixels.
        device: where to compute.

    Returns:
        (H, W) classes.
    """
    height, width = image.shape[:2]
    shrunk = _shrunk(image, max_side)
    rows, columns = shrunk.shape[:2]
    unit = step(inference)
    padded_height = max(inference.height, _fitting(rows, unit))
    padded_width = max(inference.width, _fitting(columns, unit))
    padded = np.zeros((1, padded_height, padded_width, 3), np.uint8)
    padded[0, :rows, :columns] = shrunk
    pixels = torch.from_numpy(padded).to(device)
    box = torch.tensor([[0, 0, rows, columns]], device=device)
    images = normalise(pixels, box, network.mean, network.std)
    labels = predict.predict(model, images, inference)
    found = labels[0, :rows, :columns].cpu().numpy()
    if found.shape == (height, width):
        return np.ascontiguousarray(found)
    enlarged = cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return enlarged.astype(np.uint8, copy=False)


def strategy(network: Network) -> Inference:
    """One picture at a time, at the scale it has, at the output stride of training."""
    return Inference(
        output_stride=network.output_stride,
        height=network.output_stride + 1,  # the least; a picture has its own size
        width=network.output_stride + 1,
        scales=[1.0],
        flip=False,
        batch_size=1,
        precision="float32",
    )


def step(inference: Inference) -> int:
    """The least u such that a side of k * u + 1 is k' * output_stride + 1 at every scale."""
    return inference.output_stride * math.lcm(
        *(exact(scale).denominator for scale in inference.scales)
    )


def _shrunk(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer <= max_side:
        return image
    size = [max(1, round(side * max_side / longer)) for side in (width, height)]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _fitting(side: int, unit: int) -> int:
    """The smallest k * unit + 1 with k >= 1 that is not less than a side."""
    return max(1, -(-(side - 1) // unit)) * unit + 1
