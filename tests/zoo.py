"""The authors' variables with random values: names, shapes and order as their graphs have them.

Written from the variable names of their checkpoints and from the block tables of the paper and of
their code; shares no code with what is tested.
"""

import re

import numpy as np

XCEPTION_UNITS = {41: 8, 65: 16, 71: 16}  # of the middle flow
RESNET_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
MOBILENET_CHANNELS = [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]


class Variables(dict):
    """Variables by name; scaled so that activations neither vanish nor explode."""

    def __init__(self, seed=0):
        super().__init__()
        self.random = np.random.default_rng(seed)

    def draw(self, shape, scale):
        return self.random.standard_normal(shape, np.float32) * np.float32(scale)

    def batch_norm(self, scope, channels):
        uniform = self.random.uniform(0.5, 1.5, (2, channels)).astype(np.float32)
        self[f"{scope}/BatchNorm/gamma"], self[f"{scope}/BatchNorm/moving_variance"] = uniform
        self[f"{scope}/BatchNorm/beta"] = self.draw(channels, 0.2)
        self[f"{scope}/BatchNorm/moving_mean"] = self.draw(channels, 0.2)

    def conv(self, scope, size, inputs, outputs):
        shape = (size, size, inputs, outputs)
        self[f"{scope}/weights"] = self.draw(shape, (size * size * inputs) ** -0.5)
        self.batch_norm(scope, outputs)

    def depthwise(self, scope, channels):
        self[f"{scope}/depthwise_weights"] = self.draw((3, 3, channels, 1), 1 / 3)
        self.batch_norm(scope, channels)

    def separable(self, scope, inputs, outputs):
        self.depthwise(f"{scope}_depthwise", inputs)
        self.conv(f"{scope}_pointwise", 1, inputs, outputs)

    def logits(self, scope, inputs, classes):
        self[f"{scope}/weights"] = self.draw((1, 1, inputs, classes), inputs**-0.5)
        self[f"{scope}/biases"] = self.draw(classes, 0.5)


def xception_blocks(depth):
    """(scope, widths, has a shortcut convolution) of every block, in order."""
    entry = [128, 256, 256, 728, 728] if depth == 71 else [128, 256, 728]
    blocks = [(f"entry_flow/block{n}", 1, [w] * 3, True) for n, w in enumerate(entry, 1)]
    units = range(1, XCEPTION_UNITS[depth] + 1)
    blocks += [("middle_flow/block1", unit, [728] * 3, False) for unit in units]
    blocks += [("exit_flow/block1", 1, [728, 1024, 1024], True)]
    blocks += [("exit_flow/block2", 1, [1536, 1536, 2048], False)]
    return [
        (f"xception_{depth}/{block}/unit_{unit}/xception_module", widths, shortcut)
        for block, unit, widths, shortcut in blocks
    ]


def xception(depth, seed=0):
    variables = Variables(seed)
    variables.conv(f"xception_{depth}/entry_flow/conv1_1", 3, 3, 32)
    variables.conv(f"xception_{depth}/entry_flow/conv1_2", 3, 32, 64)
    channels = 64
    for scope, widths, shortcut in xception_blocks(depth):
        if shortcut:
            variables.conv(f"{scope}/shortcut", 1, channels, widths[-1])
        for number, width in enumerate(widths, 1):
            variables.separable(f"{scope}/separable_conv{number}", channels, width)
            channels = width
    return variables


def resnet(depth, seed=0):
    variables, scope = Variables(seed), f"resnet_v1_{depth}"
    for number, (inputs, outputs) in enumerate([(3, 64), (64, 64), (64, 128)], 1):
        variables.conv(f"{scope}/conv1_{number}", 3, inputs, outputs)
    channels = 128
    for block, units in enumerate(RESNET_UNITS[depth], 1):
        width = 32 * 2**block
        for unit in range(1, units + 1):
            bottleneck = f"{scope}/block{block}/unit_{unit}/bottleneck_v1"
            if unit == 1:
                variables.conv(f"{bottleneck}/shortcut", 1, channels, 4 * width)
            variables.conv(f"{bottleneck}/conv1", 1, channels, width)
            variables.conv(f"{bottleneck}/conv2", 3, width, width)
            variables.conv(f"{bottleneck}/conv3", 1, width, 4 * width)
            channels = 4 * width
    return variables


def mobilenet(seed=0):
    variables = Variables(seed)
    variables.conv("MobilenetV2/Conv", 3, 3, 32)
    channels = 32
    for number, width in enumerate(MOBILENET_CHANNELS):
        scope = f"MobilenetV2/expanded_conv_{number}" if number else "MobilenetV2/expanded_conv"
        expanded = channels * 6 if number else channels
        if number:
            variables.conv(f"{scope}/expand", 1, channels, expanded)
        variables.depthwise(f"{scope}/depthwise", expanded)
        variables.conv(f"{scope}/project", 1, expanded, width)
        channels = width
    return variables


def with_head(
    variables,
    features,
    *,
    classes=21,
    separable=True,
    image_pooling=True,
    branches=3,
    low_level=(256,),
    channels=256,
    convolutions=2,
    kernel=3,
):
    """Adds ASPP, a decoder for low-level features of so many channels each (or none), logits."""
    if image_pooling:
        variables.conv("image_pooling", 1, features, channels)
    variables.conv("aspp0", 1, features, channels)
    for number in range(1, branches + 1):
        if separable:
            variables.separable(f"aspp{number}", features, channels)
        else:
            variables.conv(f"aspp{number}", 3, features, channels)
    variables.conv("concat_projection", 1, (1 + image_pooling + branches) * channels, channels)
    for stage, inputs in enumerate(low_level):
        suffix = f"_{stage}" if stage else ""
        variables.conv(f"decoder/feature_projection0{suffix}", 1, inputs, 48)
        width = channels + 48
        for number in range(convolutions):
            if separable:
                variables.separable(f"decoder/decoder_conv{number}{suffix}", width, channels)
            else:
                scope = f"decoder_conv0{suffix}"
                variables.conv(f"decoder/{scope}/{scope}_{number + 1}", kernel, width, channels)
            width = channels
    variables.logits("logits/semantic", channels, classes)
    return variables


def with_slots(variables):
    """What train.py saves beside them: a slot for each trainable variable, and the step."""
    trainable = re.compile(r"/(weights|depthwise_weights|gamma|beta|biases)$")
    slots = {
        f"{name}/Momentum": np.zeros_like(array)
        for name, array in variables.items()
        if trainable.search(name)
    }
    return variables | slots | {"global_step": np.array(30000, np.int64)}
