"""DeepLab v3+ (arXiv 1802.02611), and DeepLab v3, which is the same without the decoder.

    images -> Backbone -> features (output_stride) -> Aspp -+-> Decoder -> classifier -> x4  (v3+)
                  |                                         |
                  +-> low_level_features (stride 4) --------+
                                                            +-> classifier -> x output_stride  (v3)

Without ASPP it is the plain encoder-decoder of Fig. 1 (b). Every resize aligns corners, hence sizes
of k * output_stride + 1.
"""

from itertools import pairwise

import torch
from torch import nn

from pipeline.model.backbone import Backbone, set_batch_norm
from pipeline.model.config import Network
from pipeline.model.layers import Dropout, conv1x1, conv3x3, initialise, resize


class ImagePooling(nn.Module):
    """Image-level features: global average, 1x1 convolution, back to the map's size (v3 3.3)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Channels in and out."""
        super().__init__()
        self.convolution = conv1x1(in_channels, out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, out_channels, h, w), constant over each map."""
        pooled: torch.Tensor = self.convolution(features.mean((2, 3), keepdim=True))
        return pooled.expand(-1, -1, *features.shape[2:])  # what a bilinear resize of 1x1 gives


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling (v3 Sec. 3.3)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        atrous_rates: list[int],
        image_pooling: bool,
        separable: bool,
        dropout: float,
    ) -> None:
        """`atrous_rates` are of the 3x3 branches; `channels` of each branch and the result."""
        super().__init__()
        # The authors' order, in which the projection's input channels stand in checkpoints.
        self.branches = nn.ModuleList()
        if image_pooling:
            self.branches.append(ImagePooling(in_channels, channels))
        self.branches.append(conv1x1(in_channels, channels))
        for rate in atrous_rates:
            branch = conv3x3(in_channels, channels, atrous_rate=rate, separable=separable)
            self.branches.append(branch)
        self.projection = conv1x1(len(self.branches) * channels, channels)
        self.dropout = Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) -> (N, channels, h, w)."""
        branches = torch.cat([branch(features) for branch in self.branches], dim=1)
        projected: torch.Tensor = self.dropout(self.projection(branches))
        return projected


class DecoderStage(nn.Module):
    """Takes in the low-level features of one stride."""

    def __init__(
        self,
        in_channels: int,
        low_level_channels: int,
        *,
        projected_channels: int,
        kernel_size: int,
        channels: int,
        convolutions: int,
        separable: bool,
    ) -> None:
        """`projected_channels` are left of the low-level features, 48 in the paper."""
        super().__init__()
        self.low_level_projection = conv1x1(low_level_channels, projected_channels)
        # The authors' order, in which the first convolution's input channels stand in checkpoints.
        widths = [in_channels + projected_channels] + [channels] * convolutions
        self.refinement = nn.Sequential(
            *(
                conv1x1(wide, narrow)
                if kernel_size == 1
                else conv3x3(wide, narrow, atrous_rate=1, separable=separable)
                for wide, narrow in pairwise(widths)
            )
        )

    def forward(self, maps: torch.Tensor, low_level_features: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) and (N, c, H, W) -> (N, channels, H, W)."""
        upsampled = resize(maps, *low_level_features.shape[2:])
        projected = self.low_level_projection(low_level_features)
        refined: torch.Tensor = self.refinement(torch.cat([upsampled, projected], dim=1))
        return refined


class Decoder(nn.Module):
    """Refines the encoder's result along object boundaries (v3+ Sec. 3.1, Tables 1 and 2)."""

    def __init__(self, stages: list[DecoderStage]) -> None:
        """A stage for each stride of low-level features, from coarse to fine."""
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(
        self, encoded: torch.Tensor, low_level_features: list[torch.Tensor]
    ) -> torch.Tensor:
        """(N, C, h, w) at output_stride and features -> (N, channels, H/4, W/4), if 4 is last."""
        for stage, features in zip(self.stages, low_level_features, strict=True):
            encoded = stage(encoded, features)
        return encoded


class DeepLab(nn.Module):
    """A whole network: normalised images in, logits out.

    Attributes:
        logits_stride: input side / side of the logits before they are upsampled.
    """

    def __init__(
        self,
        backbone: Backbone,
        aspp: Aspp | None,
        decoder: Decoder | None,
        classifier: nn.Conv2d,
        *,
        logits_stride: int,
    ) -> None:
        """Without a decoder this is DeepLab v3, without ASPP a plain encoder-decoder."""
        super().__init__()
        self.logits_stride = logits_stride
        self.backbone = backbone
        self.aspp = aspp
        self.decoder = decoder
        self.classifier = classifier

    def coarse_logits(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, K, h, w) logits at logits_stride."""
        low_level_features, encoded = self.backbone(images)
        if self.aspp is not None:
            encoded = self.aspp(encoded)
        if self.decoder is not None:
            encoded = self.decoder(encoded, low_level_features)
        logits: torch.Tensor = self.classifier(encoded)
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised images -> (N, K, H, W) float32 logits."""
        return resize(self.coarse_logits(images).float(), *images.shape[2:])


def build(network: Network, *, num_classes: int, output_stride: int, seed: int) -> DeepLab:
    """Builds a network with initial weights drawn from `seed`.

    Args:
        network: its description.
        num_classes: K, background included.
        output_stride: may differ from network.output_stride; the weights fit all of them.
        seed: of the initial weights; torch's global random state is left alone.

    Raises:
        ValueError: the backbone does not exist or does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = Backbone(
            network.backbone,
            output_stride,
            multi_grid=network.multi_grid,
            low_level_strides=network.decoder.low_level_strides if network.decoder else [],
        )
        aspp = _aspp(network, backbone, output_stride)
        encoded_channels = network.aspp.channels if network.aspp else backbone.channels
        decoder = _decoder(network, backbone, encoded_channels)
        model = DeepLab(
            backbone,
            aspp,
            decoder,
            nn.Conv2d(
                network.decoder.channels if network.decoder else encoded_channels, num_classes, 1
            ),
            logits_stride=(
                network.decoder.low_level_strides[-1] if network.decoder else output_stride
            ),
        )
        for part in head_of(model):
            initialise(part)
    set_batch_norm(backbone, network.backbone_batch_norm)
    for part in head_of(model):
        set_batch_norm(part, network.head_batch_norm)
    return model.to(memory_format=torch.channels_last)


def head_of(model: DeepLab) -> list[nn.Module]:
    """Everything after the backbone."""
    return [part for name, part in model.named_children() if name != "backbone"]


def _aspp(network: Network, backbone: Backbone, output_stride: int) -> Aspp | None:
    if network.aspp is None:
        return None
    return Aspp(
        backbone.channels,
        network.aspp.channels,
        atrous_rates=network.aspp.atrous_rates_at(output_stride),
        image_pooling=network.aspp.image_pooling,
        separable=network.separable,
        dropout=network.aspp.dropout,
    )


def _decoder(network: Network, backbone: Backbone, encoded_channels: int) -> Decoder | None:
    if network.decoder is None:
        return None
    channels = network.decoder.channels
    entering = [encoded_channels] + [channels] * (len(backbone.low_level_channels) - 1)
    return Decoder(
        [
            DecoderStage(
                in_channels,
                low_level_channels,
                projected_channels=network.decoder.low_level_channels,
                kernel_size=network.decoder.kernel_size,
                channels=channels,
                convolutions=network.decoder.convolutions,
                separable=network.separable,
            )
            for in_channels, low_level_channels in zip(
                entering, backbone.low_level_channels, strict=True
            )
        ]
    )
