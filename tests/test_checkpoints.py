import pytest
import safetensors
import synthetic
import timm
import torch
from safetensors.torch import load_file, save_file
from synthetic import CLASSES

from pipeline import drop_classifier, files
from pipeline.classes import Classes
from pipeline.model import checkpoints, deeplab


def build(*, num_classes=3, seed=0, **changes):
    model = deeplab.build(
        synthetic.network(**changes), num_classes=num_classes, output_stride=16, seed=seed
    )
    return synthetic.scramble_batch_norm(model)


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def are_equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def published(folder, name):
    """Weights as timm publishes them, the classifier included."""
    weights = timm.create_model(name).state_dict()
    save_file(weights, folder / "published.safetensors")
    return folder / "published.safetensors", weights


@pytest.fixture
def saved(tmp_path):
    """A checkpoint and the network it was made of."""
    model = build(seed=3)
    checkpoints.save(tmp_path / "a.safetensors", model, synthetic.network(), CLASSES)
    return tmp_path / "a.safetensors", model


def rewrite(path, change):
    """Changes the weights in a checkpoint, and leaves the rest as it is."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


# save, load


def test_a_checkpoint_gives_back_network_classes_and_weights(saved):
    path, model = saved
    loaded, network, classes = checkpoints.load(path, output_stride=None)
    assert network == synthetic.network()
    assert classes == CLASSES
    assert are_equal(weights_of(loaded), weights_of(model))
    images = torch.randn(1, 3, 33, 33)
    assert torch.equal(loaded(images), model.eval()(images))


def test_a_loaded_network_is_in_evaluation_mode(saved):
    loaded, _, _ = checkpoints.load(saved[0], output_stride=None)
    assert not any(module.training for module in loaded.modules())


def test_a_checkpoint_can_be_evaluated_at_another_output_stride(saved):
    path, model = saved
    loaded, network, _ = checkpoints.load(path, output_stride=8)
    assert network.output_stride == 16  # of its training
    assert are_equal(weights_of(loaded), weights_of(model))
    assert loaded.backbone(torch.zeros(1, 3, 65, 65))[1].shape[2:] == (9, 9)


@pytest.mark.parametrize("changes", [{"separable": True}, {"decoder": None}, {"aspp": None}])
def test_networks_with_other_heads_are_loaded_as_they_were_saved(tmp_path, changes):
    model, network = build(**changes), synthetic.network(**changes)
    checkpoints.save(tmp_path / "b.safetensors", model, network, CLASSES)
    loaded, described, _ = checkpoints.load(tmp_path / "b.safetensors", output_stride=None)
    assert described == network
    assert are_equal(weights_of(loaded), weights_of(model))


def test_equal_networks_give_equal_bytes(tmp_path):
    digests = set()
    for number in range(8):
        path = tmp_path / f"{number}.safetensors"
        checkpoints.save(path, build(seed=3), synthetic.network(), CLASSES)
        digests.add(files.digest(path, "md5"))
    assert len(digests) == 1


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        checkpoints.load(tmp_path / "none.safetensors", output_stride=None)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle in a zip", b"\xff" * 100])
def test_a_file_of_another_format_is_named(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.safetensors: not a readable safetensors file: "):
        checkpoints.load(path, output_stride=None)


@pytest.mark.parametrize("length", [4, 1000, -1])
def test_a_checkpoint_that_was_cut_short_is_named(saved, length):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.safetensors: not a readable safetensors file: "):
        checkpoints.load(path, output_stride=None)


def test_weights_without_a_description_are_no_checkpoint(tmp_path):
    path, _ = published(tmp_path, "test_resnet")
    with pytest.raises(ValueError, match=r"published\.safetensors: holds weights but no network d"):
        checkpoints.load(path, output_stride=None)


def remove(tensors):
    del tensors["classifier.bias"]


def add(tensors):
    tensors["momentum"] = torch.zeros(1)


def reshape(tensors):
    tensors["classifier.bias"] = torch.zeros(4)


def rename(tensors):
    tensors["classifier.offset"] = tensors.pop("classifier.bias")


def empty(tensors):
    for name in [name for name in tensors if name.startswith("aspp.")]:
        del tensors[name]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove, r"network: 1 missing \(classifier\.bias\)$"),
        (add, r"network: 1 unknown \(momentum\)$"),
        (reshape, r"network: 1 of other shape \(classifier\.bias \(4,\) instead of \(3,\)\)$"),
        (rename, r"1 missing \(classifier\.bias\); 1 unknown \(classifier\.offset\)$"),
        (
            empty,
            r"36 missing \(aspp\.branches\.0\.convolution\.batch_norm\.bias, .* and 31 more\)$",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(saved, spoil, message):
    path, _ = saved
    rewrite(path, spoil)
    with pytest.raises(ValueError, match=rf"a\.safetensors: weights do not fit the .*{message}"):
        checkpoints.load(path, output_stride=None)


# without a classifier


@pytest.fixture
def unclassified(tmp_path):
    """A checkpoint that leaves its classifier out, and the network it was made of."""
    model = build(seed=3)
    checkpoints.save(tmp_path / "c.safetensors", model, synthetic.network(), None)
    return tmp_path / "c.safetensors", model


def test_a_checkpoint_without_a_classifier_cannot_be_evaluated(unclassified):
    with pytest.raises(ValueError, match=r"c\.safetensors: has no classifier; it can start a tra"):
        checkpoints.load(unclassified[0], output_stride=None)


def test_any_number_of_classes_starts_from_a_checkpoint_without_a_classifier(unclassified):
    path, trained = unclassified
    assert not [name for name in load_file(path) if name.startswith("classifier")]
    model, untouched = (build(num_classes=7, seed=4) for _ in range(2))
    checkpoints.start(model, path, "test_resnet", CLASSES)
    for part in ("backbone", "aspp", "decoder"):
        assert are_equal(weights_of(getattr(model, part)), weights_of(getattr(trained, part)))
    assert are_equal(weights_of(model.classifier), weights_of(untouched.classifier))


def test_a_classifier_can_be_dropped_for_other_classes(saved, tmp_path):
    path, trained = saved
    drop_classifier.main(path, tmp_path / "start.safetensors")
    model = build(num_classes=7, seed=4)
    checkpoints.start(model, tmp_path / "start.safetensors", "test_resnet", CLASSES)
    assert are_equal(weights_of(model.decoder), weights_of(trained.decoder))
    with pytest.raises(ValueError, match=r"start\.safetensors: exists already"):
        drop_classifier.main(path, tmp_path / "start.safetensors")


def test_a_checkpoint_of_other_classes_is_refused_with_a_way_out(saved):
    other = Classes(("one", "two", "four"), CLASSES.colours, CLASSES.ignore_index)
    with pytest.raises(ValueError, match=r"; make drop-classifier writes it without its classes$"):
        checkpoints.start(build(seed=4), saved[0], "test_resnet", other)


# start


def test_a_backbone_starts_from_published_weights_and_the_head_from_its_seed(tmp_path):
    path, weights = published(tmp_path, "test_resnet")
    model, untouched = build(seed=3), build(seed=3)
    checkpoints.start(model, path, "test_resnet", CLASSES)
    encoder = weights_of(model.backbone.encoder)
    assert are_equal(encoder, {name: weights[name] for name in encoder})
    assert weights.keys() - encoder.keys() == {"fc.weight", "fc.bias"}
    for part in ("aspp", "decoder", "classifier"):
        expected = weights_of(getattr(untouched, part))
        assert are_equal(weights_of(getattr(model, part)), expected)


def test_a_network_starts_from_all_of_a_checkpoint(saved):
    path, trained = saved
    model = build(seed=4)
    checkpoints.start(model, path, "test_resnet", CLASSES)
    assert are_equal(weights_of(model), weights_of(trained))
    assert model.training


def test_a_start_at_another_output_stride_is_possible(saved):
    path, trained = saved
    model = deeplab.build(synthetic.network(), num_classes=3, output_stride=8, seed=4)
    checkpoints.start(model, path, "test_resnet", CLASSES)
    assert are_equal(weights_of(model), weights_of(trained))


def test_published_weights_need_not_count_the_batches_that_they_have_seen(tmp_path):
    path, weights = published(tmp_path, "test_resnet")
    counters = {name for name in weights if name.endswith("num_batches_tracked")}
    rewrite(path, lambda tensors: [tensors.pop(name) for name in counters])
    model = build(seed=3)
    checkpoints.start(model, path, "test_resnet", CLASSES)
    encoder = weights_of(model.backbone.encoder)
    assert counters
    assert are_equal(encoder, {name: weights[name] for name in encoder})


def test_weights_of_another_backbone_are_refused(tmp_path):
    path, _ = published(tmp_path, "mobilenetv2_035")
    message = r"do not fit the network: 71 missing \(conv1\.0\..*; 309 unknown \(blocks\.0\.0\."
    with pytest.raises(ValueError, match=message):
        checkpoints.start(build(), path, "test_resnet", CLASSES)


def test_a_checkpoint_of_another_number_of_classes_is_refused(saved):
    message = (
        r"a\.safetensors: .* 2 of other shape \(classifier\.bias \(3,\) instead of \(4,\), "
        r"classifier\.weight \(3, 16, 1, 1\) instead of \(4, 16, 1, 1\)\)$"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.start(build(num_classes=4), saved[0], "test_resnet", CLASSES)


def test_a_checkpoint_with_a_decoder_is_no_start_for_a_network_without(saved):
    with pytest.raises(ValueError, match=r"18 unknown \(decoder\..* and 13 more\)$"):
        checkpoints.start(build(decoder=None), saved[0], "test_resnet", CLASSES)


def test_a_refused_start_changes_nothing(saved):
    model = build(num_classes=4, seed=4)
    before = weights_of(model)
    with pytest.raises(ValueError, match="do not fit"):
        checkpoints.start(model, saved[0], "test_resnet", CLASSES)
    assert are_equal(weights_of(model), before)
