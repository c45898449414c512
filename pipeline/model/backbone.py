"""Backbones of timm as encoders: features at output_stride, and low-level ones for the decoder.

The same weights fit every output_stride: strides become atrous rates, and no tensor comes or goes.
Where timm's network is not the authors' (a shortcut of Xception-71, features taken after a ReLU,
the strides of ResNet), it is set right, on timm's own blocks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm import create_model, is_model
from timm.models.resnet import ResNet
from timm.models.xception_aligned import XceptionAligned
from torch import nn

from pipeline.model import resnet_beta, xception
from pipeline.model.config import BatchNorm


class Backbone(nn.Module):
    """A timm model without its classifier, seen as an encoder.

    Attributes:
        low_level_channels: of the features at each low-level stride.
        channels: of the features at output_stride.
    """

    def __init__(
        self,
        name: str,
        output_stride: int,
        *,
        multi_grid: list[int] | None,
        low_level_strides: Sequence[int],
    ) -> None:
        """Builds the model with random weights.

        Args:
            name: timm's, or one of resnet_beta.TIMM_NAMES.
            output_stride: 8, 16 or 32.
            multi_grid: multiplies the atrous rates of a ResNet's last block; None leaves them.
            low_level_strides: of the low-level features, may be empty.

        Raises:
            ValueError: timm has no such model, or it lacks what is asked for.
        """
        super().__init__()
        encoder, self._intermediates = _create(name, output_stride)
        if multi_grid is not None:
            _set_multi_grid(name, encoder, output_stride, multi_grid)
        # Its features, by the strides they have when none is taken away.
        strides = [stage["reduction"] for stage in _on_meta(name).feature_info]
        for stride in low_level_strides:
            if stride not in strides:
                raise ValueError(
                    f"backbone {name}: has no features at stride {stride}, which the decoder "
                    f"needs; its features are at strides {strides}"
                )
        last_of = {stride: index for index, stride in enumerate(strides)}
        self._indices = [*(last_of[stride] for stride in low_level_strides), len(strides) - 1]
        *self.low_level_channels, self.channels = (
            int(encoder.feature_info[index]["num_chs"]) for index in self._indices
        )
        # What comes after the last features would be trained by nothing.
        encoder.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(N, 3, H, W) -> low_level_features at each low-level stride, and at output_stride."""
        ascending = sorted(self._indices)
        maps = dict(
            zip(ascending, self._intermediates(self.encoder, images, ascending), strict=True)
        )
        *low_level_features, features = (maps[index] for index in self._indices)
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
        published = set(create_model(resnet_beta.TIMM_NAMES.get(name, name)).state_dict())
        encoder = Backbone(name, output_stride=16, multi_grid=None, low_level_strides=[]).encoder
        return published - set(encoder.state_dict())


# The encoder, images and ascending indices of its features -> these features.
_Intermediates = Callable[[Any, torch.Tensor, list[int]], list[torch.Tensor]]


def _create(name: str, output_stride: int) -> tuple[Any, _Intermediates]:
    """A model that has the tensors of the published one, and what gives its features."""
    if name in resnet_beta.TIMM_NAMES:
        return resnet_beta.create(name, output_stride), resnet_beta.intermediates
    if not is_model(name):
        raise ValueError(
            f"backbone {name}: timm has no model of this name, and it is none of "
            f"{', '.join(resnet_beta.TIMM_NAMES)}"
        )
    try:
        encoder: Any = create_model(name, num_classes=0, output_stride=output_stride)
    except (TypeError, RuntimeError, AssertionError) as error:
        said = "" if isinstance(error, TypeError) else str(error)
        reason = said or "timm has it at no output stride but its own"
        raise ValueError(
            f"backbone {name}: cannot be built at output_stride {output_stride}: {reason}"
        ) from error
    if isinstance(encoder, XceptionAligned) and xception.is_authors(encoder):
        xception.restore_shortcuts(encoder)
        xception.tap_before_relu(encoder)
    _check(name, encoder, output_stride)
    return encoder, _timm_intermediates


def _check(name: str, encoder: Any, output_stride: int) -> None:
    for needed in ("feature_info", "forward_intermediates", "prune_intermediate_layers"):
        if not hasattr(encoder, needed):
            raise ValueError(f"backbone {name}: timm's model has no {needed}")
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in encoder.modules()):
        raise ValueError(f"backbone {name}: has no batch normalisation to configure")
    last = encoder.feature_info[-1]["reduction"]
    if last != output_stride:
        raise ValueError(
            f"backbone {name}: its last features are at stride {last}, not at the output_stride "
            f"{output_stride}"
        )
    _check_sizes(name, output_stride)
    lost = _on_meta(name).state_dict().keys() - encoder.state_dict().keys()
    if lost:
        raise ValueError(
            f"backbone {name}: timm leaves out {len(lost)} of its tensors at output_stride "
            f"{output_stride} ({min(lost)}, ...), so that its weights would not fit"
        )


def _check_sizes(name: str, output_stride: int) -> None:
    """Some networks (HRNet) join maps whose sizes agree for multiples of a stride alone."""
    side = 2 * 32 + 1
    expected = (side - 1) // output_stride + 1
    with torch.device("meta"):
        encoder: Any = create_model(name, num_classes=0, output_stride=output_stride)
        images = torch.zeros(1, 3, side, side)
        try:
            found = encoder.forward_intermediates(images, intermediates_only=True)[-1].shape[-1]
        except RuntimeError as error:
            raise ValueError(
                f"backbone {name}: takes no images of k * stride + 1 pixels, as here: {error}"
            ) from error
    if found != expected:
        raise ValueError(
            f"backbone {name}: gives features of {found} pixels for an image of {side}; "
            f"{expected} are needed at output_stride {output_stride}"
        )


def _on_meta(name: str) -> Any:
    """The published model in shapes alone, without its classifier and with all its strides."""
    with torch.device("meta"):
        return create_model(resnet_beta.TIMM_NAMES.get(name, name), num_classes=0)


def _timm_intermediates(
    encoder: Any, images: torch.Tensor, indices: list[int]
) -> list[torch.Tensor]:
    features: list[torch.Tensor] = encoder.forward_intermediates(
        images, indices=indices, intermediates_only=True
    )
    return features


def _set_multi_grid(name: str, encoder: Any, output_stride: int, multi_grid: list[int]) -> None:
    """Sets the atrous rate of each unit of the last block (v3 Sec. 3.2)."""
    if not isinstance(encoder, ResNet):
        raise ValueError(f"backbone {name}: multi_grid is for ResNets; it must be null here")
    layer4: Any = encoder.layer4
    units = list(layer4)
    if len(multi_grid) != len(units):
        raise ValueError(
            f"backbone {name}: multi_grid is {multi_grid}, but the last block has {len(units)} "
            "units"
        )
    for unit, multiple in zip(units, multi_grid, strict=True):
        resnet_beta.set_atrous_rate(unit, 32 // output_stride * multiple)
