import itertools
import math

import numpy as np
import pytest
import synthetic
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.model.config import BatchNorm
from pipeline.model.deeplab import Aspp, DecoderStage, ImagePooling, build, head_of
from pipeline.model.layers import ConvBnRelu, SeparableConvBnRelu, conv1x1, conv3x3, resize

ASPP = {
    "atrous_rates": [6, 12, 18],
    "image_pooling": True,
    "separable": False,
    "dropout": 0.0,
}
DECODER = {
    "projected_channels": 48,
    "kernel_size": 3,
    "channels": 256,
    "convolutions": 2,
    "separable": False,
}


def deeplab(*, output_stride=16, num_classes=3, seed=0, **changes):
    return build(
        synthetic.network(**changes),
        num_classes=num_classes,
        output_stride=output_stride,
        seed=seed,
    )


def on_meta(module, *args, **options):
    with torch.device("meta"):
        return module(*args, **options)


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def are_equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


# Sizes


@pytest.mark.parametrize("decoder", [synthetic.NETWORK["decoder"], None])
@pytest.mark.parametrize("size", [65, 129, 257])
def test_logits_have_the_size_of_the_images(size, decoder):
    model = deeplab(decoder=decoder).eval()
    with torch.inference_mode():
        logits = model(torch.randn(2, 3, size, size - 16))
    assert (logits.shape, logits.dtype) == ((2, 3, size, size - 16), torch.float32)


@pytest.mark.parametrize(
    ("decoder", "output_stride", "stride"),
    [(True, 8, 4), (True, 16, 4), (True, 32, 4), (False, 8, 8), (False, 16, 16), (False, 32, 32)],
)
@pytest.mark.parametrize("size", [65, 97, 70, 63])
def test_coarse_logits_have_the_size_divided_by_their_stride_and_rounded_up(
    size, decoder, output_stride, stride
):
    changes = {} if decoder else {"decoder": None}
    aspp = synthetic.NETWORK["aspp"] | {"atrous_rates": [2, 4, 6]}
    model = deeplab(output_stride=output_stride, aspp=aspp, **changes).eval()
    with torch.inference_mode():
        logits = model.coarse_logits(torch.randn(1, 3, size, 65))
    assert model.logits_stride == stride
    assert logits.shape == (1, 3, math.ceil(size / stride), math.ceil(65 / stride))


def test_logits_are_float32_though_the_network_computes_in_bfloat16():
    model = deeplab().eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model.coarse_logits(torch.randn(1, 3, 33, 33)).dtype == torch.bfloat16
        assert model(torch.randn(1, 3, 33, 33)).dtype == torch.float32


CONV3_AND_CONV2 = synthetic.NETWORK["decoder"] | {"low_level_strides": [8, 4], "convolutions": 1}


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("decoder", [synthetic.NETWORK["decoder"], CONV3_AND_CONV2, None])
@pytest.mark.parametrize("aspp", [synthetic.NETWORK["aspp"], None])
def test_gradients_reach_every_parameter(aspp, decoder, separable):
    model = synthetic.scramble_batch_norm(deeplab(aspp=aspp, decoder=decoder, separable=separable))
    model(torch.randn(2, 3, 65, 65)).square().mean().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


# Parameters, counted by hand for the paper's widths and 2048 channels at the end of the backbone


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Pooling and 1x1: 2 * (2048 * 256 + 2 * 256); 3x3: 3 * (9 * 2048 * 256 + 2 * 256);
        # projection: 5 * 256 * 256 + 2 * 256.
        ({}, 1_049_600 + 14_157_312 + 328_192),
        # 3x3: 3 * (9 * 2048 + 2 * 2048 + 2048 * 256 + 2 * 256).
        ({"separable": True}, 1_049_600 + 1_641_984 + 328_192),
        # Half of the first, and 256 * 256 less in the projection.
        ({"image_pooling": False}, 524_800 + 14_157_312 + 262_656),
        # The authors' MobileNetV2: pooling, 1x1, and a projection of 2 * 256.
        ({"atrous_rates": []}, 1_049_600 + 131_584),
    ],
)
def test_the_pyramid_has_as_many_parameters_as_counted_by_hand(changes, expected):
    assert num_parameters(on_meta(Aspp, 2048, 256, **(ASPP | changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 256 * 48 + 2 * 48; 9 * 304 * 256 + 2 * 256; 9 * 256 * 256 + 2 * 256.
        ({}, 12_384 + 700_928 + 590_336),
        ({"convolutions": 1}, 12_384 + 700_928),
        ({"convolutions": 3}, 12_384 + 700_928 + 2 * 590_336),
        # 256 * 32 + 2 * 32; 9 * 288 * 256 + 2 * 256.
        ({"projected_channels": 32}, 8_256 + 664_064 + 590_336),
        # 9 * 304 + 2 * 304 + 304 * 256 + 2 * 256; 9 * 256 + 2 * 256 + 256 * 256 + 2 * 256.
        ({"separable": True}, 12_384 + 81_680 + 68_864),
        # 9 * 304 * 128 + 2 * 128; 304 * 256 + 2 * 256.
        ({"convolutions": 1, "channels": 128}, 12_384 + 350_464),
        ({"convolutions": 1, "kernel_size": 1}, 12_384 + 78_336),
    ],
)
def test_the_decoder_has_as_many_parameters_as_counted_by_hand(changes, expected):
    assert num_parameters(on_meta(DecoderStage, 256, 256, **(DECODER | changes))) == expected


def test_the_decoder_with_conv3_and_conv2_has_as_many_parameters_as_counted_by_hand():
    decoder = {"low_level_strides": [8, 4], "low_level_channels": 48, "kernel_size": 3}
    decoder |= {"channels": 256, "convolutions": 1}
    aspp = synthetic.NETWORK["aspp"] | {"channels": 256}
    with torch.device("meta"):
        model = deeplab(backbone="resnet50", decoder=decoder, aspp=aspp)
    # Conv3: 512 * 48 + 2 * 48; Conv2: 256 * 48 + 2 * 48; twice 9 * 304 * 256 + 2 * 256.
    assert num_parameters(model.decoder) == 24_672 + 12_384 + 2 * 700_928


def test_the_classifier_has_one_kernel_and_one_bias_for_each_class():
    assert num_parameters(deeplab(num_classes=21).classifier) == 16 * 21 + 21


# Atrous convolution


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_atrous_convolution_is_the_sum_of_the_papers_first_equation(rate):
    random = np.random.default_rng(0)
    maps, kernel = random.normal(size=(2, 7, 8)), random.normal(size=(3, 2, 3, 3))
    expected = np.zeros((3, 7, 8))
    for i, j, k, m in itertools.product(range(7), range(8), range(3), range(3)):
        row, column = i + rate * (k - 1), j + rate * (m - 1)  # x[i + r * k], k counted from the tap
        if 0 <= row < 7 and 0 <= column < 8:
            expected[:, i, j] += kernel[:, :, k, m] @ maps[:, row, column]
    layer = conv3x3(2, 3, atrous_rate=rate, separable=False).double().eval()
    layer.convolution.weight.data = torch.from_numpy(kernel)
    layer.batch_norm.eps = 0.0
    actual = layer(torch.from_numpy(maps)[None])[0]
    np.testing.assert_allclose(actual.detach(), expected.clip(min=0.0), atol=1e-12)


def test_a_separable_convolution_is_depthwise_then_pointwise_with_a_relu_after_each():
    layer = conv3x3(4, 6, atrous_rate=2, separable=True).eval()
    depthwise, pointwise = layer.depthwise.convolution.weight, layer.pointwise.convolution.weight
    assert (depthwise.shape, pointwise.shape) == ((4, 1, 3, 3), (6, 4, 1, 1))
    maps = torch.randn(2, 4, 9, 9)
    shrunk = 1 / math.sqrt(1 + layer.depthwise.batch_norm.eps)  # of untouched batch normalisation
    filtered = F.conv2d(maps, depthwise, padding=2, dilation=2, groups=4).relu() * shrunk
    expected = F.conv2d(filtered, pointwise).relu() * shrunk
    torch.testing.assert_close(layer(maps), expected)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize(
    ("output_stride", "expected"), [(16, [6, 12, 18]), (8, [12, 24, 36]), (32, [3, 6, 9])]
)
def test_atrous_rates_are_doubled_at_output_stride_8_and_halved_at_32(
    output_stride, expected, separable
):
    aspp = synthetic.NETWORK["aspp"] | {"atrous_rates": [6, 12, 18]}
    model = deeplab(output_stride=output_stride, separable=separable, aspp=aspp)
    convolutions = [m for m in model.aspp.branches.modules() if isinstance(m, nn.Conv2d)]
    wide = [m for m in convolutions if m.kernel_size == (3, 3)]
    assert [m.dilation for m in wide] == [(rate, rate) for rate in expected]
    assert [m.padding for m in wide] == [(rate, rate) for rate in expected]


def test_rates_that_cannot_be_halved_are_refused_at_output_stride_32():
    with pytest.raises(ValueError, match=r"atrous_rates: \[1, 2, 3\] are for output_stride 16; h"):
        deeplab(output_stride=32)


def test_logits_at_output_stride_16_are_every_other_one_at_8():
    aspp = synthetic.NETWORK["aspp"] | {"image_pooling": False}
    changes = {"backbone": "resnet18", "aspp": aspp, "decoder": None}
    dense, sparse = (deeplab(output_stride=s, **changes).eval().double() for s in (8, 16))
    synthetic.scramble_batch_norm(dense)
    sparse.load_state_dict(dense.state_dict())
    images = torch.randn(1, 3, 65, 65, dtype=torch.float64)
    with torch.inference_mode():
        expected = dense.coarse_logits(images)[:, :, ::2, ::2]
        torch.testing.assert_close(sparse.coarse_logits(images), expected)


# Parts


def test_image_pooling_is_the_mean_of_the_whole_map_everywhere():
    layer = ImagePooling(4, 6).eval()
    features = torch.randn(2, 4, 5, 7)
    pooled = layer(features)
    assert pooled.shape == (2, 6, 5, 7)
    expected = layer.convolution(features.mean((2, 3))[:, :, None, None])
    assert torch.equal(pooled, expected.expand_as(pooled))


def test_the_pyramid_joins_pooling_then_1x1_then_the_rates_ascending():
    aspp = Aspp(4, 6, **(ASPP | {"atrous_rates": [1, 2, 3]})).eval()
    features = torch.randn(2, 4, 9, 9)
    pooling, *convolutions = aspp.branches
    assert isinstance(pooling, ImagePooling)
    kernels = [m.convolution for m in convolutions]
    assert [(m.kernel_size[0], m.dilation[0]) for m in kernels] == [(1, 1), (3, 1), (3, 2), (3, 3)]
    joined = torch.cat([pooling(features), *(branch(features) for branch in convolutions)], 1)
    assert torch.equal(aspp(features), aspp.projection(joined))


def test_dropout_is_after_the_projection():
    aspp = Aspp(4, 6, **(ASPP | {"dropout": 0.5}))
    features = torch.randn(2, 4, 9, 9)
    torch.manual_seed(0)
    joined = torch.cat([branch(features) for branch in aspp.branches], 1)
    expected = F.dropout(aspp.projection(joined), 0.5)
    torch.manual_seed(0)
    actual = aspp(features)
    assert torch.equal(actual, expected)
    assert torch.equal(aspp.eval()(features), aspp(features))


def test_the_decoder_refines_upsampled_features_beside_48_low_level_channels():
    model = deeplab().eval()
    seen = []
    (stage,) = model.decoder.stages
    stage.refinement[0].register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))
    images = torch.randn(1, 3, 65, 65)
    model(images)
    (low_level_features,), features = model.backbone(images)
    upsampled = F.interpolate(model.aspp(features), (17, 17), mode="bilinear", align_corners=True)
    assert seen[0].shape == (1, 16 + 48, 17, 17)
    torch.testing.assert_close(seen[0][:, :16], upsampled)
    torch.testing.assert_close(seen[0][:, 16:], stage.low_level_projection(low_level_features))


def test_conv3_is_taken_in_at_stride_8_and_then_conv2_at_stride_4():
    model = deeplab(decoder=CONV3_AND_CONV2).eval()
    images = torch.randn(1, 3, 65, 65)
    (conv3, conv2), features = model.backbone(images)
    assert (conv3.shape[2:], conv2.shape[2:]) == ((9, 9), (17, 17))
    coarse, fine = model.decoder.stages
    refined = coarse(model.aspp(features), conv3)
    assert refined.shape == (1, 16, 9, 9)
    expected = model.classifier(fine(refined, conv2))
    torch.testing.assert_close(model.coarse_logits(images), expected)


def test_without_a_pyramid_the_decoder_refines_the_features_themselves():
    model = deeplab(aspp=None).eval()
    images = torch.randn(1, 3, 65, 65)
    low_level_features, features = model.backbone(images)
    expected = model.classifier(model.decoder(features, low_level_features))
    assert model.aspp is None
    torch.testing.assert_close(model.coarse_logits(images), expected)


def test_without_a_decoder_logits_are_classified_features_upsampled():
    model = deeplab(decoder=None).eval()
    images = torch.randn(1, 3, 65, 65)
    classified = model.classifier(model.aspp(model.backbone(images)[1]))
    assert model.decoder is None
    expected = F.interpolate(classified, (65, 65), mode="bilinear", align_corners=True)
    torch.testing.assert_close(model(images), expected)


def test_resizing_keeps_the_corners_and_halves_the_steps():
    maps = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    expected = [[0.0, 2.0, 4.0], [4.0, 6.0, 8.0], [8.0, 10.0, 12.0]]
    assert resize(maps, 3, 3)[0, 0].tolist() == expected
    assert resize(maps, 2, 2) is maps


# Building


def test_a_seed_gives_the_weights_and_leaves_torchs_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (weights_of(deeplab(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert are_equal(first, again)
    for name in ("backbone.encoder.conv1.0.weight", "aspp.projection.convolution.weight"):
        assert not torch.equal(first[name], other[name])


def test_weights_do_not_depend_on_what_torch_drew_before():
    torch.manual_seed(1)
    first = weights_of(deeplab())
    torch.manual_seed(2)
    assert are_equal(weights_of(deeplab()), first)


def test_kernels_lie_channels_last_in_memory():
    kernels = [p for p in deeplab().parameters() if p.ndim == 4]
    assert all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)


def test_batch_normalisation_is_configured_for_each_part():
    backbone, head = BatchNorm(eps=0.5, momentum=0.25), BatchNorm(eps=0.125, momentum=0.0625)
    model = deeplab(
        backbone_batch_norm=backbone.model_dump(), head_batch_norm=head.model_dump(), separable=True
    )
    for parts, config in (([model.backbone], backbone), (head_of(model), head)):
        layers = [m for part in parts for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {(m.eps, m.momentum) for m in layers} == {(config.eps, config.momentum)}


def test_the_head_is_all_that_is_not_the_backbone():
    assert [type(part).__name__ for part in head_of(deeplab())] == ["Aspp", "Decoder", "Conv2d"]
    assert [type(part).__name__ for part in head_of(deeplab(decoder=None))] == ["Aspp", "Conv2d"]


def kernels(model, kind):
    """Initial kernels of the head: depthwise, the pointwise after them, or all else."""
    separable = [m for part in head_of(model) for m in part.modules()]
    separable = [m for m in separable if isinstance(m, SeparableConvBnRelu)]
    of_kind = {
        "depthwise": [m.depthwise.convolution.weight for m in separable],
        "pointwise": [m.pointwise.convolution.weight for m in separable],
        "classifier": [model.classifier.weight],
    }
    return of_kind[kind]


@pytest.mark.parametrize(
    ("kind", "std"), [("depthwise", 0.33), ("pointwise", 0.06), ("classifier", 0.01)]
)
def test_initial_weights_are_normal_and_cut_at_two_standard_deviations(kind, std):
    drawn = torch.cat([w.flatten() for w in kernels(deeplab(separable=True, num_classes=21), kind)])
    assert 1.8 * std < drawn.abs().max() <= 2 * std
    assert drawn.std().item() == pytest.approx(0.88 * std, rel=0.1)  # of a normal cut at 2
    assert drawn.mean().item() == pytest.approx(0.0, abs=0.15 * std)


def test_other_initial_weights_are_xaviers_and_biases_zero():
    model = deeplab()
    assert not model.classifier.bias.any()
    convolutions = [m for part in (model.aspp, model.decoder) for m in part.modules()]
    for layer in (m for m in convolutions if isinstance(m, ConvBnRelu)):
        kernel = layer.convolution.weight
        limit = math.sqrt(6 / ((kernel.shape[0] + kernel.shape[1]) * kernel[0, 0].numel()))
        assert 0.9 * limit < kernel.abs().max() <= limit


def test_a_convolution_has_no_bias_beside_its_batch_normalisation():
    assert conv1x1(2, 3).convolution.bias is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low_level_strides": [4, 8]}, r"low_level_strides: \[4, 8\] must descend"),
        ({"low_level_strides": [4, 4]}, r"low_level_strides: \[4, 4\] must descend"),
        ({"low_level_strides": [16]}, "Input should be 4 or 8"),
        ({"kernel_size": 5}, "Input should be 1 or 3"),
    ],
)
def test_a_decoder_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        synthetic.network(decoder=synthetic.NETWORK["decoder"] | changes)


def test_a_separable_1x1_convolution_is_refused():
    decoder = synthetic.NETWORK["decoder"] | {"kernel_size": 1}
    with pytest.raises(ValueError, match=r"separable: a convolution of decoder.kernel_size 1"):
        synthetic.network(decoder=decoder, separable=True)


def test_an_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="backbone resnet19: timm has no model of this name"):
        deeplab(backbone="resnet19")
