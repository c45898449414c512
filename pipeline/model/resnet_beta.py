"""The authors' ResNet-50 and -101 "beta", on timm's blocks: the paper's ResNet-101.

Three 3x3 convolutions of 64, 64 and 128 channels in place of the 7x7, and the stride of a block in
its last unit, not its first. The tensors are those of timm's resnet50s and resnet101s: weights of
one fit the other. That this is the paper's network, the Multiply-Adds of its Table 3 show.

Source: tensorflow/models research/deeplab, core/resnet_v1_beta.py and core/feature_extractor.py.
"""

from typing import Any

import torch
from timm import create_model
from timm.models.resnet import Bottleneck
from torch import nn

TIMM_NAMES = {"resnet50_beta": "resnet50s", "resnet101_beta": "resnet101s"}


def create(name: str, output_stride: int) -> Any:
    """Builds timm's model of these tensors and gives it the authors' strides and rates."""
    encoder = create_model(TIMM_NAMES[name], num_classes=0)
    blocks = _blocks(encoder)
    stride, rate = 4, 1  # after the stem
    for block in blocks:
        for unit in block:
            unit.conv2.stride = (1, 1)
            set_atrous_rate(unit, rate)
        block[0].downsample[0].stride = (1, 1)  # the convolution to more channels
        if block is blocks[-1]:
            continue
        if stride == output_stride:
            rate *= 2
        else:
            stride *= 2
            block[-1].conv2.stride = (2, 2)
            block[-1].downsample = nn.MaxPool2d(1, stride=2)  # every other pixel
    return encoder


def intermediates(encoder: Any, images: torch.Tensor, indices: list[int]) -> list[torch.Tensor]:
    """(N, 3, H, W) -> the features that the authors take, from blocks 1..4 by ascending number.

    Of the last block its result; of another one the residual branch of its last unit but one,
    before the shortcut is added: the last feature map before the stride.
    """
    maps = encoder.maxpool(encoder.act1(encoder.bn1(encoder.conv1(images))))
    found = []
    for number, block in enumerate(_blocks(encoder), start=1):
        *units, tapped, last = block
        for unit in units:
            maps = unit(maps)
        branch = _residual_branch(tapped, maps)
        maps = last(tapped.act3(branch + maps))
        if number in indices:
            found.append(maps if number == len(_blocks(encoder)) else branch)
    return found


def set_atrous_rate(unit: nn.Module, rate: int) -> None:
    """Sets the rate of a residual unit's 3x3 convolutions; sizes stay as they are."""
    for layer in unit.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.dilation = layer.padding = (rate, rate)


def _blocks(encoder: Any) -> list[Any]:
    return [encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4]


def _residual_branch(unit: Bottleneck, maps: torch.Tensor) -> torch.Tensor:
    maps = unit.act1(unit.bn1(unit.conv1(maps)))
    maps = unit.act2(unit.bn2(unit.conv2(maps)))
    branch: torch.Tensor = unit.bn3(unit.conv3(maps))
    return branch
