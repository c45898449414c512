"""Variables of the authors as weights here: each in its place, none turned round, none left over.

The networks are evaluated by a plain reading of TensorFlow's operations, in its layouts and by its
names, on the very variables that are imported.
"""

from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
import zoo
from safetensors.torch import load_file

from pipeline import files, voc
from pipeline.classes import Classes
from pipeline.importing import classes, convert, names, networks
from pipeline.importing.config import Import
from pipeline.model import checkpoints, deeplab

ARCHIVE = Path("zoo.tar.gz")
VARIABLES = {
    "xception_41": (lambda: zoo.xception(41), "xception41", 420),
    "xception_65": (lambda: zoo.xception(65), "xception65", 660),
    "xception_71": (lambda: zoo.xception(71), "xception71", 730),
    "resnet_v1_50": (lambda: zoo.resnet(50), "resnet50_beta", 275),
    "resnet_v1_101": (lambda: zoo.resnet(101), "resnet101_beta", 530),
    "MobilenetV2": (zoo.mobilenet, "mobilenetv2_100", 255),
}


def mobilenet_model(**changes):
    """The smallest whole network of the model zoo."""
    head = {"branches": 0, "low_level": ()} | changes
    return zoo.with_head(zoo.mobilenet(), 320, **head)


def imported(variables, folder, *, logits="voc"):
    """Converts, and gives the checkpoint's path and network."""
    found = networks.infer(ARCHIVE, convert.shapes_of(variables))
    config = Import(desc="", network=found.network, classes=logits)
    convert.declared(ARCHIVE, variables, config, folder / "a.safetensors")
    return folder / "a.safetensors", found.network


def tensors_of(variables, folder, **options):
    return load_file(imported(variables, folder, **options)[0])


# TensorFlow's operations, NHWC without the N, on sizes k * stride + 1, where "SAME" pads evenly.


class Plain:
    def __init__(self, variables, eps):
        self.variables, self.eps = variables, eps

    def norm(self, maps, scope, eps=None):
        gamma, beta, mean, variance = (
            self.variables[f"{scope}/BatchNorm/{leaf}"]
            for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (maps - mean) / np.sqrt(variance + (eps or self.eps)) * gamma + beta

    def conv(self, maps, scope, *, stride=1, rate=1, eps=None):
        kernel = self.variables[f"{scope}/weights"]
        taps = shifted(maps, kernel.shape[0], stride, rate)
        return self.norm(sum(tap @ kernel[i, j] for i, j, tap in taps), scope, eps)

    def depthwise(self, maps, scope, *, stride=1, rate=1, eps=None):
        kernel = self.variables[f"{scope}/depthwise_weights"]
        taps = shifted(maps, kernel.shape[0], stride, rate)
        return self.norm(sum(tap * kernel[i, j, :, 0] for i, j, tap in taps), scope, eps)

    def separable(self, maps, scope, *, stride=1, rate=1, eps=None, inner=lambda maps: maps):
        maps = inner(self.depthwise(maps, f"{scope}_depthwise", stride=stride, rate=rate, eps=eps))
        return inner(self.conv(maps, f"{scope}_pointwise", eps=eps))


def shifted(maps, size, stride, rate):
    """(i, j, what the kernel's tap i, j sees at each place)."""
    height, width, _ = maps.shape
    margin = rate * (size // 2)
    padded = np.pad(maps, ((margin, margin), (margin, margin), (0, 0)))
    for i in range(size):
        for j in range(size):
            seen = padded[i * rate : i * rate + height, j * rate : j * rate + width]
            yield i, j, seen[::stride, ::stride]


def relu(maps):
    return np.maximum(maps, 0)


def resized(maps, height, width):
    """Bilinear with aligned corners."""

    def weights(old, new):
        places = np.linspace(0, old - 1, new)
        return np.maximum(0, 1 - abs(places[:, None] - np.arange(old)))

    rows, columns = weights(maps.shape[0], height), weights(maps.shape[1], width)
    return np.einsum("ij,jkc,lk->ilc", rows, maps, columns)


def plain_xception(plain, image, depth):
    scope, at = f"xception_{depth}/entry_flow", "separable_conv"
    maps = relu(plain.conv(image, f"{scope}/conv1_1", stride=2))
    maps = relu(plain.conv(maps, f"{scope}/conv1_2"))
    strides = {41: [2, 2, 2]}[depth]
    for number, (block, _, shortcut) in enumerate(zoo.xception_blocks(depth)):
        stride = strides[number] if number < len(strides) else 1
        last = "exit_flow/block2" in block
        result = maps
        for index in (1, 2, 3):
            result = result if last else relu(result)
            step, rate = (stride if index == 3 else 1), (2 if last else 1)
            inner = relu if last else (lambda maps: maps)
            result = plain.separable(
                result, f"{block}/{at}{index}", stride=step, rate=rate, inner=inner
            )
            if "entry_flow/block2" in block and index == 2:
                low_level = result
        if shortcut:
            maps = result + plain.conv(maps, f"{block}/shortcut", stride=stride)
        else:
            maps = result if last else result + maps
    return low_level, maps


def plain_resnet(plain, image, depth):
    scope, maps = f"resnet_v1_{depth}", image
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        maps = relu(plain.conv(maps, f"{scope}/conv1_{number}", stride=stride))
    maps = np.maximum.reduce([tap for _, _, tap in shifted(maps, 3, 2, 1)])  # after ReLU: 0 pads
    for block, units in enumerate(zoo.RESNET_UNITS[depth], 1):
        for unit in range(1, units + 1):
            bottleneck = f"{scope}/block{block}/unit_{unit}/bottleneck_v1"
            stride = 2 if unit == units and block < 3 else 1  # output_stride 16
            rate = 2 * (1, 2, 4)[unit - 1] if block == 4 else 1
            shortcut = maps[::stride, ::stride]
            if unit == 1:
                shortcut = plain.conv(maps, f"{bottleneck}/shortcut")
            branch = relu(plain.conv(maps, f"{bottleneck}/conv1"))
            branch = relu(plain.conv(branch, f"{bottleneck}/conv2", stride=stride, rate=rate))
            branch = plain.conv(branch, f"{bottleneck}/conv3")
            if (block, unit) == (1, 2):
                low_level = branch
            maps = relu(shortcut + branch)
    return low_level, maps


def plain_mobilenet(plain, image):
    def relu6(maps):
        return np.clip(maps, 0, 6)

    maps = relu6(plain.conv(image, "MobilenetV2/Conv", stride=2))
    for number in range(17):
        scope = f"MobilenetV2/expanded_conv_{number}" if number else "MobilenetV2/expanded_conv"
        stride = 2 if number in (1, 3, 6) else 1  # 13 has none at output_stride 16
        rate = 2 if number > 13 else 1
        inside = relu6(plain.conv(maps, f"{scope}/expand")) if number else maps
        inside = relu6(plain.depthwise(inside, f"{scope}/depthwise", stride=stride, rate=rate))
        inside = plain.conv(inside, f"{scope}/project")
        maps = inside + maps if inside.shape == maps.shape else inside
    return maps


def plain_head(plain, low_level, features, *, separable):
    eps, variables = 0.00001, plain.variables
    branches = [
        np.broadcast_to(
            relu(plain.conv(features.mean((0, 1), keepdims=True), "image_pooling", eps=eps)),
            (*features.shape[:2], 256),
        ),
        relu(plain.conv(features, "aspp0", eps=eps)),
    ]
    for number, rate in ((1, 6), (2, 12), (3, 18)):
        if f"aspp{number}_depthwise/depthwise_weights" in variables:
            scope = f"aspp{number}"
            branches.append(plain.separable(features, scope, rate=rate, eps=eps, inner=relu))
        elif f"aspp{number}/weights" in variables:
            branches.append(relu(plain.conv(features, f"aspp{number}", rate=rate, eps=eps)))
    maps = relu(plain.conv(np.concatenate(branches, 2), "concat_projection", eps=eps))
    if low_level is not None:
        projected = relu(plain.conv(low_level, "decoder/feature_projection0", eps=eps))
        maps = np.concatenate([resized(maps, *low_level.shape[:2]), projected], 2)
        for number in (0, 1):
            if separable:
                scope = f"decoder/decoder_conv{number}"
                maps = plain.separable(maps, scope, eps=eps, inner=relu)
            else:
                scope = f"decoder/decoder_conv0/decoder_conv0_{number + 1}"
                maps = relu(plain.conv(maps, scope, eps=eps))
    kernel = variables["logits/semantic/weights"][0, 0]
    return maps @ kernel + variables["logits/semantic/biases"]


def assert_agrees(path, image, expected):
    model, _, _ = checkpoints.load(path, output_stride=16)
    with torch.inference_mode():
        logits = model.coarse_logits(torch.from_numpy(image).permute(2, 0, 1)[None])
    ours = logits[0].permute(1, 2, 0).numpy()
    assert ours.shape == expected.shape
    assert abs(ours - expected).max() < 1e-4 * abs(expected).max()


def random_image():
    return np.random.default_rng(1).uniform(-1, 1, (65, 49, 3)).astype(np.float32)


def test_xception_computes_what_the_authors_variables_say(tmp_path):
    variables, image = zoo.with_head(zoo.xception(41), 2048), random_image()
    plain = Plain(variables, 0.001)
    expected = plain_head(plain, *plain_xception(plain, image, 41), separable=True)
    assert_agrees(imported(variables, tmp_path)[0], image, expected)


def test_a_beta_resnet_computes_what_the_authors_variables_say(tmp_path):
    variables = zoo.with_head(zoo.resnet(50), 2048, separable=False)
    plain, image = Plain(variables, 0.00001), random_image()
    expected = plain_head(plain, *plain_resnet(plain, image, 50), separable=False)
    assert_agrees(imported(variables, tmp_path)[0], image, expected)


def test_mobilenet_computes_what_the_authors_variables_say(tmp_path):
    variables, image = mobilenet_model(), random_image()
    plain = Plain(variables, 0.001)
    expected = plain_head(plain, None, plain_mobilenet(plain, image), separable=False)
    assert_agrees(imported(variables, tmp_path)[0], image, expected)


# Names and counts


@pytest.mark.parametrize("scope", VARIABLES)
def test_a_backbone_has_as_many_variables_as_in_the_authors_graph(scope):
    draw, backbone, count = VARIABLES[scope]
    variables = draw()
    assert len(variables) == count
    assert names.of_backbone(backbone).keys() == variables.keys()


def test_a_training_checkpoint_of_xception_65_has_1173_variables(tmp_path):
    variables = zoo.with_slots(zoo.with_head(zoo.xception(65), 2048))
    assert len(variables) == 732 + 440 + 1
    kinds = [names.kind_of(name, names.IGNORED) for name in variables]
    assert kinds.count("optimiser slots") == 440
    assert kinds.count("global step") == 1
    assert kinds.count(None) == 732
    path, network = imported(variables, tmp_path)
    assert network.backbone == "xception65"
    model, _, table = checkpoints.load(path, output_stride=8)
    assert table == voc.CLASSES
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6, 2) == 41.06


@pytest.mark.parametrize("scope", VARIABLES)
def test_every_tensor_of_a_backbone_but_its_counters_comes_from_a_variable(scope, tmp_path):
    draw, backbone, count = VARIABLES[scope]
    convert.save_backbone(ARCHIVE, draw(), backbone, tmp_path / "b.safetensors")
    tensors = load_file(tmp_path / "b.safetensors")
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    assert len(tensors) - len(counters) == count
    assert all(tensors[name] == 0 for name in counters)


def test_names_of_an_unknown_backbone_are_refused():
    with pytest.raises(ValueError, match=r"backbone resnet18: the authors' names are known for x"):
        names.of_backbone("resnet18")


# Layouts, value by value


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Variables of a network with everything, and the tensors they became."""
    variables = zoo.with_head(zoo.xception(41), 2048)
    return variables, tensors_of(variables, tmp_path_factory.mktemp("converted"))


def test_a_depthwise_kernel_keeps_rows_and_columns(converted):
    variables, tensors = converted
    theirs = variables["aspp2_depthwise/depthwise_weights"]  # (3, 3, 2048, 1)
    ours = tensors["aspp.branches.3.depthwise.convolution.weight"]
    assert ours.shape == (2048, 1, 3, 3)
    for channel, row, column in ((0, 0, 1), (7, 2, 0), (2047, 1, 2)):
        assert ours[channel, 0, row, column] == theirs[row, column, channel, 0]


def test_a_pointwise_kernel_goes_from_in_out_to_out_in(converted):
    variables, tensors = converted
    theirs = variables["aspp2_pointwise/weights"]  # (1, 1, 2048, 256)
    ours = tensors["aspp.branches.3.pointwise.convolution.weight"]
    assert ours.shape == (256, 2048, 1, 1)
    assert ours[3, 5, 0, 0] == theirs[0, 0, 5, 3]


def test_a_square_pointwise_kernel_is_transposed_too(converted):
    variables, tensors = converted
    block = "xception_41/middle_flow/block1/unit_3/xception_module/separable_conv2_pointwise"
    ours = tensors["backbone.encoder.blocks.5.stack.conv2.conv_pw.weight"][:, :, 0, 0]
    assert np.array_equal(ours, variables[f"{block}/weights"][0, 0].T)


def test_a_dense_kernel_keeps_rows_and_columns(converted):
    variables, tensors = converted
    theirs = variables["xception_41/entry_flow/conv1_2/weights"]  # (3, 3, 32, 64)
    ours = tensors["backbone.encoder.stem.1.conv.weight"]
    assert ours.shape == (64, 32, 3, 3)
    assert ours[60, 30, 0, 2] == theirs[0, 2, 30, 60]
    assert ours[1, 2, 2, 1] == theirs[2, 1, 2, 1]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gamma", "weight"),
        ("beta", "bias"),
        ("moving_mean", "running_mean"),
        ("moving_variance", "running_var"),
    ],
)
def test_each_part_of_a_batch_normalisation_finds_its_place(converted, theirs, ours):
    variables, tensors = converted
    for scope, name in (
        ("xception_41/entry_flow/conv1_1", "backbone.encoder.stem.0.bn"),
        ("image_pooling", "aspp.branches.0.convolution.batch_norm"),
        ("decoder/decoder_conv1_depthwise", "decoder.stages.0.refinement.1.depthwise.batch_norm"),
    ):
        assert np.array_equal(tensors[f"{name}.{ours}"], variables[f"{scope}/BatchNorm/{theirs}"])


def test_logits_keep_the_order_of_the_classes(converted):
    variables, tensors = converted
    assert np.array_equal(tensors["classifier.bias"], variables["logits/semantic/biases"])
    kernel = variables["logits/semantic/weights"][0, 0]
    assert np.array_equal(tensors["classifier.weight"][:, :, 0, 0], kernel.T)


def test_branches_of_aspp_stand_in_the_order_of_the_projections_input(converted):
    variables, tensors = converted
    theirs = [f"{name}/BatchNorm/gamma" for name in ("image_pooling", "aspp0")]
    theirs += [f"aspp{number}_pointwise/BatchNorm/gamma" for number in (1, 2, 3)]
    parts = ["convolution.batch_norm", "batch_norm", *["pointwise.batch_norm"] * 3]
    for index, (name, part) in enumerate(zip(theirs, parts, strict=True)):
        ours = tensors[f"aspp.branches.{index}.{part}.weight"]
        assert np.array_equal(ours, variables[name])
    projection = tensors["aspp.projection.convolution.weight"]
    assert projection[9, 3 * 256 + 5] == variables["concat_projection/weights"][0, 0, 773, 9]


def test_the_decoder_takes_the_encoders_channels_first(converted):
    variables, tensors = converted
    theirs = variables["decoder/decoder_conv0_depthwise/depthwise_weights"]  # (3, 3, 304, 1)
    ours = tensors["decoder.stages.0.refinement.0.depthwise.convolution.weight"]
    assert ours.shape == (304, 1, 3, 3)
    for channel in (0, 255, 256, 303):  # the last 48 are low-level features
        assert np.array_equal(ours[channel, 0], theirs[:, :, channel, 0])


def test_both_stages_of_a_later_decoder_find_their_place(tmp_path):
    head = {"separable": False, "low_level": (512, 256), "convolutions": 1}
    variables = zoo.with_head(zoo.resnet(50), 2048, **head)
    path, network = imported(variables, tmp_path)
    assert network.decoder.low_level_strides == [8, 4]
    tensors = load_file(path)
    for stage, projection, refinement in (
        (0, "feature_projection0", "decoder_conv0/decoder_conv0_1"),
        (1, "feature_projection0_1", "decoder_conv0_1/decoder_conv0_1_1"),
    ):
        part = f"decoder.stages.{stage}"
        gamma = tensors[f"{part}.low_level_projection.batch_norm.weight"]
        assert np.array_equal(gamma, variables[f"decoder/{projection}/BatchNorm/gamma"])
        gamma = tensors[f"{part}.refinement.0.batch_norm.weight"]
        assert np.array_equal(gamma, variables[f"decoder/{refinement}/BatchNorm/gamma"])


# What is written


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_an_imported_network_can_be_evaluated_at_any_output_stride(tmp_path, output_stride):
    path, network = imported(mobilenet_model(), tmp_path)
    model, described, table = checkpoints.load(path, output_stride=output_stride)
    assert described == network
    assert table == voc.CLASSES
    assert not model.training
    assert model(torch.zeros(1, 3, 65, 65)).shape == (1, 21, 65, 65)


def test_equal_checkpoints_give_equal_bytes(tmp_path):
    digests = set()
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        digests.add(files.digest(imported(mobilenet_model(), folder)[0], "md5"))
    assert len(digests) == 1


def test_dropped_logits_are_no_part_of_the_checkpoint(tmp_path):
    kept = tensors_of(mobilenet_model(), tmp_path)
    dropped = tensors_of(mobilenet_model(), tmp_path, logits=None)
    assert kept.keys() - dropped.keys() == {"classifier.weight", "classifier.bias"}


def test_a_checkpoint_without_logits_starts_a_training_on_other_classes(tmp_path):
    path, network = imported(mobilenet_model(), tmp_path, logits=None)
    table = Classes(("a", "b"), ((0, 0, 0), (1, 1, 1)), 255)
    model = deeplab.build(network, num_classes=2, output_stride=16, seed=0)
    checkpoints.start(model, path, network.backbone, table)
    tensors = load_file(path)
    gamma = model.state_dict()["aspp.projection.batch_norm.weight"]
    assert torch.equal(gamma, tensors["aspp.projection.batch_norm.weight"])


@pytest.mark.parametrize(
    ("scope", "features"), [("xception_41", 2048), ("resnet_v1_50", 2048), ("MobilenetV2", 320)]
)
def test_backbone_weights_start_a_training(tmp_path, scope, features):
    draw, backbone, _ = VARIABLES[scope]
    variables, path = draw(), tmp_path / "b.safetensors"
    convert.save_backbone(ARCHIVE, variables, backbone, path)
    with safetensors.safe_open(path, framework="pt") as file:
        assert "deeplab" not in file.metadata()
    whole = zoo.with_head(variables, features, branches=0, low_level=())
    network = networks.infer(ARCHIVE, convert.shapes_of(whole)).network
    model = deeplab.build(network, num_classes=3, output_stride=16, seed=0)
    checkpoints.start(model, path, backbone, classes.generic(3))
    encoder = model.backbone.encoder.state_dict()
    assert all(torch.equal(encoder[name], tensor) for name, tensor in load_file(path).items())


def test_the_backbone_of_a_whole_network_is_taken_alone_where_null_is_declared(tmp_path):
    config = Import(desc="", network=None, classes=None)
    convert.declared(ARCHIVE, mobilenet_model(), config, tmp_path / "whole.safetensors")
    convert.declared(ARCHIVE, zoo.mobilenet(), config, tmp_path / "alone.safetensors")
    digests = {files.digest(path, "md5") for path in tmp_path.iterdir()}
    assert len(digests) == 1


def test_what_imagenet_checkpoints_hold_beside_the_backbone_is_ignored(tmp_path):
    variables = zoo.xception(41)
    variables |= {f"{name}/ExponentialMovingAverage": array for name, array in variables.items()}
    variables.logits("xception_41/logits", 2048, 1001)
    convert.save_backbone(ARCHIVE, variables, "xception41", tmp_path / "a.safetensors")
    variables = zoo.mobilenet()
    variables.conv("MobilenetV2/Conv_1", 1, 320, 1280)
    variables.logits("MobilenetV2/Logits/Conv2d_1c_1x1", 1280, 1001)
    variables["MobilenetV2/Conv/weights/RMSProp_1"] = np.zeros(1, np.float32)
    convert.save_backbone(ARCHIVE, variables, "mobilenetv2_100", tmp_path / "b.safetensors")
    assert (
        load_file(tmp_path / "b.safetensors").keys() & {"conv_head.weight", "bn2.weight"} == set()
    )


# What does not fit


def lose(variables):
    del variables["aspp0/BatchNorm/gamma"], variables["MobilenetV2/Conv/weights"]


def gain(variables):
    variables["encoder/conv7/weights"] = variables["image_pooling_2/biases"] = np.zeros(1)


def rename(variables):
    for name in [name for name in variables if name.startswith("MobilenetV2/expanded_conv_16")]:
        variables[name.replace("_16", "_17")] = variables.pop(name)


def turn(variables):
    variables["logits/semantic/biases"] = np.zeros((21, 1), np.float32)
    name = "MobilenetV2/expanded_conv/project/weights"
    variables[name] = variables[name].transpose(3, 2, 0, 1)


def halve(variables):
    variables["logits/semantic/biases"] = variables["logits/semantic/biases"].astype(np.float16)


def overflow(variables):
    variables["MobilenetV2/Conv/weights"][0, 1, 2, 3] = np.nan
    variables["aspp0/BatchNorm/moving_variance"][7] = np.inf


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose, r"network: 2 missing \(MobilenetV2/Conv/weights, aspp0/BatchNorm/gamma\)$"),
        (gain, r"network: 2 left over \(encoder/conv7/weights, image_pooling_2/biases\)$"),
        (rename, r"15 missing \(.*conv_16/.* and 10 more\); 15 left over \(.*conv_17/.* and 10 mo"),
        (
            turn,
            r"2 of other shape \(MobilenetV2/expanded_conv/project/weights \(16, 32, 1, 1\) instead"
            r" of \(1, 1, 32, 16\), logits/semantic/biases \(21, 1\) instead of \(21,\)\)$",
        ),
        (halve, r"network: 1 not float32 \(logits/semantic/biases float16\)$"),
        (
            overflow,
            r"2 not finite \(MobilenetV2/Conv/weights, aspp0/BatchNorm/moving_variance\)$",
        ),
    ],
)
def test_variables_that_do_not_fit_are_named_and_nothing_is_written(tmp_path, spoil, message):
    variables = mobilenet_model()
    network = networks.infer(ARCHIVE, convert.shapes_of(variables)).network
    spoil(variables)
    with pytest.raises(ValueError, match=rf"^zoo\.tar\.gz: variables do not fit .*{message}"):
        convert.save_network(ARCHIVE, variables, network, voc.CLASSES, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_backbone_weights_with_a_variable_too_many_are_refused(tmp_path):
    variables = zoo.mobilenet() | {"MobilenetV2/Conv/biases": np.zeros(32, np.float32)}
    with pytest.raises(ValueError, match=r"network: 1 left over \(MobilenetV2/Conv/biases\)$"):
        convert.save_backbone(ARCHIVE, variables, "mobilenetv2_100", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
