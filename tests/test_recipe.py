import math

import numpy as np
import pytest
import synthetic
import torch
from synthetic import VOID
from torch.nn import functional as F

from pipeline.model import deeplab
from pipeline.training import class_weights, recipe
from pipeline.training.recipe import (
    build_optimiser,
    learning_rate,
    set_learning_rate,
)


def cross_entropy(logits, labels, ignore_index, weights=None):
    """The loss of a batch that is a single part."""
    total = recipe.total_weight(labels, ignore_index, weights)
    return recipe.cross_entropy(logits, labels, ignore_index, weights, total)


def build(**changes):
    return deeplab.build(synthetic.network(**changes), num_classes=3, output_stride=16, seed=0)


def grouped(model, optimiser):
    """(multiplier, weight decay) by name of parameter."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["multiplier"], group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }


# Loss


def test_the_loss_is_the_mean_over_pixels_that_are_not_void():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 3)
    labels = torch.tensor([[[0, 1, VOID], [2, VOID, VOID]], [[1, 1, 0], [2, 2, 1]]])
    losses = []
    for n, row, column in (labels != VOID).nonzero().tolist():
        exponentials = [math.exp(value) for value in logits[n, :, row, column].tolist()]
        share = exponentials[labels[n, row, column]] / sum(exponentials)
        losses.append(-math.log(share))
    assert len(losses) == 9
    expected = pytest.approx(sum(losses) / 9, rel=1e-6)
    assert cross_entropy(logits, labels, VOID).item() == expected


def test_the_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    loss = cross_entropy(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [VOID, 3]]]), VOID)
    assert loss.item() == pytest.approx(1.3862944)


def test_logits_at_void_pixels_do_not_matter():
    labels = torch.tensor([[[0, VOID]]])
    one, other = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    other[0, :, 0, 1] = torch.tensor([50.0, -50.0])
    assert torch.equal(cross_entropy(one, labels, VOID), cross_entropy(other, labels, VOID))


def test_the_loss_of_a_batch_that_is_all_void_is_zero_with_zero_gradients():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 4, 4), VOID), VOID)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(2, 3, 4, 4))


def test_another_void_value_is_as_good():
    logits = torch.randn(1, 3, 1, 2)
    ours = cross_entropy(logits, torch.tensor([[[1, 254]]]), 254)
    assert torch.equal(ours, cross_entropy(logits, torch.tensor([[[1, VOID]]]), VOID))


# Class weights


def weights_of(given, *labels):
    training = synthetic.training(class_weights=given)
    planes = [np.array(label, np.uint8) for label in labels]
    return class_weights.resolve(training, synthetic.CLASSES, planes)


def test_the_weighted_loss_is_torchs_weighted_mean():
    torch.manual_seed(0)
    logits, weights = torch.randn(2, 3, 4, 4), torch.tensor([0.5, 2.0, 0.0])
    labels = torch.tensor([0, 1, 2, VOID]).repeat(2, 4, 1)
    expected = F.cross_entropy(logits, labels, weight=weights, ignore_index=VOID)
    assert cross_entropy(logits, labels, VOID, weights).item() == pytest.approx(expected.item())


def test_equal_class_weights_are_none_whatever_they_are():
    logits, labels = torch.randn(1, 3, 1, 3), torch.tensor([[[0, 2, VOID]]])
    ours = cross_entropy(logits, labels, VOID, torch.full((3,), 7.0))
    torch.testing.assert_close(ours, cross_entropy(logits, labels, VOID))


@pytest.mark.parametrize("label", [VOID, 1])
def test_a_batch_without_any_weight_has_loss_zero_and_zero_gradients(label):
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2, 2), label), VOID, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(1, 2, 2, 2))


def test_without_class_weights_no_label_is_read():
    def unreadable():
        raise AssertionError
        yield

    resolved = class_weights.resolve(synthetic.training(), synthetic.CLASSES, unreadable())
    assert resolved is None


def test_weights_balance_the_median_frequency():
    # Background: 3 of 6 and 4 of 4 pixels, 7/10. Cat: 2 of 6. Dog: 1 of 6. The median is 1/3.
    found = weights_of("frequency", [[0, 0, 0, 1, 1, 2, VOID]], [[0, 0, 0, 0]])
    assert found == pytest.approx([(1 / 3) / (7 / 10), 1.0, 2.0])


def test_balancing_weights_are_bounded_and_an_absent_class_weighs_one():
    plane = [0] * 999 + [1]
    assert weights_of("frequency", [plane]) == pytest.approx([0.5 / 0.999, 10.0, 1.0])
    few = [0] * 9_999 + [1] + [2] * 2
    assert weights_of("frequency", [few]) == pytest.approx([0.1, 2.0, 1.0], rel=1e-3)


def test_balancing_needs_a_labelled_pixel():
    with pytest.raises(ValueError, match="all pixels of all labels are void"):
        weights_of("frequency", [[VOID]])


def test_weights_may_be_given():
    assert weights_of([1.0, 0.0, 3]) == [1.0, 0.0, 3.0]


@pytest.mark.parametrize("given", [[1.0], [1.0] * 4, [0.0] * 3])
def test_given_weights_must_fit_the_classes(given):
    with pytest.raises(ValueError, match=r"a weight for each of 3 classes .* one of them positive"):
        weights_of(given)


# Schedule


@pytest.mark.parametrize(
    ("power", "iteration", "expected"),
    [
        (2.0, 0, 0.08),
        (2.0, 25, 0.045),  # 0.75 ** 2 of 0.08
        (2.0, 50, 0.02),
        (2.0, 99, 0.000008),
        (0.9, 50, 0.0428709385),  # 0.5 ** 0.9 = 0.535886731
        (1.0, 90, 0.008),
    ],
)
def test_the_learning_rate_falls_by_the_poly_schedule(power, iteration, expected):
    recipe = synthetic.training(base_learning_rate=0.08, max_iterations=100, power=power)
    assert learning_rate(iteration, recipe) == pytest.approx(expected, rel=1e-7)


# Optimiser


def test_weight_decay_is_on_dense_and_pointwise_kernels_alone():
    model = build(backbone="mobilenetv2_035", separable=True)
    groups = grouped(model, build_optimiser(model, synthetic.training(weight_decay=0.25)))
    decayed = {name for name, (_, weight_decay) in groups.items() if weight_decay}
    parameters = dict(model.named_parameters())
    kernels = {name for name, p in parameters.items() if p.ndim == 4}
    depthwise = {name for name in kernels if ".conv_dw." in name or ".depthwise." in name}
    assert decayed == kernels - depthwise
    assert len(depthwise) == 17 + 5  # one in each block; three branches and two in the decoder
    assert all(parameters[name].shape[1] == 1 for name in depthwise)
    assert {groups[name][1] for name in decayed} == {0.25}


def test_every_parameter_is_in_one_group():
    model = build()
    optimiser = build_optimiser(model, synthetic.training())
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    assert len(trained) == len(set(trained)) == len(list(model.parameters()))


def test_multipliers_are_of_the_backbone_and_of_the_bias_of_the_logits():
    model = build()
    recipe = synthetic.training(
        backbone_learning_rate_multiplier=0.1, bias_learning_rate_multiplier=3.0
    )
    groups = grouped(model, build_optimiser(model, recipe))
    for name, (multiplier, _) in groups.items():
        in_backbone = name.startswith("backbone.")
        expected = 0.1 if in_backbone else 3.0 if name == "classifier.bias" else 1.0
        assert (name, multiplier) == (name, expected)


def test_a_rate_is_set_times_each_groups_multiplier():
    model = build()
    recipe = synthetic.training(
        backbone_learning_rate_multiplier=0.5, bias_learning_rate_multiplier=2.0
    )
    optimiser = build_optimiser(model, recipe)
    set_learning_rate(optimiser, 0.25)
    assert {group["lr"] for group in optimiser.param_groups} == {0.125, 0.25, 0.5}


def test_two_steps_are_those_counted_by_hand():
    model = build()
    recipe = synthetic.training(momentum=0.9, weight_decay=0.01, bias_learning_rate_multiplier=2.0)
    optimiser = build_optimiser(model, recipe)
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    for rate in (0.1, 0.05):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        set_learning_rate(optimiser, rate)
        optimiser.step()
    # Kernel: velocity 0.5 + 0.01 * 1 = 0.51, weight 1 - 0.1 * 0.51 = 0.949; then
    # 0.9 * 0.51 + 0.5 + 0.01 * 0.949 = 0.96849, and 0.949 - 0.05 * 0.96849.
    assert model.classifier.weight.unique().tolist() == [pytest.approx(0.9005755)]
    # Bias: no decay and twice the rate: 0.5, 1 - 0.2 * 0.5 = 0.9; 0.95, and 0.9 - 0.1 * 0.95.
    assert model.classifier.bias.unique().tolist() == [pytest.approx(0.805)]
    # Batch normalisation: no decay: 0.5, 1 - 0.1 * 0.5 = 0.95; 0.95, and 0.95 - 0.05 * 0.95.
    scale = model.aspp.projection.batch_norm.weight
    assert scale.unique().tolist() == [pytest.approx(0.9025)]
