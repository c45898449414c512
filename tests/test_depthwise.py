import copy

import pytest
import synthetic
import torch
from torch import nn

from pipeline.model import deeplab, depthwise
from pipeline.model.depthwise import DepthwiseConv2d


def atrous(rate, kernel_size=3, bias=True, channels=5):
    torch.manual_seed(0)
    padding = rate * (kernel_size // 2)
    arguments = {"padding": padding, "dilation": rate, "groups": channels, "bias": bias}
    return nn.Conv2d(channels, channels, kernel_size, **arguments).eval()


def strided(stride, kernel_size=3, bias=True, channels=5):
    torch.manual_seed(0)
    arguments = {"padding": kernel_size // 2, "stride": stride, "groups": channels, "bias": bias}
    return nn.Conv2d(channels, channels, kernel_size, **arguments).eval()


def replaced(convolution):
    model = nn.Sequential(copy.deepcopy(convolution))
    depthwise.replace(model)
    assert type(model[0]) is DepthwiseConv2d
    return model[0]


def random_maps(*shape, dtype=torch.float32):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return maps.contiguous(memory_format=torch.channels_last)


def gradients(layer, maps):
    """The result, and the gradients of maps and parameters for a fixed gradient of the result."""
    maps = maps.clone().requires_grad_()
    result = layer(maps)
    result.backward(random_maps(*result.shape, dtype=result.dtype).roll(1, 1))
    return [result.detach(), maps.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("rate", [2, 7, 12, 40])
@pytest.mark.parametrize(("height", "width"), [(33, 33), (20, 9), (7, 8), (1, 1), (1, 41)])
@pytest.mark.parametrize(("kernel_size", "bias"), [(3, True), (3, False), (5, True)])
def test_result_and_gradients_are_those_of_the_convolution(rate, height, width, kernel_size, bias):
    convolution = atrous(rate, kernel_size, bias)
    maps = random_maps(2, 5, height, width)
    found, expected = gradients(replaced(convolution), maps), gradients(convolution, maps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert found[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize(("height", "width"), [(33, 33), (20, 9), (7, 8), (1, 1), (1, 41)])
@pytest.mark.parametrize(("kernel_size", "bias"), [(3, True), (3, False), (5, True)])
def test_result_and_gradients_of_a_strided_convolution_are_torchs(
    stride, height, width, kernel_size, bias
):
    convolution = strided(stride, kernel_size, bias)
    maps = random_maps(2, 5, height, width)
    found, expected = gradients(replaced(convolution), maps), gradients(convolution, maps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "convolution", [atrous(2, channels=2), atrous(7, channels=2), strided(2, channels=2)]
)
def test_gradients_are_those_of_small_differences(convolution):
    layer = replaced(convolution.double())
    maps = random_maps(1, 2, 9, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (maps,))
    assert torch.autograd.gradcheck(
        lambda weight, bias: torch.func.functional_call(
            layer, {"weight": weight, "bias": bias}, maps
        ),
        tuple(layer.parameters()),
    )


def test_a_tap_that_is_far_away_is_counted_where_it_is_inside():
    convolution = atrous(7, bias=False, channels=1)
    convolution.weight.data = torch.tensor([[[[0.0, 0, 0], [0, 1, 0], [0, 0, 10]]]])
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, 8, 7] = 3.0
    found = replaced(convolution)(maps)
    assert found[0, 0, 8, 7] == 3.0
    assert found[0, 0, 1, 0] == 30.0  # 7 up and 7 to the left of it
    assert found.sum() == 33.0


# Wide enough for torch's own gradient in bfloat16 to be what was in memory before.
@pytest.mark.parametrize("side", [17, 33, 65])
@pytest.mark.parametrize(("kind", "number"), [(atrous, 2), (atrous, 6), (atrous, 12), (strided, 2)])
def test_gradients_in_bfloat16_are_near_those_in_float32(kind, number, side):
    convolution = kind(number, channels=32, bias=False)
    weight = convolution.weight.data = convolution.weight.data.bfloat16().float()
    maps = random_maps(2, 32, side, side, dtype=torch.bfloat16)
    layer = replaced(convolution)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(layer, maps.float())
    assert [one.dtype for one in found] == [torch.bfloat16, torch.float32, weight.dtype]
    expected = gradients(convolution, maps.float())
    for ours, right in zip(found, expected, strict=True):
        assert (ours - right).abs().max() <= 0.01 * right.abs().max()


@torch.inference_mode()
def test_a_model_of_bfloat16_sums_in_float32_and_rounds_once():
    convolution = atrous(7).to(torch.bfloat16)
    maps = random_maps(1, 5, 20, 30, dtype=torch.bfloat16)
    found = replaced(convolution)(maps)
    expected = copy.deepcopy(convolution).float()(maps.float()).to(torch.bfloat16)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=0.0)  # a unit in the last place
    assert (found == expected).float().mean() > 0.99


OTHERS = [
    nn.Conv2d(4, 4, 3, padding=1, groups=4),  # neither atrous nor of a stride
    nn.Conv2d(4, 4, 3, padding=12, dilation=12),  # not depthwise
    nn.Conv2d(4, 8, 3, padding=12, dilation=12, groups=4),
    nn.Conv2d(4, 4, 3, padding=12, dilation=12, groups=4, stride=2),  # both
    nn.Conv2d(4, 4, 3, stride=2, groups=4),  # padded by someone else
    nn.Conv2d(4, 4, 3, padding=11, dilation=12, groups=4),  # gives a smaller map
    nn.Conv2d(4, 4, 3, padding=12, dilation=12, groups=4, padding_mode="reflect"),
    nn.Conv2d(4, 4, 3, padding="same", dilation=12, groups=4),
]


def test_only_what_computes_the_same_is_replaced():
    model = nn.Sequential(*OTHERS, nn.Sequential(atrous(12), strided(2)))
    before = dict(model.named_parameters())
    depthwise.replace(model)
    assert [type(module) for module in model[:-1]] == [nn.Conv2d] * len(OTHERS)
    assert [type(module) for module in model[-1]] == [DepthwiseConv2d] * 2
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_a_network_whose_gradients_would_be_wrong_in_bfloat16_is_refused():
    depthwise.require_right_gradients(nn.Sequential(*OTHERS[:2], replaced(atrous(2))))
    with pytest.raises(ValueError, match=r"bfloat16 on a CPU .* 0\.1, .* of 2 groups; set float32"):
        depthwise.require_right_gradients(
            nn.Sequential(nn.Sequential(OTHERS[0], nn.Conv2d(4, 4, 3, dilation=2, groups=2)))
        )


@torch.inference_mode()
def test_aspp_of_the_paper_has_the_same_logits():
    aspp = synthetic.NETWORK["aspp"] | {"atrous_rates": [6, 12, 18]}
    described = synthetic.network(separable=True, aspp=aspp)
    model = deeplab.build(described, num_classes=3, output_stride=16, seed=1)
    synthetic.scramble_batch_norm(model).eval()
    images = random_maps(2, 3, 257, 193)
    expected = model.coarse_logits(images)
    depthwise.replace(model)
    assert sum(isinstance(module, DepthwiseConv2d) for module in model.modules()) == 3
    found = model.coarse_logits(images)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
