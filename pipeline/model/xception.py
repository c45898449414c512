"""What timm's Xception lacks to be the authors' at every output_stride and in its features.

Source: tensorflow/models research/deeplab, core/xception.py and core/feature_extractor.py.
"""

from functools import partial
from typing import Any

import torch
from timm.layers.conv_bn_act import ConvNormAct
from timm.models.xception_aligned import XceptionAligned, XceptionModule
from torch import nn
from torch.nn import functional as F


def is_authors(encoder: XceptionAligned) -> bool:
    """Whether it is Xception-41, -65 or -71, not one of timm's pre-activation variants."""
    return all(isinstance(block, XceptionModule) for block in encoder.blocks)


def restore_shortcuts(encoder: XceptionAligned) -> None:
    """Gives every block of the entry flow the convolution in its shortcut, at any output_stride.

    timm makes it an identity where channels and size stay, so that Xception-71 at output_stride 8
    loses the one of its fifth block (728 -> 728, stride 2 become 1). The authors keep it.
    """
    blocks: Any = encoder.blocks
    for index in encoder.feature_ends[:-1]:  # the blocks that have a stride at output_stride 32
        block = blocks[index]
        if block.shortcut is None:
            batch_norm = partial(nn.BatchNorm2d, eps=block.stack.conv3.bn_pw.eps)
            block.shortcut = ConvNormAct(
                block.in_channels, block.out_channels, 1, norm_layer=batch_norm, apply_act=False
            )


def tap_before_relu(encoder: XceptionAligned) -> None:
    """Lets the features inside a block be taken before their ReLU, as the authors take them.

    timm hands out what enters a block's third separable convolution, which an in-place ReLU has
    been through. Here that ReLU belongs to the convolution, and leaves its input alone.
    """
    blocks: Any = encoder.blocks
    for index in encoder.feature_ends[:-1]:
        stack = blocks[index].stack
        stack.act3 = nn.Identity()
        stack.conv3.register_forward_pre_hook(_relu)


def _relu(_: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    return F.relu(inputs[0])
