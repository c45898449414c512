"""Which network a checkpoint is of: inferred from names and shapes, compared with what is declared.

Shapes alone are enough here, so nothing is drawn.
"""

from pathlib import Path

import pydantic
import pytest
import zoo

from pipeline import voc
from pipeline.importing import classes, networks
from pipeline.importing.config import Import

ARCHIVE = Path("zoo.tar.gz")
DRAWN = {
    "xception_41": zoo.xception(41),
    "resnet_v1_50": zoo.resnet(50),
    "MobilenetV2": zoo.mobilenet(),
}
GREY = [127.5, 127.5, 127.5]


def shapes(scope, **head):
    """Of a whole network; of a backbone alone where no head is asked for."""
    variables = zoo.Variables()
    variables |= DRAWN[scope]
    if head:
        zoo.with_head(variables, 320 if scope == "MobilenetV2" else 2048, **head)
    return {name: array.shape for name, array in variables.items()}


def infer(scope, **head):
    return networks.infer(ARCHIVE, shapes(scope, **head))


def test_everything_is_inferred_of_a_network_like_the_papers():
    found = infer("xception_41", classes=19)
    assert (found.backbone, found.num_classes) == ("xception41", 19)
    assert found.network.model_dump() == {
        "backbone": "xception41",
        "output_stride": 16,
        "multi_grid": None,
        "mean": GREY,
        "std": GREY,
        "separable": True,
        "aspp": {
            "atrous_rates": [6, 12, 18],
            "channels": 256,
            "image_pooling": True,
            "dropout": 0.1,
        },
        "decoder": {
            "low_level_strides": [4],
            "low_level_channels": 48,
            "kernel_size": 3,
            "channels": 256,
            "convolutions": 2,
        },
        "backbone_batch_norm": {"eps": 0.001, "momentum": 0.0003},
        "head_batch_norm": {"eps": 0.00001, "momentum": 0.0003},
    }


def test_a_beta_resnet_has_a_multi_grid_and_statistics_of_its_own():
    network = infer("resnet_v1_50", separable=False, low_level=()).network
    assert network.backbone == "resnet50_beta"
    assert network.multi_grid == [1, 2, 4]
    assert network.backbone_batch_norm.model_dump() == {"eps": 0.00001, "momentum": 0.05}
    assert not network.separable
    assert network.decoder is None


def test_mobilenet_of_the_zoo_has_neither_atrous_branches_nor_a_decoder():
    network = infer("MobilenetV2", branches=0, low_level=()).network
    assert network.backbone == "mobilenetv2_100"
    assert network.aspp.model_dump() == {
        "atrous_rates": [],
        "channels": 256,
        "image_pooling": True,
        "dropout": 0.1,
    }
    assert network.decoder is None
    assert network.backbone_batch_norm.eps == 0.001


@pytest.mark.parametrize(
    ("head", "part", "field", "value"),
    [
        ({"image_pooling": False}, "aspp", "image_pooling", False),
        ({"channels": 128}, "aspp", "channels", 128),
        ({"branches": 4}, "aspp", "atrous_rates", [6, 12, 18, 24]),
        ({"branches": 0}, "aspp", "atrous_rates", []),
        ({"channels": 64}, "decoder", "channels", 64),
        ({"convolutions": 1}, "decoder", "convolutions", 1),
        ({"convolutions": 3}, "decoder", "convolutions", 3),
        ({"convolutions": 3, "separable": False}, "decoder", "convolutions", 3),
        ({"kernel": 1, "separable": False}, "decoder", "kernel_size", 1),
        ({"low_level": (512, 256)}, "decoder", "low_level_strides", [8, 4]),
        ({"low_level": (512, 256), "separable": False}, "decoder", "low_level_strides", [8, 4]),
    ],
)
def test_each_part_of_the_head_is_inferred(head, part, field, value):
    assert getattr(getattr(infer("MobilenetV2", **head).network, part), field) == value


def test_a_network_without_aspp_is_inferred():
    found = shapes("MobilenetV2", low_level=())
    head = ("image_pooling", "aspp", "concat_projection")
    found = {name: shape for name, shape in found.items() if not name.startswith(head)}
    assert networks.infer(ARCHIVE, found).network.aspp is None


@pytest.mark.parametrize("scope", DRAWN)
def test_a_backbone_alone_is_no_network(scope):
    found = infer(scope)
    assert found.network is None
    assert found.num_classes is None


def test_the_classifier_of_imagenet_makes_no_network_of_a_backbone():
    found = shapes("xception_41") | {"xception_41/logits/weights": (1, 1, 2048, 1001)}
    assert networks.infer(ARCHIVE, found).network is None


# What is none of the authors' networks


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, r"expected variables of one of xception_41, .*, MobilenetV2; found none$"),
        ({"vgg/conv": (1,)}, r"; found vgg/conv$"),
        ({"d": (), "b": (), "a": (), "c": ()}, r"; found a, b, c and 1 more$"),
        (
            {"xception_65/a": (), "MobilenetV2/b": ()},
            r"; found those of MobilenetV2 and xception_65$",
        ),
        (
            {"resnet_v1_101/conv1/weights": (7, 7, 3, 64)},
            r"resnet_v1_101 does not begin with the three 3x3 convolutions conv1_1, conv1_2 and",
        ),
    ],
)
def test_variables_of_something_else_are_refused(found, message):
    with pytest.raises(ValueError, match=rf"^zoo\.tar\.gz: .*{message}"):
        networks.infer(ARCHIVE, found)


def lose(name):
    return lambda found: found.pop(name)


def reshape(name, shape):
    return lambda found: found.update({name: shape})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            reshape("aspp0/weights", (2048,)),
            r"variable aspp0/weights has the shape \(2048,\), no kernel's$",
        ),
        (
            reshape("aspp0/weights", (1, 1, 2048, 0)),
            r"network\.aspp\.channels: Input should be greater than or equal to 1 \(found 0\)$",
        ),
        (
            reshape("decoder/decoder_conv0_depthwise/depthwise_weights", (5, 5, 304, 1)),
            r"network\.decoder\.kernel_size: Input should be 1 or 3 \(found 5\)$",
        ),
        (
            lose("decoder/decoder_conv0_pointwise/weights"),
            r"variable decoder/decoder_conv0_pointwise/weights is missing$",
        ),
        (
            lambda found: found.update(
                {f"decoder/feature_projection0_{n}/weights": (1, 1, 9, 48) for n in (1, 2)}
            ),
            r"low-level features at 3 strides, more than 2$",
        ),
        (
            lambda found: found.update(
                {
                    "decoder/decoder_conv0/decoder_conv0_1/weights": found.pop(
                        "decoder/decoder_conv0_depthwise/depthwise_weights"
                    )
                }
            ),
            r"the ASPP is separable but the decoder is not separable; a network here has it in b",
        ),
    ],
)
def test_a_head_that_cannot_be_is_refused_in_one_line(spoil, message):
    found = shapes("MobilenetV2", classes=21)
    spoil(found)
    with pytest.raises(ValueError, match=rf"^zoo\.tar\.gz: .*{message}") as raised:
        networks.infer(ARCHIVE, found)
    assert "\n" not in str(raised.value)


# What is declared


def declared(**changes):
    network = infer("xception_41", classes=21).network
    return type(network).model_validate(network.model_dump() | changes)


def test_what_names_cannot_say_may_be_declared_otherwise():
    aspp = declared().aspp.model_dump() | {"atrous_rates": [12, 24, 36], "dropout": 0.0}
    network = declared(
        output_stride=8,
        multi_grid=None,
        mean=[1.0, 2.0, 3.0],
        aspp=aspp,
        head_batch_norm={"eps": 0.1, "momentum": 0.1},
    )
    networks.require_equal(ARCHIVE, network, infer("xception_41", classes=21))


def test_every_difference_that_names_determine_is_told():
    network = declared(
        backbone="xception65",
        separable=False,
        aspp={"atrous_rates": [1], "channels": 128, "image_pooling": False, "dropout": 0.1},
        decoder={
            "low_level_strides": [8, 4],
            "low_level_channels": 32,
            "kernel_size": 1,
            "channels": 128,
            "convolutions": 1,
        },
    )
    with pytest.raises(ValueError, match="is declared as") as raised:
        networks.require_equal(ARCHIVE, network, infer("xception_41", classes=21))
    differences = [
        line.removeprefix("zoo.tar.gz: network.") for line in str(raised.value).split("\n")
    ]
    assert differences == [
        "backbone is declared as xception65, the checkpoint has xception41",
        "separable is declared as False, the checkpoint has True",
        "aspp.channels is declared as 128, the checkpoint has 256",
        "aspp.image_pooling is declared as False, the checkpoint has True",
        "aspp.atrous_rates is declared as 1 rates, the checkpoint has 3 rates",
        "decoder.low_level_strides is declared as 2 strides, the checkpoint has 1 strides",
        "decoder.low_level_channels is declared as 32, the checkpoint has 48",
        "decoder.kernel_size is declared as 1, the checkpoint has 3",
        "decoder.channels is declared as 128, the checkpoint has 256",
        "decoder.convolutions is declared as 1, the checkpoint has 2",
    ]


@pytest.mark.parametrize("part", ["aspp", "decoder"])
def test_a_part_that_is_declared_null_is_told(part):
    message = rf"network\.{part} is declared as null, the checkpoint has a \w+$"
    with pytest.raises(ValueError, match=message) as raised:
        networks.require_equal(ARCHIVE, declared(**{part: None}), infer("xception_41", classes=21))
    assert "\n" not in str(raised.value)


def test_separable_is_not_compared_where_there_is_nothing_it_could_be_said_of():
    found = infer("MobilenetV2", branches=0, low_level=())
    section = found.network.model_dump() | {"separable": True}
    networks.require_equal(ARCHIVE, type(found.network).model_validate(section), found)


def test_a_network_declared_of_a_backbone_alone_is_refused():
    with pytest.raises(ValueError, match=r"declared, but .* has weights of xception41 alone$"):
        networks.require_equal(ARCHIVE, declared(), infer("xception_41"))


def test_a_backbone_cannot_be_declared_with_classes():
    with pytest.raises(
        pydantic.ValidationError, match="must be null, not voc, where network is nu"
    ):
        Import(desc="", network=None, classes="voc")


# Classes


def test_21_classes_are_voc_and_others_are_numbers_in_voc_colours():
    assert classes.guessed(ARCHIVE, 21) == voc.CLASSES
    three = classes.guessed(ARCHIVE, 3)
    assert three.names == ("class 0", "class 1", "class 2")
    assert three.colours == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert classes.named(ARCHIVE, "generic", 21).names[20] == "class 20"
    assert classes.named(ARCHIVE, "voc", 21) == voc.CLASSES


def test_another_number_of_classes_than_declared_is_refused():
    with pytest.raises(ValueError, match=r"zoo\.tar\.gz: has logits of 19 classes, voc has 21$"):
        classes.named(ARCHIVE, "voc", 19)


def test_classes_of_a_checkpoint_without_logits_are_refused():
    message = r"zoo\.tar\.gz: has no logits layer, which can only be dropped$"
    for name in ("voc", "generic"):
        with pytest.raises(ValueError, match=message):
            classes.named(ARCHIVE, name, None)
    with pytest.raises(ValueError, match=message):
        classes.guessed(ARCHIVE, None)


@pytest.mark.parametrize("num_classes", [0, 256])
def test_a_number_of_classes_that_no_label_map_holds_is_refused(num_classes):
    with pytest.raises(ValueError, match=rf"{num_classes} classes; 1 to 255 are possible$"):
        classes.guessed(ARCHIVE, num_classes)
