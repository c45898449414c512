import copy

import numpy as np
import pytest
import synthetic
import torch
from torch.nn import functional as F

from pipeline.data.images import normalise
from pipeline.inference.config import scaled_side
from pipeline.inference.predict import folded, label_maps, predict, prepared
from pipeline.model import deeplab
from pipeline.model.depthwise import DepthwiseConv2d
from pipeline.splits import Split

CPU = torch.device("cpu")
NOMINAL = 65
STRATEGIES = {
    "single scale": {},
    "flip": {"flip": True},
    "one smaller scale": {"scales": [0.75]},
    "one larger scale": {"scales": [1.25]},
    "multi-scale": {"scales": [0.5, 0.75, 1.0, 1.5]},
    "multi-scale and flip": {"scales": [0.75, 1.0, 1.25], "flip": True},
}


def build(*, output_stride=16, **changes):
    """A network whose label maps have regions of all classes: logits are of mean 0 and width 1."""
    network = synthetic.network(**changes)
    model = deeplab.build(network, num_classes=3, output_stride=output_stride, seed=1)
    synthetic.scramble_batch_norm(model).eval()
    scene, _ = synthetic.scene(np.random.default_rng(7), NOMINAL, NOMINAL)
    pixels, box = torch.from_numpy(scene)[None], torch.tensor([[0, 0, NOMINAL, NOMINAL]])
    with torch.no_grad():
        logits = model.coarse_logits(normalise(pixels, box, network.mean, network.std))
        model.classifier.weight /= logits.std((0, 2, 3))[:, None, None, None]
        model.classifier.bias -= logits.mean((0, 2, 3)) / logits.std((0, 2, 3))
    return model


def label_maps_of(model, split, **changes):
    return dict(
        label_maps(model, synthetic.network(), split, synthetic.inference(**changes), device=CPU)
    )


def interpolate(maps, height, width):
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=True)


def probabilities(model, padded, scale, *, flip):
    """Softmax of one image at one scale, by way of the size that the nominal logits have."""
    side = int((NOMINAL - 1) * scale) + 1
    image = interpolate(padded, side, side)
    logits = model.coarse_logits(image.flip(3) if flip else image)
    side = int((NOMINAL - 1) * max(1.0, scale) / model.logits_stride) + 1
    softmax = interpolate(interpolate(logits, side, side), NOMINAL, NOMINAL).softmax(1)
    return softmax.flip(3) if flip else softmax


@torch.inference_mode()
def predict_slowly(model, image, scales, *, flip):
    """One image alone, in double precision, the strategy spelt out."""
    model, network = copy.deepcopy(model).double(), synthetic.network()
    height, width = image.shape[:2]
    padded = torch.zeros(1, 3, NOMINAL, NOMINAL, dtype=torch.float64)
    normalised = (image.astype(float) - network.mean) / network.std
    padded[0, :, :height, :width] = torch.from_numpy(normalised).permute(2, 0, 1)
    if scales == [1.0] and not flip:
        scores = interpolate(model.coarse_logits(padded), NOMINAL, NOMINAL)
    else:
        flips = [False, True] if flip else [False]
        scores = sum(probabilities(model, padded, s, flip=f) for s in scales for f in flips)
    return scores[0, :, :height, :width].argmax(0).numpy()


@pytest.fixture(scope="module")
def images(split):
    random = np.random.default_rng(0)
    return {s.image_id: synthetic.scene(random, s.height, s.width)[0] for s in split}


@pytest.mark.parametrize("changes", STRATEGIES.values(), ids=STRATEGIES.keys())
@pytest.mark.parametrize("decoder", [synthetic.NETWORK["decoder"], None], ids=["v3plus", "v3"])
def test_label_maps_are_those_of_a_slow_plain_version(split, images, decoder, changes):
    model = build(decoder=decoder)
    strategy = synthetic.inference(**changes)
    seen = set()
    for image_id, label in label_maps_of(model, split, **changes).items():
        expected = predict_slowly(model, images[image_id], strategy.scales, flip=strategy.flip)
        assert (label != expected).sum() <= 1  # a tie may fall either way in float32
        seen |= set(expected.flatten().tolist())
    assert seen == {0, 1, 2}


def test_strategies_differ(split):
    model = build()
    results = [label_maps_of(model, split, **changes)["image_3"] for changes in STRATEGIES.values()]
    assert len({label.tobytes() for label in results}) == len(STRATEGIES)


def test_a_label_map_has_the_size_of_its_own_image_and_one_byte_per_pixel(split):
    labels = label_maps_of(build(), split)
    assert {s.image_id: (s.height, s.width) for s in split} == {
        image_id: label.shape for image_id, label in labels.items()
    }
    assert {label.dtype for label in labels.values()} == {np.dtype(np.uint8)}


def test_label_maps_come_in_the_splits_order(split):
    assert list(label_maps_of(build(), split, batch_size=3)) == split.image_ids


@pytest.mark.parametrize("batch_size", [1, 3, 4, 9])
def test_labels_do_not_depend_on_the_batch_size(split, batch_size):
    changes = STRATEGIES["multi-scale and flip"]
    expected = label_maps_of(build(), split, **changes)
    labels = label_maps_of(build(), split, batch_size=batch_size, **changes)
    assert all((labels[i] != expected[i]).sum() <= 1 for i in split.image_ids)


def test_an_image_with_a_smaller_one_in_its_batch_is_predicted_as_if_alone(split, tmp_path):
    model = build()
    together = label_maps_of(model, split, batch_size=4)["image_0"]
    alone = Split(synthetic.write_split(tmp_path / "one.arrow", [(33, 33)]))
    assert (label_maps_of(model, alone)["image_0"] != together).sum() <= 1


def test_with_flips_a_mirrored_image_has_the_mirrored_labels():
    model, strategy = build(), synthetic.inference(flip=True, scales=[0.75, 1.0])
    images = torch.randn(2, 3, NOMINAL, NOMINAL)
    labels = predict(model, images, strategy)
    assert (labels.shape, labels.dtype) == ((2, NOMINAL, NOMINAL), torch.uint8)
    assert (predict(model, images.flip(3), strategy).flip(2) != labels).sum() <= 2
    without = synthetic.inference(scales=[0.75, 1.0])
    mirrored = predict(model, images.flip(3), without).flip(2)
    assert (mirrored != predict(model, images, without)).float().mean() > 0.05


def test_a_scale_twice_or_the_same_flip_twice_changes_nothing():
    model, images = build(), torch.randn(1, 3, NOMINAL, NOMINAL)
    once, twice = ([0.75, 1.0], [0.75, 1.0, 1.0, 0.75])
    labels = [predict(model, images, synthetic.inference(scales=s)) for s in (once, twice)]
    assert (labels[0] != labels[1]).sum() <= 1


def test_images_that_are_not_square_keep_their_orientation(tmp_path):
    wide = Split(synthetic.write_split(tmp_path / "wide.arrow", [(30, 61)]))
    narrow, padded = (
        label_maps_of(build(), wide, height=height, width=65)["image_0"] for height in (33, 65)
    )
    assert narrow.shape == padded.shape == (30, 61)
    with pytest.raises(ValueError, match="image of 30x61 pixels is larger than the nominal si"):
        label_maps_of(build(), wide, height=65, width=33)


def test_weights_can_be_evaluated_at_output_stride_8(split, images):
    model = build(output_stride=8)
    model.load_state_dict(build().state_dict())
    labels = label_maps_of(model, split, output_stride=8)
    expected = predict_slowly(model, images["image_3"], [1.0], flip=False)
    assert (labels["image_3"] != expected).sum() <= 1
    assert (labels["image_3"] != label_maps_of(build(), split)["image_3"]).any()


@pytest.mark.parametrize("changes", [{}, {"scales": [0.75, 1.0], "flip": True}])
def test_bfloat16_gives_almost_the_labels_of_float32(split, changes):
    expected = label_maps_of(build(), split, **changes)["image_3"]
    label = label_maps_of(build(), split, precision="bfloat16", **changes)["image_3"]
    assert 0 < (label != expected).mean() < 0.05


def test_a_network_for_a_cpu_has_our_own_convolutions_and_one_for_export_none():
    model = build(separable=True)
    copy_for_export, ready = folded(model), prepared(model, synthetic.inference(), CPU)
    # Of atrous rates 1, 2 and 3; no convolution of the backbone is depthwise.
    for network, expected in ((model, 0), (copy_for_export, 0), (ready, 2)):
        layers = [layer for layer in network.modules() if isinstance(layer, DepthwiseConv2d)]
        assert len(layers) == expected


def test_predictions_keep_no_graph(split):
    labels = predict(build(), torch.randn(1, 3, 33, 33), synthetic.inference())
    assert labels.is_inference()


def test_sides_are_scaled_by_what_is_written_not_by_the_nearest_binary_fraction():
    # 720 * 0.7 is 503.99999999999994 in floats, and 505 is 63 * 8 + 1.
    assert scaled_side(721, 0.7) == 505
    assert scaled_side(513, 1.25) == 641
    assert scaled_side(257, 0.7) == 180  # a part of a pixel is left out


def test_a_scale_in_tenths_is_accepted_where_sides_fit_exactly():
    strategy = synthetic.inference(output_stride=8, height=721, width=721, scales=[0.7])
    assert scaled_side(strategy.height, strategy.scales[0]) == 63 * 8 + 1
    with pytest.raises(ValueError, match=r"width: 713 at scale 0\.7 gives 499\.4, which is not"):
        synthetic.inference(output_stride=8, height=721, width=713, scales=[0.7])
