"""Holds an ONNX graph to `predict`: both label the same pictures, of several sizes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray

from pipeline.data.images import Image, decode_image
from pipeline.inference.config import Inference
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.pictures import labelling
from pipeline.splits import Split

_BATCH = 3
# A picture beyond the nominal size is as much longer and wider.
_LARGER = 1.25
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Comparison:
    """Pictures of one size, labelled twice.

    Attributes:
        num_images: in the batch.
        height: of them.
        width: of them.
        differing: how many pixels have another label.
    """

    num_images: int
    height: int
    width: int
    differing: int

    @property
    def share(self) -> float:
        """Of the pixels that differ, in [0, 1]."""
        return self.differing / (self.num_images * self.height * self.width)


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """Loads a graph for the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def compare(
    graph: bytes, model: DeepLab, network: Network, inference: Inference, split: Split
) -> Iterator[Comparison]:
    """Labels pictures of a split one by one and in a batch, some of them cut or mirrored larger.

    Args:
        graph: of ONNX.
        model: from `predict.prepared` for a CPU.
        network: its description.
        inference: the strategy.
        split: of the pictures, its first ones.
    """
    run = session(graph).run
    for batch in _batches(split, inference):
        (found,) = run(["label"], {"image": batch})
        expected = np.stack([_label(model, network, inference, image) for image in batch])
        num_images, height, width, _ = batch.shape
        yield Comparison(num_images, height, width, int((found != expected).sum()))


def _label(
    model: DeepLab, network: Network, inference: Inference, image: Image
) -> NDArray[np.uint8]:
    side = max(image.shape[:2])  # nothing is shrunk
    cpu = torch.device("cpu")
    return labelling.label(model, network, image, inference, max_side=side, device=cpu)


def _batches(split: Split, inference: Inference) -> Iterator[NDArray[np.uint8]]:
    """Arrays (N, H, W, 3): a picture whole, cut, and larger than nominal; then three in one."""
    images = [decode_image(split[index % len(split)]) for index in range(_BATCH)]
    first = images[0]
    height, width = first.shape[:2]
    yield first[None]
    yield first[None, : height // 2 + 1, : max(1, width // 3)]
    wanted = [int(side * _LARGER) for side in (inference.height, inference.width)]
    more = [max(0, side - there) for side, there in zip(wanted, (height, width), strict=True)]
    yield np.pad(first, ((0, more[0]), (0, more[1]), (0, 0)), mode="symmetric")[None]
    least = [min(image.shape[axis] for image in images) for axis in (0, 1)]
    yield np.stack([image[: least[0], : least[1]] for image in images])
