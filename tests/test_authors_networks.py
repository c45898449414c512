"""The backbones against a plain reading of the authors' block tables, weights by name.

Written from the tables of widths, strides, shortcuts and ReLUs (Fig. 4, and the authors' code where
it differs), with nothing but torch's functions; shares no code with the networks under test.
"""

import pytest
import synthetic
import torch
from torch.nn import functional as F

from pipeline.model.backbone import Backbone

XCEPTION_EPS, RESNET_EPS = 0.001, 0.00001

# (stride, shortcut) of entry flow, middle flow and exit flow.
MIDDLE = (1, "identity")
EXIT = [(2, "convolution"), (1, "none")]
XCEPTION = {
    "xception41": [(2, "convolution")] * 3 + [MIDDLE] * 8 + EXIT,
    "xception65": [(2, "convolution")] * 3 + [MIDDLE] * 16 + EXIT,
    "xception71": [(stride, "convolution") for stride in (2, 1, 2, 1, 2)] + [MIDDLE] * 16 + EXIT,
}
# The block whose second separable convolution the decoder takes.
LOW_LEVEL_BLOCK = {"xception41": 1, "xception65": 1, "xception71": 2}


class Plain:
    """Convolution and batch normalisation by the names of their weights."""

    def __init__(self, weights, eps):
        self.weights, self.eps = weights, eps

    def conv(self, maps, name, *, stride=1, rate=1):
        kernel = self.weights[f"{name}.weight"]
        groups = maps.shape[1] // kernel.shape[1]
        padding = rate * (kernel.shape[2] // 2)
        return F.conv2d(maps, kernel, None, stride, padding, rate, groups)

    def norm(self, maps, name):
        mean, variance, gamma, beta = (
            self.weights[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / torch.sqrt(variance + self.eps) * gamma + beta


def xception(name, weights, images, output_stride):
    plain = Plain(weights, XCEPTION_EPS)
    maps = F.relu(plain.norm(plain.conv(images, "stem.0.conv", stride=2), "stem.0.bn"))
    maps = F.relu(plain.norm(plain.conv(maps, "stem.1.conv"), "stem.1.bn"))
    now, rate = 2, 1
    for number, (stride, shortcut) in enumerate(XCEPTION[name]):
        reached = now == output_stride
        block, step = f"blocks.{number}", 1 if reached else stride
        result, inside = maps, shortcut == "none"  # ReLUs within: in the exit flow's last block
        for index in (1, 2, 3):
            layer = f"{block}.stack.conv{index}"
            result = result if inside else F.relu(result)
            result = plain.conv(
                result, f"{layer}.conv_dw", stride=step if index == 3 else 1, rate=rate
            )
            result = plain.norm(result, f"{layer}.bn_dw")
            result = F.relu(result) if inside else result
            result = plain.norm(plain.conv(result, f"{layer}.conv_pw"), f"{layer}.bn_pw")
            result = F.relu(result) if inside else result
            if index == 2 and number == LOW_LEVEL_BLOCK[name]:
                low_level_features = result
        if shortcut == "identity":
            result = result + maps
        elif shortcut == "convolution":
            skipped = plain.conv(maps, f"{block}.shortcut.conv", stride=step)
            result = result + plain.norm(skipped, f"{block}.shortcut.bn")
        maps = result
        now, rate = now * step, rate * stride if reached else rate
    return [low_level_features], maps


def resnet_beta(num_units, weights, images, output_stride, multi_grid):
    plain = Plain(weights, RESNET_EPS)
    maps = images
    for number, norm in ((0, "conv1.1"), (3, "conv1.4"), (6, "bn1")):
        stride = 2 if number == 0 else 1
        maps = F.relu(plain.norm(plain.conv(maps, f"conv1.{number}", stride=stride), norm))
    maps = F.max_pool2d(maps, 3, 2, 1)
    now, rate, low_level_features = 4, 1, {}
    for block, units in enumerate(num_units, start=1):
        for unit in range(units):
            name = f"layer{block}.{unit}"
            wanted = 2 if unit == units - 1 and block < 4 else 1
            reached = now == output_stride
            stride = 1 if reached else wanted
            grid = multi_grid[unit] if block == 4 else 1
            result = F.relu(plain.norm(plain.conv(maps, f"{name}.conv1"), f"{name}.bn1"))
            result = plain.conv(result, f"{name}.conv2", stride=stride, rate=rate * grid)
            result = F.relu(plain.norm(result, f"{name}.bn2"))
            result = plain.norm(plain.conv(result, f"{name}.conv3"), f"{name}.bn3")
            if unit == units - 2:
                low_level_features[2 ** (block + 1)] = result
            skipped = maps[:, :, ::stride, ::stride]
            if unit == 0:
                skipped = plain.norm(
                    plain.conv(maps, f"{name}.downsample.0"), f"{name}.downsample.1"
                )
            maps = F.relu(result + skipped)
            now, rate = now * stride, rate * wanted if reached else rate
    return [low_level_features[8], low_level_features[4]], maps


def assert_equal(ours, theirs):
    """But for the order of summation, whose errors are as large as the largest values make them."""
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-9 * theirs.abs().max().item())


def compare(model, plain, eps):
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = eps
    synthetic.scramble_batch_norm(model).eval().double()
    weights = model.encoder.state_dict()
    images = torch.randn(1, 3, 65, 81, generator=torch.Generator().manual_seed(0)).double()
    with torch.inference_mode():
        low_level_features, features = model(images)
        expected_low_level, expected = plain(weights, images)
    for ours, theirs in zip(low_level_features, expected_low_level, strict=True):
        assert_equal(ours, theirs)
        assert ours.min() < 0  # before the ReLU
    assert_equal(features, expected)
    assert features.std() > 0


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", XCEPTION)
def test_xception_is_the_authors(name, output_stride):
    model = Backbone(name, output_stride, multi_grid=None, low_level_strides=[4])
    compare(model, lambda w, images: xception(name, w, images, output_stride), XCEPTION_EPS)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(
    ("name", "num_units"), [("resnet50_beta", [3, 4, 6, 3]), ("resnet101_beta", [3, 4, 23, 3])]
)
def test_the_beta_resnet_is_the_authors(name, num_units, output_stride):
    grid = [1, 2, 4]
    model = Backbone(name, output_stride, multi_grid=grid, low_level_strides=[8, 4])
    compare(model, lambda w, i: resnet_beta(num_units, w, i, output_stride, grid), RESNET_EPS)


def test_low_level_features_of_xception_are_not_overwritten_by_the_relu_that_follows():
    model = Backbone("xception41", 16, multi_grid=None, low_level_strides=[4]).train()
    (low_level_features,), _ = model(torch.randn(2, 3, 33, 33))
    low_level_features.sum().backward()
    assert low_level_features.min() < 0
