import copy

import pytest
import synthetic
import torch
from torch import nn

from pipeline.inference import folding
from pipeline.model import deeplab
from pipeline.model.layers import ConvBnRelu


def build(**changes):
    model = deeplab.build(synthetic.network(**changes), num_classes=3, output_stride=16, seed=1)
    return synthetic.scramble_batch_norm(model).eval()


def batch_norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


# A ResNet, one with timm's fused normalisation and activation, and two that are set right here.
BACKBONES = ["test_resnet", "mobilenetv2_050", "xception41", "resnet50_beta"]


@torch.inference_mode()
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("separable", [False, True])
def test_every_batch_normalisation_is_folded_and_logits_stay(backbone, separable):
    model = build(backbone=backbone, separable=separable)
    num_batch_norms = len(batch_norms(model))
    images = torch.randn(2, 3, 97, 65).contiguous(memory_format=torch.channels_last)
    expected = model.coarse_logits(images)
    assert folding.fold_batch_norm(model) == num_batch_norms > 0
    assert batch_norms(model) == []
    found = model.coarse_logits(images)
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
    assert not torch.equal(found, expected)  # other weights round differently


def test_one_convolution_is_folded_as_by_hand():
    layer = ConvBnRelu(1, 1, 1, atrous_rate=1, groups=1).eval()
    layer.convolution.weight.data.fill_(3.0)
    norm = layer.batch_norm
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0 - norm.eps)
    norm.weight.data.fill_(10.0)
    norm.bias.data.fill_(0.5)
    folding._fold(layer.convolution, norm)
    # (3 x - 1) / 2 * 10 + 0.5
    assert layer.convolution.weight.item() == pytest.approx(15.0)
    assert layer.convolution.bias.item() == pytest.approx(-4.5)


def test_a_second_time_there_is_nothing_to_fold():
    model = build()
    folding.fold_batch_norm(model)
    before = copy.deepcopy(model.state_dict())
    assert folding.fold_batch_norm(model) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Twice(nn.Module):
    """Normalises what a convolution gave, and adds it to what it was."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, maps):
        raw = self.layer.convolution(maps)
        return self.layer.batch_norm(raw) + 100 * raw


def test_a_network_that_cannot_be_folded_is_left_as_it_was():
    model = build(decoder=None)
    model.aspp.projection = Twice(model.aspp.projection)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    num_batch_norms = len(batch_norms(model))
    assert folding.fold_batch_norm(model) == 0
    assert len(batch_norms(model)) == num_batch_norms
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
