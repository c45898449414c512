"""The `network` section of a model: everything that rebuilds it without its weights."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.params import Config

OutputStride = Literal[8, 16, 32]
Channels = Annotated[int, Field(ge=1)]
Rate = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]


class BatchNorm(Config):
    """Batch normalisation of one part of the network.

    Attributes:
        eps: added to the variance.
        momentum: share of the new batch in the running statistics, torch's convention
            (TensorFlow's decay 0.9997 is 0.0003 here).
    """

    eps: Annotated[float, Field(gt=0.0)]
    momentum: Annotated[float, Field(gt=0.0, le=1.0)]


class Aspp(Config):
    """Atrous spatial pyramid pooling (DeepLab v3 Sec. 3.3).

    Attributes:
        atrous_rates: of the 3x3 branches at output_stride 16, (6, 12, 18) in the paper; none in
            the authors' MobileNetV2. A branch whose rate reaches the side of the feature map
            learns its centre tap alone, so a smaller crop wants smaller rates.
        channels: of each branch and of the projection (256).
        image_pooling: whether there is an image-level branch (Table 7 has rows without).
        dropout: rate after the projection.
    """

    atrous_rates: list[Rate]
    channels: Channels
    image_pooling: bool
    dropout: Fraction

    def atrous_rates_at(self, output_stride: int) -> list[int]:
        """The rates that keep the field of view: doubled at output_stride 8, halved at 32.

        Source: v3 Sec. 3.3 for 8; at 32 halved rates are those that the published Multiply-Adds
        of Table 3 fit.

        Raises:
            ValueError: a rate is odd and would have to be halved.
        """
        if output_stride == 32 and any(rate % 2 for rate in self.atrous_rates):
            raise ValueError(
                f"aspp.atrous_rates: {self.atrous_rates} are for output_stride 16; halved, as "
                "output_stride 32 needs them, they are not whole"
            )
        return [rate * 16 // output_stride for rate in self.atrous_rates]


class Decoder(Config):
    """The decoder of Sec. 3.1.

    Attributes:
        low_level_strides: where low-level features are taken in, in this order: [4] is Conv2, and
            [8, 4] first Conv3, then Conv2 (the last row of Table 2).
        low_level_channels: of the 1x1 projection of low-level features (Table 1: 48).
        kernel_size: of the convolutions after each concatenation (Table 2: 3; 1 in one row).
        channels: of each of them (256).
        convolutions: their number (Table 2: 2).
    """

    low_level_strides: Annotated[list[Literal[4, 8]], Field(min_length=1)]
    low_level_channels: Channels
    kernel_size: Literal[1, 3]
    channels: Channels
    convolutions: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if any(coarse <= fine for coarse, fine in pairwise(self.low_level_strides)):
            raise ValueError(
                f"low_level_strides: {self.low_level_strides} must descend, from coarse to fine"
            )
        return self


class Network(Config):
    """A whole network.

    Attributes:
        backbone: a timm model name, or resnet50_beta or resnet101_beta, the authors' own.
        output_stride: input side / side of the last encoder feature map, in training.
        multi_grid: of a ResNet, what the atrous rates of its last block's units are multiplied
            with, (1, 2, 4) in the paper (v3 Sec. 3.2); null leaves the backbone as it is.
        mean: RGB mean in 0..255, subtracted; padding is exactly this colour.
        std: RGB divisor in 0..255.
        separable: depthwise separable 3x3 convolutions in ASPP and decoder (Sec. 3.2).
        aspp: the pyramid, or null for the plain encoder-decoder of Fig. 1 (b).
        decoder: the decoder, or null for DeepLab v3 with bilinear upsampling.
        backbone_batch_norm: of the backbone.
        head_batch_norm: of ASPP and decoder.
    """

    backbone: Annotated[str, Field(min_length=1)]
    output_stride: OutputStride
    multi_grid: Annotated[list[Rate], Field(min_length=1)] | None
    mean: Triple
    std: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=3, max_length=3)]
    separable: bool
    aspp: Aspp | None
    decoder: Decoder | None
    backbone_batch_norm: BatchNorm
    head_batch_norm: BatchNorm

    @model_validator(mode="after")
    def _is_buildable(self) -> Self:
        if self.separable and self.decoder and self.decoder.kernel_size == 1:
            raise ValueError(
                "separable: a convolution of decoder.kernel_size 1 has no depthwise part"
            )
        return self
