import pytest
import synthetic
import timm
import torch
from torch import nn

from pipeline.model import backbone
from pipeline.model.backbone import Backbone, set_batch_norm, unused_names
from pipeline.model.config import BatchNorm

# Channels at stride 4 and at the end, from the papers of the networks.
CHANNELS = {
    "resnet18": (64, 512),
    "resnet50": (256, 2048),
    "resnet101s": (256, 2048),
    "mobilenetv2_100": (24, 320),
    "xception65": (256, 2048),
}


def on_meta(name, output_stride):
    """A backbone that has shapes alone."""
    with torch.device("meta"):
        return Backbone(name, output_stride)


def shapes_of(module):
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", CHANNELS)
def test_features_are_at_stride_4_and_at_the_output_stride(name, output_stride):
    encoder = on_meta(name, output_stride)
    low_level_features, features = encoder(torch.zeros(2, 3, 65, 97, device="meta"))
    assert (encoder.low_level_channels, encoder.channels) == CHANNELS[name]
    assert low_level_features.shape == (2, CHANNELS[name][0], 17, 25)
    assert features.shape == (
        2,
        CHANNELS[name][1],
        64 // output_stride + 1,
        96 // output_stride + 1,
    )


@pytest.mark.parametrize("name", CHANNELS)
def test_the_weights_of_one_output_stride_fit_the_other(name):
    assert shapes_of(on_meta(name, 8)) == shapes_of(on_meta(name, 16))


def test_a_backbone_that_loses_weights_at_an_output_stride_is_refused():
    message = (
        r"xception71: timm leaves out 6 of its tensors at output_stride 8 \(blocks\.4\.shortcut"
    )
    with pytest.raises(ValueError, match=message):
        on_meta("xception71", 8)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100"])
def test_features_at_stride_16_are_every_other_feature_at_stride_8(name):
    dense = synthetic.scramble_batch_norm(Backbone(name, 8)).eval().double()
    sparse = Backbone(name, 16).eval().double()
    sparse.load_state_dict(dense.state_dict())
    with torch.inference_mode():
        images = torch.randn(1, 3, 65, 65, dtype=torch.float64)
        (dense_low, dense_features), (sparse_low, sparse_features) = dense(images), sparse(images)
    torch.testing.assert_close(dense_low, sparse_low)
    torch.testing.assert_close(dense_features[:, :, ::2, ::2], sparse_features)
    assert sparse_features.std() > 0


def test_low_level_features_of_a_resnet_are_the_result_of_its_first_stage():
    model = synthetic.scramble_batch_norm(Backbone("resnet18", 16)).eval()
    images = torch.randn(1, 3, 33, 33)
    stem = model.encoder.maxpool(model.encoder.act1(model.encoder.bn1(model.encoder.conv1(images))))
    torch.testing.assert_close(model(images)[0], model.encoder.layer1(stem))


@pytest.mark.parametrize("name", CHANNELS)
def test_a_classifier_is_all_that_published_weights_hold_beside_a_backbone(name):
    unused = unused_names(name)
    assert not unused & set(on_meta(name, 16).encoder.state_dict())
    classifier = timm.get_pretrained_cfg(name).classifier
    assert {f"{classifier}.weight", f"{classifier}.bias"} <= unused


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100"])
def test_no_parameter_is_left_that_the_features_do_not_need(name):
    model = synthetic.scramble_batch_norm(Backbone(name, 16))
    sum(features.square().mean() for features in model(torch.randn(2, 3, 65, 65))).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_batch_normalisation_is_set_everywhere_inside():
    model = Backbone("test_resnet", 16)
    set_batch_norm(model, BatchNorm(eps=0.25, momentum=0.125))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(layers) == 15
    assert {(layer.eps, layer.momentum) for layer in layers} == {(0.25, 0.125)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", "backbone resnet19: timm has no model of this name"),
        (
            "vit_tiny_patch16_224",
            "backbone vit_tiny_patch16_224: cannot be built at output_stride 16: .*output_stride",
        ),
        (
            "ghostnet_100",
            "backbone ghostnet_100: cannot be built at output_stride 16: .*not supported",
        ),
        ("convnext_atto", "backbone convnext_atto: has no batch normalisation to configure"),
    ],
)
def test_a_backbone_that_does_not_fit_is_named_with_the_reason(name, message):
    with pytest.raises(ValueError, match=message):
        on_meta(name, 16)


def test_a_model_that_refuses_in_silence_is_given_a_reason():
    with pytest.raises(ValueError, match=r"vgg11_bn: cannot be built at output_stride 16: \w"):
        on_meta("vgg11_bn", 16)


def test_an_unknown_tag_of_published_weights_is_an_error_of_the_user():
    with pytest.raises(ValueError, match=r"resnet18\.no_such_tag"):
        on_meta("resnet18.no_such_tag", 16)


# No model of timm that knows output_stride is like these two; one to come may be.


def with_stages(monkeypatch, change):
    def create_model(*args, **kwargs):
        model = timm.create_model(*args, **kwargs)
        model.feature_info = change(model.feature_info)
        return model

    monkeypatch.setattr(backbone, "create_model", create_model)


def test_a_model_without_features_at_stride_4_is_refused(monkeypatch):
    with_stages(monkeypatch, lambda stages: [s for s in stages if s["reduction"] != 4])
    with pytest.raises(ValueError, match=r"no features at stride 4.* at strides \[2, 8, 16, 16\]"):
        on_meta("test_resnet", 16)


def test_a_model_that_ends_at_another_stride_is_refused(monkeypatch):
    with_stages(monkeypatch, lambda stages: stages[:3])
    with pytest.raises(ValueError, match="last features are at stride 8, not at the output_strid"):
        on_meta("test_resnet", 16)
