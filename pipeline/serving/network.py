"""A checkpoint and an inference strategy, loaded once to label many pictures."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import devices, label_map
from pipeline.classes import Classes
from pipeline.inference import predict
from pipeline.inference.config import Inference
from pipeline.label_map import LabelMap
from pipeline.model import checkpoints
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.pictures import labelling


@dataclass(frozen=True)
class Served:
    """A network, ready.

    Attributes:
        model: on its device, from `predict.prepared`.
        network: its description.
        classes: those that it distinguishes.
        inference: the strategy.
        max_side: of the longer side of what the network is given, pixels.
        device: where it computes.
    """

    model: DeepLab
    network: Network
    classes: Classes
    inference: Inference
    max_side: int
    device: torch.device


def load(checkpoint: Path, inference: Inference, *, max_side: int) -> Served:
    """Loads a checkpoint at the strategy's output stride, on a GPU when there is one.

    Raises:
        ValueError: not a checkpoint of ours, or one without a classifier.
    """
    model, network, classes = checkpoints.load(checkpoint, output_stride=inference.output_stride)
    device = devices.default()
    ready = predict.prepared(model, inference, device)
    return Served(ready, network, classes, inference, max_side, device)


def label(served: Served, image: NDArray[np.uint8]) -> LabelMap:
    """Predicts the (H, W) classes of a picture of (H, W, 3) RGB.

    Up to the strategy's nominal size this is what `predict` does. A larger picture is padded to the
    next size that fits, and one beyond max_side is shrunk for the network, as `make predict` does.
    """
    return labelling.label(
        served.model,
        served.network,
        image,
        served.inference,
        max_side=served.max_side,
        device=served.device,
    )


def png(served: Served, label: LabelMap) -> str:
    """A label map as a palette PNG in the classes' colours, in base64: some 1 % of its JSON."""
    return base64.b64encode(label_map.encode(label, served.classes)).decode("ascii")
