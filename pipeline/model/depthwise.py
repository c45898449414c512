"""Depthwise convolutions on a CPU that torch computes slowly there or, in bfloat16, wrongly.

Atrous: in bfloat16 the gradient that torch 2.15 (oneDNN 3.13) gives for the weights of an atrous
convolution of several groups is what was in memory before, 1e25 or NaN, where maps are some 30
pixels wide, as they are at a crop of 513. All else is right, but slow where the padding is wider
than the 6 pixels that the vectorised kernel computes at a time: torch then needs 33 ms on one core
where this module needs 4 (2048 channels, 33 x 33, rate 12), and 3 to 38 times as long for gradients
(rates 12, 24 and 36).

Up to that padding torch computes results and gradients of maps, and only the gradient of weights is
ours. Beyond it all is ours: every tap of the kernel is one multiplication of the whole map, moved
by the rate; one that is moved out of the map costs nothing. Our sums are in float32, or in float64
for float64 maps.

Strided: in bfloat16 torch computes the gradient of the maps with an unvectorised kernel. Here it is
computed as a stride-1 convolution, which is vectorised, of the gradient with zeros in between.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

# Up to this padding torch's own convolution is fast, and right.
_MAX_FAST_PADDING = 6


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, atrous or of a stride, whose padding is half its kernel."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # as nn.Conv2d has it
        """(N, C, h, w) -> (N, C, h', w') of the same dtype, or of autocast's.

        h' is h over the stride, rounded up.
        """
        if torch.is_autocast_enabled("cpu"):
            input = input.to(torch.get_autocast_dtype("cpu"))  # noqa: A001
        result: torch.Tensor = _Depthwise.apply(
            input, self.weight, self.bias, self.stride, self.dilation
        )
        return result


def replace(model: nn.Module) -> None:
    """Puts `DepthwiseConv2d` in place of what computes the same.

    Parameters stay the objects that they are; hooks of what is replaced are lost.

    Args:
        model: on the CPU.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and _is_replaceable(child):
                setattr(parent, name, _replacement(child))


def require_right_gradients(model: nn.Module) -> None:
    """Raises a ValueError if a convolution is left whose gradient in bfloat16 would be wrong."""
    for name, module in model.named_modules():
        is_left = isinstance(module, nn.Conv2d) and not isinstance(module, DepthwiseConv2d)
        if is_left and module.groups > 1 and max(module.dilation) > 1:
            raise ValueError(
                f"training.precision: bfloat16 on a CPU gives wrong gradients of {name}, an atrous "
                f"convolution of {module.groups} groups; set float32"
            )


def _is_replaceable(convolution: nn.Conv2d) -> bool:
    return (
        convolution.groups == convolution.in_channels == convolution.out_channels
        and (max(convolution.stride) > 1) != (max(convolution.dilation) > 1)
        and all(side % 2 for side in convolution.kernel_size)
        and convolution.padding_mode == "zeros"
        and convolution.padding == _padding(convolution.kernel_size, convolution.dilation)
    )


def _replacement(convolution: nn.Conv2d) -> DepthwiseConv2d:
    with torch.device("meta"):  # its own weights are never drawn
        replacement = DepthwiseConv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            stride=convolution.stride,  # type: ignore[arg-type]
            padding=convolution.padding,  # type: ignore[arg-type]
            dilation=convolution.dilation,  # type: ignore[arg-type]
            groups=convolution.groups,
            bias=convolution.bias is not None,
        )
    replacement.weight, replacement.bias = convolution.weight, convolution.bias
    return replacement.train(convolution.training)


class _Depthwise(torch.autograd.Function):
    """Maps (N, C, h, w), weight (C, 1, k, k), bias (C,) or None, strides, rates -> maps."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        strides: tuple[int, int],
        rates: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.strides, ctx.rates = strides, rates
        return _convolved(maps, weight, bias, strides, rates)

    @staticmethod
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None, None]:
        maps, weight = ctx.saved_tensors
        of_maps = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:  # the same, seen from the other side
            spread = _spread(gradient, maps, ctx.strides)
            of_maps = _convolved(spread, weight.flip(2, 3), None, (1, 1), ctx.rates)
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_weight(maps, weight, gradient, ctx.strides, ctx.rates)
        if ctx.needs_input_grad[2]:
            of_bias = _wide(gradient).sum((0, 2, 3))
        return of_maps, of_weight, of_bias, None, None


def _spread(gradient: torch.Tensor, maps: torch.Tensor, strides: tuple[int, int]) -> torch.Tensor:
    """(N, C, h, w) as the maps: the gradient where the kernel stood, zeros in between."""
    if max(strides) == 1:
        return gradient
    spread = torch.zeros_like(maps)
    spread[:, :, :: strides[0], :: strides[1]] = gradient
    return spread


def _convolved(
    maps: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    strides: tuple[int, int],
    rates: tuple[int, int],
) -> torch.Tensor:
    padding = _padding(weight.shape[2:], rates)
    if max(strides) > 1 or max(padding) <= _MAX_FAST_PADDING:
        weight, bias = weight.to(maps.dtype), None if bias is None else bias.to(maps.dtype)
        return F.conv2d(maps, weight, bias, strides, padding, rates, groups=maps.shape[1])
    wide = _wide(maps)
    kernel = _wide(weight)[:, 0].permute(1, 2, 0).contiguous()[..., None, None]  # (k, k, C, 1, 1)
    middle = (weight.shape[2] // 2, weight.shape[3] // 2)
    if bias is None:
        total = wide * kernel[middle]
    else:
        total = torch.addcmul(_wide(bias)[:, None, None], wide, kernel[middle])
    for tap, there, here in _taps(weight, rates, wide, total):
        if tap != middle:
            here.addcmul_(there, kernel[tap])
    return total.to(maps.dtype)


def _gradient_of_weight(
    maps: torch.Tensor,
    weight: torch.Tensor,
    gradient: torch.Tensor,
    strides: tuple[int, int],
    rates: tuple[int, int],
) -> torch.Tensor:
    if max(strides) > 1:
        padding, groups = _padding(weight.shape[2:], rates), maps.shape[1]
        gradient_of_torch: torch.Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            maps, weight.shape, gradient, strides, padding, rates, groups
        )
        return gradient_of_torch.to(weight.dtype)
    of_weight = torch.zeros_like(weight)
    of_taps = of_weight[:, 0].permute(1, 2, 0)
    for tap, there, here in _taps(weight, rates, _wide(maps), _wide(gradient)):
        of_taps[tap] = (there * here).sum((0, 2, 3))
    return of_weight


def _taps(
    weight: torch.Tensor, rates: tuple[int, int], taken: torch.Tensor, given: torch.Tensor
) -> Iterator[tuple[tuple[int, int], torch.Tensor, torch.Tensor]]:
    """Of each tap that reaches into the map: where it stands, what it takes, where that goes."""
    height, width = taken.shape[2:]
    rows, columns = weight.shape[2:]
    for row, column in itertools.product(range(rows), range(columns)):
        down, right = rates[0] * (row - rows // 2), rates[1] * (column - columns // 2)
        if abs(down) < height and abs(right) < width:
            yield (row, column), _moved(taken, down, right), _moved(given, -down, -right)


def _moved(maps: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The part of the maps that is still inside where they are looked at (down, right) further."""
    height, width = maps.shape[2:]
    rows = slice(max(0, down), height + min(0, down))
    columns = slice(max(0, right), width + min(0, right))
    return maps[:, :, rows, columns]


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _padding(sides: tuple[int, ...], rates: tuple[int, ...]) -> tuple[int, ...]:
    """The padding that keeps a map's size where the stride is 1."""
    return tuple(rate * (side // 2) for side, rate in zip(sides, rates, strict=True))
