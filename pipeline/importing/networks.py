"""Which network a checkpoint of the authors is of, read from its names and shapes.

They determine all tensors of the network. What they cannot say is added from the authors' code,
with its source beside it.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import params
from pipeline.model.config import Network

Shapes = Mapping[str, tuple[int, ...]]
_Section = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a checkpoint is of.

    Attributes:
        backbone: its name, as in a network's description.
        network: the whole network, None where there are backbone weights alone.
        num_classes: K of the logits layer, None where there is none.
    """

    backbone: str
    network: Network | None
    num_classes: int | None


@dataclass(frozen=True)
class _Backbone:
    """What the names cannot say of a backbone.

    Attributes:
        name: in a network's description.
        eps: of its batch normalisation.
        momentum: of the same, 1 - decay.
        multi_grid: of the last block.
    """

    name: str
    eps: float
    momentum: float
    multi_grid: list[int] | None


# By scope. eps and decay: core/xception.py has 0.001 and 0.9997; core/resnet_v1_beta.py, by way of
# core/feature_extractor.py, 0.00001 and 0.95; slim's mobilenet_v2, by way of the same, 0.001 and
# 0.9997. multi_grid: core/common.py says [1, 2, 4] for the two "beta" ResNets, and the paper has
# none for Xception (Sec. 4.3).
_BACKBONES = {
    "xception_41": _Backbone("xception41", 0.001, 0.0003, None),
    "xception_65": _Backbone("xception65", 0.001, 0.0003, None),
    "xception_71": _Backbone("xception71", 0.001, 0.0003, None),
    "resnet_v1_50": _Backbone("resnet50_beta", 0.00001, 0.05, [1, 2, 4]),
    "resnet_v1_101": _Backbone("resnet101_beta", 0.00001, 0.05, [1, 2, 4]),
    "MobilenetV2": _Backbone("mobilenetv2_100", 0.001, 0.0003, None),
}

# core/feature_extractor.py: images / 127.5 - 1 for all of these backbones.
_GREY = [127.5, 127.5, 127.5]
_OUTPUT_STRIDE = 16  # of training (v3+ Sec. 4); no name or shape depends on it
_DROPOUT = 0.1  # model.py: keep_prob 0.9 after concat_projection
_HEAD_BATCH_NORM = {"eps": 0.00001, "momentum": 0.0003}  # model.py: 1e-5, decay 0.9997
_LOW_LEVEL_STRIDES = ([4], [8, 4])  # of one stage and of two (Table 2's last row)

_HEAD_SCOPES = ("aspp", "concat_projection", "decoder", "image_pooling", "logits")


def infer(path: Path, shapes: Shapes) -> Found:
    """Tells which network a checkpoint is of.

    Args:
        path: of the checkpoint, for errors.
        shapes: of its variables by name, in TensorFlow's layout.

    Raises:
        ValueError: none of the authors' networks.
    """
    backbone = _backbone(path, shapes)
    if not any(name.startswith(_HEAD_SCOPES) for name in shapes):
        return Found(backbone.name, None, None)
    network = {
        "backbone": backbone.name,
        "output_stride": _OUTPUT_STRIDE,
        "multi_grid": backbone.multi_grid,
        "mean": _GREY,
        "std": _GREY,
        "separable": _is_separable(path, shapes),
        "aspp": _aspp(path, shapes),
        "decoder": _decoder(path, shapes),
        "backbone_batch_norm": {"eps": backbone.eps, "momentum": backbone.momentum},
        "head_batch_norm": _HEAD_BATCH_NORM,
    }
    logits = "logits/semantic/weights"
    num_classes = _kernel(path, shapes, logits)[3] if logits in shapes else None
    return Found(backbone.name, params.validate(path, network, Network, "network"), num_classes)


def require_equal(path: Path, declared: Network, found: Found) -> None:
    """Compares a declared network with what was found, in what names and shapes determine.

    Raises:
        ValueError: they differ; a line for each field says how.
    """
    if found.network is None:
        raise ValueError(
            f"{path}: network is declared, but the checkpoint has weights of {found.backbone} alone"
        )
    ours, theirs = _determined(declared), _determined(found.network)
    lines = [
        f"{path}: network.{field} is declared as {ours[field]}, the checkpoint has {theirs[field]}"
        for field in ours
        if field in theirs and ours[field] != theirs[field]
    ]
    if lines:
        raise ValueError("\n".join(lines))


def _determined(network: Network) -> dict[str, object]:
    """The fields of a network that its tensors determine."""
    aspp, decoder = network.aspp, network.decoder
    fields: dict[str, object] = {
        "backbone": network.backbone,
        "aspp": "null" if aspp is None else "a pyramid",
        "decoder": "null" if decoder is None else "a decoder",
    }
    if decoder or (aspp and aspp.atrous_rates):
        fields["separable"] = network.separable
    if aspp:
        fields |= {
            "aspp.channels": aspp.channels,
            "aspp.image_pooling": aspp.image_pooling,
            "aspp.atrous_rates": f"{len(aspp.atrous_rates)} rates",
        }
    if decoder:
        fields |= {
            "decoder.low_level_strides": f"{len(decoder.low_level_strides)} strides",
            "decoder.low_level_channels": decoder.low_level_channels,
            "decoder.kernel_size": decoder.kernel_size,
            "decoder.channels": decoder.channels,
            "decoder.convolutions": decoder.convolutions,
        }
    return fields


def _backbone(path: Path, shapes: Shapes) -> _Backbone:
    scopes = sorted({name.partition("/")[0] for name in shapes} & _BACKBONES.keys())
    if len(scopes) != 1:
        found = f"those of {' and '.join(scopes)}" if scopes else f"{_some(shapes)}"
        raise ValueError(
            f"{path}: expected variables of one of {', '.join(_BACKBONES)}; found {found}"
        )
    [scope] = scopes
    if scope.startswith("resnet") and f"{scope}/conv1_1/weights" not in shapes:
        raise ValueError(
            f"{path}: {scope} does not begin with the three 3x3 convolutions conv1_1, conv1_2 and "
            "conv1_3 of the authors' ResNets"
        )
    return _BACKBONES[scope]


def _aspp(path: Path, shapes: Shapes) -> _Section | None:
    if "aspp0/weights" not in shapes:
        return None
    branches = _count(
        lambda index: (
            f"aspp{index + 1}/weights" in shapes
            or f"aspp{index + 1}_depthwise/depthwise_weights" in shapes
        )
    )
    return {
        # (6, 12, 18) and, with a fourth branch, 24: v3 Table 5.
        "atrous_rates": [6 * (index + 1) for index in range(branches)],
        "channels": _kernel(path, shapes, "aspp0/weights")[3],
        "image_pooling": "image_pooling/weights" in shapes,
        "dropout": _DROPOUT,
    }


def _decoder(path: Path, shapes: Shapes) -> _Section | None:
    projection = "decoder/feature_projection0"
    if f"{projection}/weights" not in shapes:
        return None
    stages = 1 + _count(lambda index: f"{projection}_{index + 1}/weights" in shapes)
    if stages > len(_LOW_LEVEL_STRIDES):
        raise ValueError(
            f"{path}: the decoder takes in low-level features at {stages} strides, more than "
            f"{len(_LOW_LEVEL_STRIDES)}"
        )
    separable = _count(lambda n: f"decoder/decoder_conv{n}_depthwise/depthwise_weights" in shapes)
    dense = _count(lambda n: f"decoder/decoder_conv0/decoder_conv0_{n + 1}/weights" in shapes)
    if separable:
        kernel = _kernel(path, shapes, "decoder/decoder_conv0_depthwise/depthwise_weights")
        channels = _kernel(path, shapes, "decoder/decoder_conv0_pointwise/weights")[3]
    else:
        kernel = _kernel(path, shapes, "decoder/decoder_conv0/decoder_conv0_1/weights")
        channels = kernel[3]
    return {
        "low_level_strides": _LOW_LEVEL_STRIDES[stages - 1],
        "low_level_channels": _kernel(path, shapes, f"{projection}/weights")[3],
        "kernel_size": kernel[0],
        "channels": channels,
        "convolutions": separable or dense,
    }


def _is_separable(path: Path, shapes: Shapes) -> bool:
    """Whether ASPP and decoder are made of separable convolutions; False where there is none."""
    depthwise = {
        part: f"{first}_depthwise/depthwise_weights" in shapes
        for part, first, dense in (
            ("ASPP", "aspp1", "aspp1"),
            ("decoder", "decoder/decoder_conv0", "decoder/decoder_conv0/decoder_conv0_1"),
        )
        if f"{first}_depthwise/depthwise_weights" in shapes or f"{dense}/weights" in shapes
    }
    if len(set(depthwise.values())) > 1:
        parts = [
            f"the {part} is {'' if separable else 'not '}separable"
            for part, separable in depthwise.items()
        ]
        raise ValueError(f"{path}: {' but '.join(parts)}; a network here has it in both or in none")
    return any(depthwise.values())


def _kernel(path: Path, shapes: Shapes, name: str) -> tuple[int, ...]:
    """Shape (height, width, in, out) of a kernel that must be there."""
    shape = shapes.get(name)
    if shape is None or len(shape) != 4:
        found = "is missing" if shape is None else f"has the shape {shape}, no kernel's"
        raise ValueError(f"{path}: variable {name} {found}")
    return shape


def _count(exists: Callable[[int], bool]) -> int:
    """How many of 0, 1, 2 and so on exist before the first that does not."""
    return next(index for index in itertools.count() if not exists(index))


def _some(shapes: Shapes) -> str:
    names = sorted(shapes)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}" if names else "none"
