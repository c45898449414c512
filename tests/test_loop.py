import copy

import pytest
import synthetic
import torch
from synthetic import VOID
from torch.nn import functional as F

from pipeline.data import batches
from pipeline.data.images import normalise
from pipeline.model import deeplab
from pipeline.model.depthwise import DepthwiseConv2d
from pipeline.model.layers import Dropout
from pipeline.training import loop
from pipeline.training.keeper import Keeper
from pipeline.training.recipe import learning_rate, prepare
from pipeline.training.team import Team

CPU = torch.device("cpu")
WITHOUT_DROPOUT = {"aspp": synthetic.NETWORK["aspp"] | {"dropout": 0.0}}


def build(**changes):
    return deeplab.build(synthetic.network(**changes), num_classes=3, output_stride=16, seed=0)


def train(
    split, *, model=None, network=None, logged=None, class_weights=None, validate_every=0, **changes
):
    """Trains; returns the network and (iteration, loss, learning rate) of each iteration.

    What is validated is logged as (number of updates, the network's mode).
    """
    logged = [] if logged is None else logged

    def validate(trained, iteration):
        logged.append((iteration, trained.training))
        trained.eval()

    alone = Team(0, 1, CPU)
    model = loop.train(
        model or build(**(network or {})),
        synthetic.network(**(network or {})),
        synthetic.training(**changes),
        split,
        class_weights=class_weights,
        team=alone,
        keeper=Keeper(alone, None, print),
        interruption=lambda: 0,
        log=lambda *numbers: logged.append(numbers),
        validate=validate,
        validate_every=validate_every,
    )
    return model, logged


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def are_equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_the_loss_falls_on_a_small_problem(split):
    _, logged = train(split, max_iterations=30, batch_size=4, base_learning_rate=0.02)
    losses = [loss for _, loss, _ in logged]
    assert losses[0] == pytest.approx(1.1, abs=0.1)  # ln 3: nothing is known of three classes
    assert sum(losses[-5:]) / 5 < 0.6 * losses[0]


def test_a_training_again_gives_the_same_bits(split):
    (model, logged), (again, logged_again) = train(split), train(split)
    assert logged == logged_again
    assert are_equal(weights_of(model), weights_of(again))


def test_a_training_does_not_depend_on_what_torch_drew_before(split):
    torch.manual_seed(1)
    model, _ = train(split)
    torch.manual_seed(2)
    assert are_equal(weights_of(train(split)[0]), weights_of(model))


def test_on_one_device_synchronised_batch_normalisation_is_the_usual(split):
    (model, logged), (alone, logged_alone) = (
        train(split, batch_norm=kind) for kind in ("synchronised", "trained")
    )
    assert logged == logged_alone
    assert are_equal(weights_of(model), weights_of(alone))


def test_another_seed_gives_another_training(split):
    assert not are_equal(weights_of(train(split, seed=1)[0]), weights_of(train(split, seed=2)[0]))


def test_dropout_is_drawn_in_training(split):
    options = {"max_iterations": 1, "seed": 3}
    with_dropout, without = (
        train(split, **options),
        train(split, network=WITHOUT_DROPOUT, **options),
    )
    assert with_dropout[1] != without[1]


def test_every_iteration_is_logged_once_in_order_with_its_learning_rate(split):
    _, logged = train(split, max_iterations=7)
    recipe = synthetic.training(max_iterations=7)
    assert [iteration for iteration, _, _ in logged] == list(range(7))
    assert [rate for _, _, rate in logged] == [learning_rate(i, recipe) for i in range(7)]


def test_losses_that_are_read_seldom_are_all_logged(split, monkeypatch):
    _, expected = train(split, max_iterations=5)
    monkeypatch.setitem(loop._ITERATIONS_PER_READ, "cpu", 3)
    assert train(split, max_iterations=5)[1] == expected


def train_slowly(model, split, recipe):
    """The same training spelt out, without weight decay and multipliers; returns the losses."""
    network, losses = synthetic.network(), []
    parameters = list(model.train().parameters())
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    drawn = {"seed", "batch_size", "crop_size", "scales", "flip_probability"}
    stream = batches.training_batches(
        split,
        iterations=range(recipe.max_iterations),
        positions=range(recipe.batch_size),
        **recipe.model_dump(include=drawn),
    )
    for iteration, batch in enumerate(stream):
        logits = model(normalise(batch.images, batch.boxes, network.mean, network.std))
        loss = F.cross_entropy(logits, batch.labels.long(), ignore_index=VOID)
        gradients = torch.autograd.grad(loss, parameters)
        rate = recipe.base_learning_rate * (1 - iteration / recipe.max_iterations) ** recipe.power
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            velocity.mul_(recipe.momentum).add_(gradient)
            parameter.data -= rate * velocity
        losses.append(loss.item())
    return losses


def test_a_training_is_what_a_slow_plain_loop_makes_of_the_same_batches(split):
    model, changes = build(**WITHOUT_DROPOUT), {"max_iterations": 3, "batch_size": 3}
    changes |= {"weight_decay": 0.0, "bias_learning_rate_multiplier": 1.0}
    plain = copy.deepcopy(model)
    _, logged = train(split, model=model, network=WITHOUT_DROPOUT, **changes)
    losses = train_slowly(plain, split, synthetic.training(**changes))
    assert [loss for _, loss, _ in logged] == pytest.approx(losses, rel=1e-4)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-3, atol=1e-4, msg=name)


def test_class_weights_steer_the_training(split):
    _, plain = train(split, max_iterations=2)
    _, equal = train(split, max_iterations=2, class_weights=[3.0, 3.0, 3.0])
    model, _ = train(split, max_iterations=8, class_weights=[0.0, 0.0, 1.0])
    assert [loss for _, loss, _ in equal] == pytest.approx([loss for _, loss, _ in plain], rel=1e-4)
    assert model.classifier.bias.argmax() == 2


def test_the_running_statistics_move_as_the_configured_momentum_says(split):
    momentum = {"head_batch_norm": {"eps": 0.00001, "momentum": 1.0}}
    model, _ = train(split, network=WITHOUT_DROPOUT | momentum, max_iterations=1)
    still, _ = train(
        split,
        network=WITHOUT_DROPOUT | {"head_batch_norm": {"eps": 0.00001, "momentum": 0.001}},
        max_iterations=1,
    )
    moved = model.aspp.projection.batch_norm.running_mean
    torch.testing.assert_close(still.aspp.projection.batch_norm.running_mean, moved * 0.001)
    assert moved.abs().max() > 0.01


def test_a_backbone_with_multiplier_zero_keeps_its_weights(split):
    before = build()
    model, _ = train(split, backbone_learning_rate_multiplier=0.0)
    unmoved = dict(before.backbone.named_parameters())
    assert all(torch.equal(p, unmoved[name]) for name, p in model.backbone.named_parameters())
    assert not torch.equal(model.classifier.weight, before.classifier.weight)


@pytest.mark.parametrize("iterations_per_read", [1, 3, 50])
def test_a_loss_that_is_not_finite_ends_the_training_and_names_its_iteration(
    split, monkeypatch, iterations_per_read
):
    monkeypatch.setitem(loop._ITERATIONS_PER_READ, "cpu", iterations_per_read)
    logged = []
    message = (
        r"the loss is (nan|inf) at iteration 1: the learning rate \S+e\+29 is probably too .*; "
        r"the batch was image_\d, image_\d$"
    )
    with pytest.raises(ArithmeticError, match=message):
        train(split, logged=logged, base_learning_rate=1e30, max_iterations=10)
    assert [iteration for iteration, _, _ in logged] == [0]


def test_weights_that_are_not_finite_are_never_kept(split):
    message = "a weight is not finite at iteration 0: the learning rate"
    with pytest.raises(ArithmeticError, match=message):
        train(split, base_learning_rate=1e300, max_iterations=1)


def test_bfloat16_is_close_to_float32_and_keeps_float32_weights(split):
    options = {"network": WITHOUT_DROPOUT, "max_iterations": 2}
    _, exact = train(split, **options)
    model, rounded = train(split, precision="bfloat16", **options)
    losses, expected = ([loss for _, loss, _ in logged] for logged in (rounded, exact))
    assert losses == pytest.approx(expected, rel=0.05)
    assert losses != expected
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_slow_depthwise_convolutions_are_our_own_on_a_cpu_under_the_same_names(split):
    changes = {"separable": True, "backbone": "xception41"}
    names = list(build(**changes).state_dict())
    model, _ = train(split, network=changes, max_iterations=1, precision="bfloat16")
    assert list(model.state_dict()) == names
    ours = [item for item in model.named_modules() if isinstance(item[1], DepthwiseConv2d)]
    atrous = [name for name, layer in ours if max(layer.dilation) > 1]
    # Of rates 2 and 3 in ASPP, and the three of rate 2 in the last block of the backbone.
    assert [name.split(".")[0] for name in atrous] == ["backbone"] * 3 + ["aspp"] * 2
    # The last of each of the three blocks that halve the map.
    assert [layer.stride for name, layer in ours if name not in atrous] == [(2, 2)] * 3


def test_a_network_that_torch_would_train_wrongly_in_bfloat16_is_refused():
    model = build(backbone="resnext50_32x4d")
    with pytest.raises(ValueError, match=r"precision: bfloat16 on a CPU .* of 32 groups"):
        prepare(model, synthetic.training(precision="bfloat16"), CPU)
    assert prepare(model, synthetic.training(precision="float32"), CPU).training


def test_a_network_that_was_evaluated_is_trained_in_training_mode(split):
    model, _ = train(split, model=build().eval(), max_iterations=1)
    assert all(module.training for module in model.modules())


# Parts of a batch


FROZEN = {"batch_norm": "frozen", "batch_size": 4, "max_iterations": 3}


@pytest.mark.parametrize("accumulation_steps", [2, 4])
def test_a_batch_in_parts_is_the_whole_batch(split, accumulation_steps):
    whole, expected = train(split, **FROZEN)
    parts, logged = train(split, accumulation_steps=accumulation_steps, **FROZEN)
    losses, expected_losses = ([loss for _, loss, _ in log] for log in (logged, expected))
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    for name, tensor in parts.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_single_image_at_a_time_is_refused_where_batch_normalisation_is_trained(split):
    message = r"batch_size: 2 in 2 parts leaves batch normalisation one image .*: enlarge batch_s"
    with pytest.raises(ValueError, match=message):
        train(split, batch_size=2, accumulation_steps=2)


def test_a_batch_that_cannot_be_split_equally_is_refused(split):
    with pytest.raises(ValueError, match="batch_size: 3 images cannot be split into 2 equal parts"):
        train(split, batch_size=3, accumulation_steps=2)


# Batch normalisation


def batch_norm_of(model):
    layers = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    return [
        torch.cat([getattr(layer, name).detach() for layer in layers])
        for name in ("weight", "running_mean")
    ]


@pytest.mark.parametrize(
    ("batch_norm", "gamma_moves", "statistics_move"),
    [("trained", True, True), ("frozen_statistics", True, False), ("frozen", False, False)],
)
def test_batch_normalisation_is_frozen_as_far_as_it_says(
    split, batch_norm, gamma_moves, statistics_move
):
    before = [tensor.clone() for tensor in batch_norm_of(build())]
    model, _ = train(split, batch_norm=batch_norm, validate_every=1)
    moved = [not torch.equal(a, b) for a, b in zip(before, batch_norm_of(model), strict=True)]
    assert moved == [gamma_moves, statistics_move]


# Validation


def test_a_network_is_validated_every_so_often_and_at_the_end_and_goes_on_in_training_mode(split):
    _, logged = train(split, max_iterations=5, validate_every=2)
    assert [entry[0] for entry in logged if len(entry) == 2] == [2, 4, 5]
    modes = [entry[1] for entry in logged if len(entry) == 2]
    assert modes == [True, True, True]


def test_validation_changes_no_weight(split):
    assert are_equal(weights_of(train(split, validate_every=1)[0]), weights_of(train(split)[0]))


# Dropout


def test_dropout_is_drawn_for_each_image_by_its_seed():
    layer, maps = Dropout(0.5).train(), torch.ones(2, 8, 5, 5)
    layer.seeds = [1, 2]
    both = layer(maps)
    layer.seeds = [2]
    assert torch.equal(layer(maps[:1])[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert both.unique().tolist() == [0.0, 2.0]
    assert 0.3 < (both == 0).float().mean() < 0.7
