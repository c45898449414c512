"""The `network` section of a model: everything that rebuilds it without its weights."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params import Config

OutputStride = Literal[8, 16]
Channels = Annotated[int, Field(ge=1)]
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
        atrous_rates: of the three 3x3 branches at output_stride 16, (6, 12, 18) in the paper;
            doubled at 8. A branch whose rate reaches the side of the feature map learns its
            centre tap alone, so a smaller crop wants smaller rates.
        channels: of each branch and of the projection (256).
        image_pooling: whether there is an image-level branch (Table 7 has rows without).
        dropout: rate after the projection.
    """

    atrous_rates: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    channels: Channels
    image_pooling: bool
    dropout: Fraction


class Decoder(Config):
    """The decoder of Sec. 3.1.

    Attributes:
        low_level_channels: of the 1x1 projection of the low-level features (Table 1: 48).
        channels: of each 3x3 convolution (256).
        convolutions: number of 3x3 convolutions (Table 2: 2).
    """

    low_level_channels: Channels
    channels: Channels
    convolutions: Annotated[int, Field(ge=1, le=3)]


class Network(Config):
    """A whole network.

    Attributes:
        backbone: a timm model name.
        output_stride: input side / side of the last encoder feature map, in training.
        mean: RGB mean in 0..255, subtracted; padding is exactly this colour.
        std: RGB divisor in 0..255.
        separable: depthwise separable 3x3 convolutions in ASPP and decoder (Sec. 3.2).
        aspp: the pyramid.
        decoder: the decoder, or null for DeepLab v3 with bilinear upsampling.
        backbone_batch_norm: of the backbone.
        head_batch_norm: of ASPP and decoder.
    """

    backbone: Annotated[str, Field(min_length=1)]
    output_stride: OutputStride
    mean: Triple
    std: Triple
    separable: bool
    aspp: Aspp
    decoder: Decoder | None
    backbone_batch_norm: BatchNorm
    head_batch_norm: BatchNorm
