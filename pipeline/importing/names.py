"""Which variable of the authors becomes which tensor of ours, and which becomes none.

Both networks are the same; only names and layouts differ. TensorFlow keeps a kernel as (height,
width, in, out) and a depthwise one as (height, width, channels, 1). It does not flip kernels, so
that an exchange of axes is all there is to do.

Source: names in graphs and checkpoints of the authors' code (tensorflow/models research/deeplab,
core/xception.py, core/resnet_v1_beta.py, model.py).
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline.model.config import Aspp, Decoder, Network


class Target(NamedTuple):
    """What a variable becomes.

    Attributes:
        name: of the tensor.
        axes: of the variable, in the tensor's order.
    """

    name: str
    axes: tuple[int, ...]


Targets = dict[str, Target]

_KERNEL = (3, 2, 0, 1)  # -> (out, in, height, width)
_DEPTHWISE_KERNEL = (2, 3, 0, 1)  # -> (channels, 1, height, width)
_VECTOR = (0,)

_BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# Kinds of variables that are no weights of a network here, by what their names hold.
IGNORED = {
    "optimiser slots": r"/(Momentum|RMSProp(_1)?|Adam(_1)?)$",
    "moving averages": r"/ExponentialMovingAverage$",
    "global step": r"^global_step$",
    "ImageNet classifier": (
        r"^((xception_\d+|resnet_v1_\d+)/logits|MobilenetV2/Logits/Conv2d_1c_1x1)/(weights|biases)$"
    ),
    # To 1280 channels, for the classifier: DeepLab takes the features before it.
    "last convolution before the classifier": r"^MobilenetV2/Conv_1/",
}
# Further kinds, where they are not wanted.
LOGITS = {"logits layer": r"^logits/semantic/(weights|biases)$"}
# The scopes that train.py leaves out with initialize_last_layer=False.
HEAD = {
    "head": r"^(image_pooling|aspp\d+(_(depth|point)wise)?|concat_projection|decoder|logits)/",
}


def kind_of(variable: str, ignored: Mapping[str, str]) -> str | None:
    """The first of these kinds that a variable is of, None where it is none."""
    return next((kind for kind, pattern in ignored.items() if re.search(pattern, variable)), None)


def of_network(network: Network, *, logits: bool) -> Targets:
    """Variables of a whole network, and the tensors they become."""
    encoder = {
        variable: Target(f"backbone.encoder.{target.name}", target.axes)
        for variable, target in of_backbone(network.backbone).items()
    }
    aspp = _aspp(network.aspp, network.separable) if network.aspp else {}
    decoder = _decoder(network.decoder, network.separable) if network.decoder else {}
    classifier = {
        "logits/semantic/weights": Target("classifier.weight", _KERNEL),
        "logits/semantic/biases": Target("classifier.bias", _VECTOR),
    }
    return encoder | aspp | decoder | (classifier if logits else {})


def of_backbone(name: str) -> Targets:
    """Variables of a backbone without its classifier, and the tensors of timm they become.

    Raises:
        ValueError: the authors have no such backbone.
    """
    if name in _XCEPTION_BLOCKS:
        return _xception(name)
    if name in _RESNET_UNITS:
        return _resnet(name)
    if name == "mobilenetv2_100":
        return _mobilenet()
    known = [*_XCEPTION_BLOCKS, *_RESNET_UNITS, "mobilenetv2_100"]
    raise ValueError(f"backbone {name}: the authors' names are known for {', '.join(known)} alone")


# Blocks of the entry flow and units of the middle flow.
_XCEPTION_BLOCKS = {"xception41": (3, 8), "xception65": (3, 16), "xception71": (5, 16)}


def _xception(name: str) -> Targets:
    scope = name.replace("xception", "xception_")
    entry, middle = _XCEPTION_BLOCKS[name]
    with_shortcut = [f"entry_flow/block{number}/unit_1" for number in range(1, entry + 1)]
    with_shortcut.append("exit_flow/block1/unit_1")
    blocks = [
        *with_shortcut[:-1],
        *(f"middle_flow/block1/unit_{number}" for number in range(1, middle + 1)),
        with_shortcut[-1],
        "exit_flow/block2/unit_1",
    ]
    targets: Targets = {}
    for number in (1, 2):
        ours = f"stem.{number - 1}"
        targets |= _convolution(f"{scope}/entry_flow/conv1_{number}", f"{ours}.conv", f"{ours}.bn")
    for index, block in enumerate(blocks):
        theirs, ours = f"{scope}/{block}/xception_module", f"blocks.{index}"
        for number in (1, 2, 3):
            separable, part = f"{theirs}/separable_conv{number}", f"{ours}.stack.conv{number}"
            targets |= _depthwise(
                f"{separable}_depthwise", f"{part}.conv_dw", f"{part}.bn_dw"
            ) | _convolution(f"{separable}_pointwise", f"{part}.conv_pw", f"{part}.bn_pw")
        if block in with_shortcut:
            shortcut = f"{ours}.shortcut"
            targets |= _convolution(f"{theirs}/shortcut", f"{shortcut}.conv", f"{shortcut}.bn")
    return targets


# Units of the four blocks.
_RESNET_UNITS = {"resnet50_beta": (3, 4, 6, 3), "resnet101_beta": (3, 4, 23, 3)}


def _resnet(name: str) -> Targets:
    # "beta" is not in the scope; what tells these from ResNets with one 7x7 is conv1_1 to conv1_3.
    scope = f"resnet_v1_{name.removeprefix('resnet').removesuffix('_beta')}"
    targets = (
        _convolution(f"{scope}/conv1_1", "conv1.0", "conv1.1")
        | _convolution(f"{scope}/conv1_2", "conv1.3", "conv1.4")
        | _convolution(f"{scope}/conv1_3", "conv1.6", "bn1")
    )
    for block, units in enumerate(_RESNET_UNITS[name], start=1):
        for unit in range(1, units + 1):
            theirs = f"{scope}/block{block}/unit_{unit}/bottleneck_v1"
            ours = f"layer{block}.{unit - 1}"
            for number in (1, 2, 3):
                targets |= _convolution(
                    f"{theirs}/conv{number}", f"{ours}.conv{number}", f"{ours}.bn{number}"
                )
            if unit == 1:
                shortcut = f"{ours}.downsample"
                targets |= _convolution(f"{theirs}/shortcut", f"{shortcut}.0", f"{shortcut}.1")
    return targets


_MOBILENET_UNITS = (1, 2, 3, 4, 3, 3, 1)  # of timm's blocks; the authors number them through


def _mobilenet() -> Targets:
    # These names are from code that makes and reads such checkpoints (tensorflow/models
    # research/slim, nets/mobilenet), not from a checkpoint. DeepLab ends at "layer_18", which is
    # expanded_conv_16 (research/deeplab, core/feature_extractor.py).
    targets = _convolution("MobilenetV2/Conv", "conv_stem", "bn1")
    places = [
        (block, unit) for block, units in enumerate(_MOBILENET_UNITS) for unit in range(units)
    ]
    for number, (block, unit) in enumerate(places):
        theirs = f"MobilenetV2/expanded_conv_{number}" if number else "MobilenetV2/expanded_conv"
        ours = f"blocks.{block}.{unit}"
        if number == 0:  # does not expand
            targets |= _depthwise(f"{theirs}/depthwise", f"{ours}.conv_dw", f"{ours}.bn1")
            targets |= _convolution(f"{theirs}/project", f"{ours}.conv_pw", f"{ours}.bn2")
        else:
            targets |= _convolution(f"{theirs}/expand", f"{ours}.conv_pw", f"{ours}.bn1")
            targets |= _depthwise(f"{theirs}/depthwise", f"{ours}.conv_dw", f"{ours}.bn2")
            targets |= _convolution(f"{theirs}/project", f"{ours}.conv_pwl", f"{ours}.bn3")
    return targets


def _aspp(aspp: Aspp, separable: bool) -> Targets:
    targets: Targets = {}
    branch = 0
    if aspp.image_pooling:
        targets |= _ours("image_pooling", "aspp.branches.0.convolution")
        branch = 1
    targets |= _ours("aspp0", f"aspp.branches.{branch}")
    for number in range(1, len(aspp.atrous_rates) + 1):
        theirs, ours = f"aspp{number}", f"aspp.branches.{branch + number}"
        targets |= _separable(theirs, ours) if separable else _ours(theirs, ours)
    return targets | _ours("concat_projection", "aspp.projection")


def _decoder(decoder: Decoder, separable: bool) -> Targets:
    targets: Targets = {}
    for stage in range(len(decoder.low_level_strides)):
        suffix = f"_{stage}" if stage else ""  # later releases have further stages
        ours = f"decoder.stages.{stage}"
        projection = f"decoder/feature_projection0{suffix}"
        targets |= _ours(projection, f"{ours}.low_level_projection")
        for number in range(decoder.convolutions):
            refinement = f"{ours}.refinement.{number}"
            if separable:
                targets |= _separable(f"decoder/decoder_conv{number}{suffix}", refinement)
            else:  # slim.repeat has one scope for all of them
                scope = f"decoder_conv0{suffix}"
                targets |= _ours(f"decoder/{scope}/{scope}_{number + 1}", refinement)
    return targets


def _separable(theirs: str, ours: str) -> Targets:
    """Of layers.SeparableConvBnRelu."""
    depthwise, pointwise = f"{ours}.depthwise", f"{ours}.pointwise"
    return _depthwise(
        f"{theirs}_depthwise", f"{depthwise}.convolution", f"{depthwise}.batch_norm"
    ) | _ours(f"{theirs}_pointwise", pointwise)


def _ours(theirs: str, ours: str) -> Targets:
    """Of layers.ConvBnRelu."""
    return _convolution(theirs, f"{ours}.convolution", f"{ours}.batch_norm")


def _convolution(theirs: str, convolution: str, batch_norm: str) -> Targets:
    kernel = Target(f"{convolution}.weight", _KERNEL)
    return {f"{theirs}/weights": kernel} | _batch_norm(theirs, batch_norm)


def _depthwise(theirs: str, convolution: str, batch_norm: str) -> Targets:
    kernel = Target(f"{convolution}.weight", _DEPTHWISE_KERNEL)
    return {f"{theirs}/depthwise_weights": kernel} | _batch_norm(theirs, batch_norm)


def _batch_norm(theirs: str, ours: str) -> Targets:
    return {
        f"{theirs}/BatchNorm/{their_leaf}": Target(f"{ours}.{our_leaf}", _VECTOR)
        for their_leaf, our_leaf in _BATCH_NORM.items()
    }
