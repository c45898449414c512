"""Any timm backbone that gives features at stride 4 and at the wanted output_stride."""

from typing import Any

import torch
from timm import create_model, is_model
from torch import nn

from pipeline.model.config import BatchNorm

LOW_LEVEL_STRIDE = 4  # of the features the decoder takes, Conv2 in the paper


class Backbone(nn.Module):
    """A timm model without its classifier, seen as an encoder.

    Attributes:
        low_level_channels: of the features at stride 4.
        channels: of the features at output_stride.
    """

    def __init__(self, name: str, output_stride: int) -> None:
        """Builds the model with random weights.

        Raises:
            ValueError: timm has no such model, or it lacks what an encoder here needs.
        """
        super().__init__()
        encoder = _create(name, output_stride)
        strides = [stage["reduction"] for stage in encoder.feature_info]
        if LOW_LEVEL_STRIDE not in strides:
            raise ValueError(
                f"backbone {name}: has no features at stride {LOW_LEVEL_STRIDE}, which the "
                f"decoder needs; its features are at strides {strides}"
            )
        if strides[-1] != output_stride:
            raise ValueError(
                f"backbone {name}: its last features are at stride {strides[-1]}, not at the "
                f"output_stride {output_stride}"
            )
        last_with_low_stride = len(strides) - 1 - strides[::-1].index(LOW_LEVEL_STRIDE)
        self._indices = [last_with_low_stride, len(strides) - 1]
        self.low_level_channels, self.channels = (
            int(encoder.feature_info[index]["num_chs"]) for index in self._indices
        )
        # What comes after the last features would be trained by nothing.
        encoder.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) -> low_level_features at stride 4 and features at output_stride."""
        encoder: Any = self.encoder
        low_level_features, features = encoder.forward_intermediates(
            images, indices=self._indices, intermediates_only=True
        )
        return low_level_features, features


def set_batch_norm(module: nn.Module, config: BatchNorm) -> None:
    """Sets eps and momentum of every batch normalisation inside."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps, layer.momentum = config.eps, config.momentum


def unused_names(name: str) -> set[str]:
    """Names of the tensors in a backbone's published weights that no encoder has.

    These are the classifier's, and what stands between the last features and it.
    """
    with torch.device("meta"):
        published = set(create_model(name).state_dict())
        return published - set(Backbone(name, output_stride=16).encoder.state_dict())


def _create(name: str, output_stride: int) -> Any:  # nn.Module knows nothing of timm's methods
    if not is_model(name):
        raise ValueError(f"backbone {name}: timm has no model of this name")
    try:
        encoder = create_model(name, num_classes=0, output_stride=output_stride)
    except (TypeError, RuntimeError, AssertionError) as error:
        reason = str(error) or "timm has it at one output stride alone"
        raise ValueError(
            f"backbone {name}: cannot be built at output_stride {output_stride}: {reason}"
        ) from error
    with torch.device("meta"):
        lost = create_model(name, num_classes=0).state_dict().keys() - encoder.state_dict().keys()
    if lost:  # of timm 1.0.31, xception71 at 8: a shortcut whose stride became 1
        raise ValueError(
            f"backbone {name}: timm leaves out {len(lost)} of its tensors at output_stride "
            f"{output_stride} ({min(lost)}, ...), so that its weights would not fit"
        )
    for needed in ("feature_info", "forward_intermediates", "prune_intermediate_layers"):
        if not hasattr(encoder, needed):
            raise ValueError(f"backbone {name}: timm's model has no {needed}")
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in encoder.modules()):
        raise ValueError(f"backbone {name}: has no batch normalisation to configure")
    return encoder
