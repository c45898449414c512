"""Counts the multiply-adds of a network, the cost column of Tables 3 and 5.

What runs is counted, on torch's meta device, which has shapes and no numbers: a network that is
built otherwise than the authors' costs otherwise. The printed figures come from TensorFlow's
profiler (float operations / 2), which counts more than multiply-adds:

- A convolution of atrous rate r is computed by `space_to_batch`, which pads the feature map to
  multiples of r: 33 x 33 counts as 36 x 36 at the rates 6, 12 and 18.
- Half an operation for each element of a residual sum or a bias, and for each input of a pooling
  window.
- 2.5 operations for each parameter of a convolution, once: its initialiser and its weight decay are
  part of the graph. The paper shows that there is such a constant: a row with flip costs less than
  twice the row without, by 0.14 to 0.15 billion in all seven pairs.

Source: Tables 3 and 5, which this reproduces to 0.03 billion; tensorflow/python/ops, nn_ops.py
`with_space_to_batch`; tensorflow/python/profiler/internal, flops_registry.py.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pipeline.inference.config import Inference, scaled_side
from pipeline.model import deeplab
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab

_aten = torch.ops.aten

_OPERATIONS_PER_ELEMENT = 0.5
_OPERATIONS_PER_PARAMETER = 2.5


@dataclass(frozen=True)
class Cost:
    """What a row of a table costs.

    Attributes:
        multiply_adds: of its convolutions and matrix products, over all scales and flips.
        authors_multiply_adds: the same as the authors count, what the tables print.
        parameters: trainable ones of the network, batch normalisation included.
    """

    multiply_adds: int
    authors_multiply_adds: float
    parameters: int


@dataclass(frozen=True)
class Operations:
    """What one forward pass runs.

    Attributes:
        multiply_adds: of convolutions and matrix products.
        padded_multiply_adds: the same, atrous convolutions on maps padded by space_to_batch.
        elements: summed by residual sums and biases, or looked at by pooling windows.
    """

    multiply_adds: int
    padded_multiply_adds: int
    elements: int


def of_row(network: Network, inference: Inference, num_classes: int) -> Cost:
    """The cost of one image under an inference strategy.

    Resizes, softmax and the mean over scales are free, in the paper too.

    Args:
        network: its description.
        inference: gives output_stride, nominal size, scales and flip.
        num_classes: K, background included.

    Raises:
        ValueError: the network cannot be built at that output_stride.
    """
    description = network.model_dump_json()
    built = (description, num_classes, inference.output_stride)
    passes = [
        _operations(
            *built, *(scaled_side(side, scale) for side in (inference.height, inference.width))
        )
        for scale in inference.scales
        for _ in range(2 if inference.flip else 1)
    ]
    model = _build(*built)
    return Cost(
        multiply_adds=sum(one.multiply_adds for one in passes),
        authors_multiply_adds=sum(
            one.padded_multiply_adds + _OPERATIONS_PER_ELEMENT * one.elements for one in passes
        )
        + _OPERATIONS_PER_PARAMETER * _convolution_parameters(model),
        parameters=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
    )


def count(function: Callable[[torch.Tensor], object], shape: Sequence[int]) -> Operations:
    """Counts what a function runs on an input of that shape.

    Args:
        function: of one tensor; a module's weights must be on the meta device.
        shape: (N, C, H, W).
    """
    with _plain_operators(), _Counter() as counter, torch.no_grad():
        function(torch.empty(*shape, device="meta"))
    return Operations(counter.multiply_adds, counter.padded_multiply_adds, counter.elements)


@contextlib.contextmanager
def _plain_operators() -> Iterator[None]:
    """Switches deterministic algorithms off: they would make a resize of sums of feature maps."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


# The rows of a preset are few networks at few sizes, each under many names.
@lru_cache(maxsize=64)
def _build(description: str, num_classes: int, output_stride: int) -> DeepLab:
    network = Network.model_validate_json(description)
    with torch.device("meta"):
        model = deeplab.build(network, num_classes=num_classes, output_stride=output_stride, seed=0)
    return model.eval()


@lru_cache(maxsize=1024)
def _operations(
    description: str, num_classes: int, output_stride: int, height: int, width: int
) -> Operations:
    model = _build(description, num_classes, output_stride)
    return count(model.coarse_logits, (1, 3, height, width))


def _convolution_parameters(model: nn.Module) -> int:
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return sum(
        weight.numel()
        for convolution in convolutions
        for weight in convolution.parameters(recurse=False)
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees each operator that reaches the device, whatever module or function calls it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiply_adds = 0
        self.padded_multiply_adds = 0
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: Any,  # an operator; torch has no type for it
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        operator = func.overloadpacket
        if operator is _aten.native_batch_norm:  # free, and half the time if it ran in shapes
            return torch.empty_like(args[0]), *args[3:5]
        output = func(*args, **(kwargs or {}))
        if operator is _aten.convolution:
            self._convolution(output, *args[:6])
        elif operator in flop_registry:  # a backbone of another kind: matrix products, attention
            operations = flop_registry[operator](*args, **(kwargs or {}), out_val=output)
            self.multiply_adds += operations // 2
            self.padded_multiply_adds += operations // 2
        elif operator in (_aten.add, _aten.add_):
            self.elements += _residual(*args[:2])
        elif operator is _aten.max_pool2d_with_indices:
            self.elements += output[0].numel() * _window(args[1])
        elif operator is _aten.avg_pool2d:
            self.elements += output.numel() * _window(args[1])
        elif operator is _aten.mean and args[0].dim() == 4:  # image pooling: one window, the map
            self.elements += args[0].numel()
        return output

    def _convolution(
        self,
        output: torch.Tensor,
        maps: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
    ) -> None:
        multiply_adds = output.numel() * weight[0].numel()  # of (C_out, C_in / groups, k, k)
        height, width = output.shape[2:]
        rates = [
            rate if size > 1 else 1 for rate, size in zip(dilation, weight.shape[2:], strict=True)
        ]
        padded = _multiple(height, rates[0]) * _multiple(width, rates[1])
        self.multiply_adds += multiply_adds
        self.padded_multiply_adds += multiply_adds // (height * width) * padded
        if bias is not None:
            self.elements += output.numel()


def _residual(maps: Any, others: Any) -> int:
    """Elements of the sum of two feature maps; none where a number or a vector is added."""
    are_maps = isinstance(others, torch.Tensor) and maps.shape == others.shape and maps.dim() == 4
    return maps.numel() if are_maps else 0


def _window(sides: Sequence[int]) -> int:
    """Area of a pooling window of sides (k, k), or (k,) where they are equal."""
    return math.prod(sides) if len(sides) == 2 else sides[0] ** 2


def _multiple(side: int, rate: int) -> int:
    """The side, padded to the next multiple of an atrous rate."""
    return math.ceil(side / rate) * rate
