"""The convolution that ASPP and decoder are made of, and their upsampling."""

import torch
from torch import nn
from torch.nn import functional as F


class ConvBnRelu(nn.Module):
    """k x k convolution without bias, batch normalisation, ReLU; size is kept."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        atrous_rate: int,
        groups: int,
    ) -> None:
        """`atrous_rate` is the spacing of the kernel's taps, 1 for an ordinary convolution."""
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=atrous_rate * (kernel_size // 2),
            dilation=atrous_rate,
            groups=groups,
            bias=False,
        )
        self.batch_norm = nn.BatchNorm2d(out_channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, h, w)."""
        return F.relu(self.batch_norm(self.convolution(maps)), inplace=True)


class SeparableConvBnRelu(nn.Module):
    """Atrous separable 3x3 convolution (v3+ Sec. 3.2); size is kept.

    Source: tensorflow/models research/deeplab, model.py `_split_separable_conv2d`: depthwise, BN,
    ReLU, pointwise, BN, ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, *, atrous_rate: int) -> None:
        """`atrous_rate` is that of the depthwise convolution."""
        super().__init__()
        self.depthwise = ConvBnRelu(
            in_channels, in_channels, 3, atrous_rate=atrous_rate, groups=in_channels
        )
        self.pointwise = ConvBnRelu(in_channels, out_channels, 1, atrous_rate=1, groups=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, h, w)."""
        pointwise: torch.Tensor = self.pointwise(self.depthwise(maps))
        return pointwise


class Dropout(nn.Dropout):
    """Dropout whose mask is a pure function of a seed for each image, where seeds are given.

    An image then loses the same values wherever it stands in a batch, on whichever device, and
    after an interruption.

    Attributes:
        seeds: of the images of the next batch, or None to draw from torch's global state.
    """

    def __init__(self, rate: float) -> None:
        """`rate` is the probability of a value to be dropped."""
        super().__init__(rate)
        self.seeds: list[int] | None = None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        if not self.training or self.p == 0.0 or self.seeds is None:
            return super().forward(maps)
        drawn = torch.empty_like(maps, dtype=torch.float32)
        for image, seed in zip(drawn, self.seeds, strict=True):
            image.uniform_(generator=torch.Generator(maps.device).manual_seed(seed))
        return maps * (drawn >= self.p) / (1.0 - self.p)


def conv1x1(in_channels: int, out_channels: int) -> nn.Module:
    """1x1 convolution, BN, ReLU."""
    return ConvBnRelu(in_channels, out_channels, 1, atrous_rate=1, groups=1)


def conv3x3(in_channels: int, out_channels: int, *, atrous_rate: int, separable: bool) -> nn.Module:
    """3x3 atrous convolution, BN, ReLU, dense or depthwise separable."""
    if separable:
        return SeparableConvBnRelu(in_channels, out_channels, atrous_rate=atrous_rate)
    return ConvBnRelu(in_channels, out_channels, 3, atrous_rate=atrous_rate, groups=1)


def resize(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear resize of (N, C, h, w) with aligned corners, as everywhere in the authors' code."""
    if maps.shape[2:] == (height, width):
        return maps
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=True)


def initialise(head: nn.Module) -> None:
    """Draws the initial weights of ASPP, decoder and logits layer.

    Source: tensorflow/models research/deeplab, model.py: truncated normal of 0.33 for depthwise,
    0.06 for the pointwise kernel after it and 0.01 for logits; slim's default, Xavier, elsewhere.
    """
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        if convolution.bias is None:
            nn.init.xavier_uniform_(convolution.weight)
        else:
            _truncated_normal(convolution.weight, 0.01)
            nn.init.zeros_(convolution.bias)
    for module in head.modules():
        if isinstance(module, SeparableConvBnRelu):
            _truncated_normal(module.depthwise.convolution.weight, 0.33)
            _truncated_normal(module.pointwise.convolution.weight, 0.06)


def _truncated_normal(weight: torch.Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)  # TensorFlow cuts at 2 sigma
