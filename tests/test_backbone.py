import pytest
import synthetic
import timm
import torch
from torch import nn

from pipeline.model import backbone
from pipeline.model.backbone import Backbone, set_batch_norm, unused_names
from pipeline.model.config import BatchNorm

# Channels at strides 4 and 8 and at the end, from the papers of the networks.
CHANNELS = {
    "resnet18": (64, 128, 512),
    "resnet50": (256, 512, 2048),
    "resnet101": (256, 512, 2048),
    "resnet101c": (256, 512, 2048),
    "resnet101s": (256, 512, 2048),
    "resnet50_beta": (256, 512, 2048),
    "resnet101_beta": (256, 512, 2048),
    "mobilenetv2_100": (24, 32, 320),
    "xception41": (256, 728, 2048),
    "xception65": (256, 728, 2048),
    "xception71": (256, 728, 2048),
}


def built(name, output_stride, *, multi_grid=None, low_level_strides=(4,)):
    return Backbone(name, output_stride, multi_grid=multi_grid, low_level_strides=low_level_strides)


def on_meta(name, output_stride, **options):
    """A backbone that has shapes alone."""
    with torch.device("meta"):
        return built(name, output_stride, **options)


def shapes_of(module):
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", CHANNELS)
def test_features_are_at_strides_4_and_8_and_at_the_output_stride(name, output_stride):
    at_4, at_8, last = CHANNELS[name]
    encoder = on_meta(name, output_stride, low_level_strides=[8, 4])
    low_level_features, features = encoder(torch.zeros(2, 3, 65, 97, device="meta"))
    assert (encoder.low_level_channels, encoder.channels) == ([at_8, at_4], last)
    assert [f.shape for f in low_level_features] == [(2, at_8, 9, 13), (2, at_4, 17, 25)]
    assert features.shape == (2, last, 64 // output_stride + 1, 96 // output_stride + 1)


@pytest.mark.parametrize("size", [(257, 257), (513, 513), (769, 769), (1025, 2049)])
def test_features_have_the_sizes_of_the_papers_crops(size):
    low_level, features = on_meta("xception65", 16)(torch.zeros(1, 3, *size, device="meta"))
    assert low_level[0].shape[2:] == tuple((side - 1) // 4 + 1 for side in size)
    assert features.shape[2:] == tuple((side - 1) // 16 + 1 for side in size)


@pytest.mark.parametrize("name", CHANNELS)
def test_the_weights_of_one_output_stride_fit_the_others(name):
    shapes = shapes_of(on_meta(name, 16))
    assert shapes == shapes_of(on_meta(name, 8)) == shapes_of(on_meta(name, 32))


@pytest.mark.parametrize("multi_grid", [None, [1, 2, 4]])
@pytest.mark.parametrize("name", ["resnet50_beta", "resnet50"])
def test_multi_grid_multiplies_the_rates_of_a_resnets_last_block(name, multi_grid):
    for output_stride, rate in ((16, 2), (8, 4), (32, 1)):
        encoder = on_meta(name, output_stride, multi_grid=multi_grid).encoder
        rates = [unit.conv2.dilation[0] for unit in encoder.layer4]
        if multi_grid:
            assert rates == [rate, 2 * rate, 4 * rate]
        else:
            assert rates[1:] == [rate, rate]
        assert [unit.conv2.padding[0] for unit in encoder.layer4] == rates


def test_multi_grid_is_for_units_of_two_convolutions_too():
    encoder = on_meta("resnet18", 16, multi_grid=[1, 2]).encoder
    convolutions = [(unit.conv1, unit.conv2) for unit in encoder.layer4]
    assert [[c.dilation[0] for c in pair] for pair in convolutions] == [[2, 2], [4, 4]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("xception65", "xception65: multi_grid is for ResNets; it must be null here"),
        ("resnet18", r"resnet18: multi_grid is \[1, 2, 4\], but the last block has 2 units"),
    ],
)
def test_a_multi_grid_that_does_not_fit_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        on_meta(name, 16, multi_grid=[1, 2, 4])


@pytest.mark.parametrize(("dense", "sparse"), [(8, 16), (16, 32)])
@pytest.mark.parametrize(
    ("name", "multi_grid"),
    [
        ("resnet18", None),
        ("mobilenetv2_100", None),
        ("resnet50_beta", [1, 2, 4]),
        ("xception41", None),
        ("xception71", None),
    ],
)
def test_features_at_an_output_stride_are_every_other_one_at_half_of_it(
    name, multi_grid, dense, sparse
):
    finer, coarser = (
        synthetic.scramble_batch_norm(built(name, stride, multi_grid=multi_grid)).eval().double()
        for stride in (dense, sparse)
    )
    coarser.load_state_dict(finer.state_dict())
    with torch.inference_mode():
        images = torch.randn(1, 3, 65, 65, dtype=torch.float64)
        (finer_low, finer_features), (coarser_low, coarser_features) = (
            finer(images),
            coarser(images),
        )
    torch.testing.assert_close(finer_low, coarser_low)
    torch.testing.assert_close(finer_features[:, :, ::2, ::2], coarser_features)
    assert coarser_features.std() > 0


def test_low_level_features_of_a_resnet_are_the_result_of_its_first_stage():
    model = synthetic.scramble_batch_norm(built("resnet18", 16)).eval()
    images = torch.randn(1, 3, 33, 33)
    stem = model.encoder.maxpool(model.encoder.act1(model.encoder.bn1(model.encoder.conv1(images))))
    torch.testing.assert_close(model(images)[0], [model.encoder.layer1(stem)])


@pytest.mark.parametrize("name", CHANNELS)
def test_a_classifier_is_all_that_published_weights_hold_beside_a_backbone(name):
    unused = unused_names(name)
    assert not unused & set(on_meta(name, 16).encoder.state_dict())
    classifier = timm.get_pretrained_cfg(name.replace("_beta", "s")).classifier
    assert {f"{classifier}.weight", f"{classifier}.bias"} <= unused


@pytest.mark.parametrize("name", ["resnet18", "resnet50_beta", "mobilenetv2_100", "xception41"])
def test_no_parameter_is_left_that_the_features_do_not_need(name):
    model = synthetic.scramble_batch_norm(built(name, 16))
    low_level_features, features = model(torch.randn(2, 3, 65, 65))
    (low_level_features[0].square().mean() + features.square().mean()).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_batch_normalisation_is_set_everywhere_inside():
    model = built("test_resnet", 16)
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
            "backbone vit_tiny_patch16_224: cannot be built at output_stride 16: timm has it at no",
        ),
        (
            "ghostnet_100",
            "backbone ghostnet_100: cannot be built at output_stride 16: .*not supported",
        ),
        (
            "densenet121",
            "backbone densenet121: cannot be built at output_stride 16: timm has it at no output",
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


def test_a_network_that_takes_no_odd_sizes_is_refused():
    with pytest.raises(ValueError, match=r"hrnet_w18_small: takes no images of k . stride . 1"):
        on_meta("hrnet_w18_small", 32)


def test_a_network_that_cuts_the_last_pixel_off_is_refused():
    message = "vgg11_bn: gives features of 2 pixels for an image of 65; 3 are needed"
    with pytest.raises(ValueError, match=message):
        on_meta("vgg11_bn", 32)


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
    with pytest.raises(ValueError, match=r"no features at stride 4.* at strides \[2, 8, 16, 32\]"):
        on_meta("test_resnet", 16)


def test_a_model_that_ends_at_another_stride_is_refused(monkeypatch):
    with_stages(monkeypatch, lambda stages: stages[:3])
    with pytest.raises(ValueError, match="last features are at stride 8, not at the output_strid"):
        on_meta("test_resnet", 16)
