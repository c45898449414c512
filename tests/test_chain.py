"""COCO, then trainaug, then trainval: the chain of presets/voc.yaml, on miniatures of its archives.

All of it is real but the sizes: archives are generated, fetched and packed, and each training
starts from the file that the one before it wrote.
"""

import json
import sys
from pathlib import Path

import pytest
import synthetic
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from pipeline.model import checkpoints
from pipeline.splits import Split
from stages import check, coco, fetch, train, trainaug, voc

ROOT = Path(__file__).parents[1]
PARAMS = Path("params.yaml")
ARCHIVES = {
    "voc2012": "miniature:voc2012?seed=0",
    "sbd": "miniature:sbd?seed=0",
    "coco_train2017": "miniature:coco-train2017?seed=0",
    "coco_annotations2017": "miniature:coco-annotations?seed=0",
    "xception65": "random:test_resnet?seed=0",
}
ON_COCO = "xception65_os16-decoder-separable_on-coco"
ON_TRAINAUG = "xception65_os16-decoder-separable-coco"
ON_TRAINVAL = "xception65_os8-decoder-separable-coco-trainval"
CHAIN = (ON_COCO, ON_TRAINAUG, ON_TRAINVAL)


def miniature_chain():
    """The three models of the preset and the first row of theirs; sizes and weights are small."""
    document = yaml.safe_load((ROOT / "presets/voc.yaml").read_text())
    models = {key: document["models"][key] for key in CHAIN}
    for model in models.values():
        network, training = model["network"], model["training"]
        network["backbone"] = synthetic.NETWORK["backbone"]
        network["aspp"] |= {"atrous_rates": [1, 2, 3], "channels": 16}
        network["decoder"] |= {"channels": 16}
        training |= {"max_iterations": 2, "batch_size": 2, "crop_size": 65, "precision": "float32"}
        model["validation"] |= {"every_iterations": 0, "height": 257, "width": 257}
    row = document["rows"]["xception65_os16-eval16-decoder-separable-coco"]
    row["inference"] |= {"height": 257, "width": 257}
    return document | {
        "archives": {key: {"url": url} for key, url in ARCHIVES.items()},
        "trainaug": {"sbd": {"expected_images": 128}},
        "imports": {},
        "models": models,
        "rows": {"row": row},
    }


def pack():
    for key in ARCHIVES:
        fetch.main(key, PARAMS, Path("archives", key))
    train_, val, trainval, aug = (
        Path(f"data/voc/{split}.arrow") for split in ("train", "val", "trainval", "trainaug")
    )
    archives, metrics = Path("archives"), Path("metrics")
    voc.main("voc2012", archives / "voc2012", train_, val, trainval, metrics / "voc.json")
    trainaug.main("sbd", PARAMS, archives / "sbd", train_, val, aug, metrics / "trainaug.json")
    zips = (archives / "coco_train2017", archives / "coco_annotations2017")
    pretrain = Path("data/coco/pretrain.arrow")
    coco.main("pretrain", PARAMS, *zips, pretrain, metrics / "coco.json")


def checkpoint(key):
    return Path(f"checkpoints/{key}.safetensors")


def train_all(document):
    for key, model in document["models"].items():
        data, start, watched = (
            Path(path) for path in (model["data"], model["start"], model["validation"]["data"])
        )
        history = Path(f"history/{key}.jsonl")
        pace = Path(f"history/{key}.pace.json")
        train.main(key, PARAMS, data, start, watched, checkpoint(key), history, pace)


@pytest.fixture(scope="module", autouse=True)
def chain(tmp_path_factory):
    """A project folder in which `check` has passed and the chain is trained, without MLflow."""
    document = miniature_chain()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("chain"))
        patch.delenv("DVC_ROOT", raising=False)
        patch.setitem(sys.modules, "mlflow", None)
        PARAMS.write_text(yaml.safe_dump(document))
        check.main(PARAMS, ROOT / "paper.yaml")
        pack()
        train_all(document)
        yield document


def weights(key):
    return load_file(checkpoint(key))


def batch_norm_names(key):
    model, _, _ = checkpoints.load(checkpoint(key), output_stride=None)
    return {
        f"{name}.{tensor}"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        for tensor in layer.state_dict()
    }


def test_each_of_the_three_learns_from_its_own_images():
    lengths = {p: len(Split(Path(p))) for p in map(str, sorted(Path("data").rglob("*.arrow")))}
    assert lengths["data/voc/trainaug.arrow"] == 48 + 80
    assert lengths["data/voc/trainval.arrow"] == 48 + 32
    assert 0 < lengths["data/coco/pretrain.arrow"] < 40  # what is bare or foreign is left out
    voc_val, coco_ids = (
        set(Split(Path(p)).image_ids) for p in ("data/voc/val.arrow", "data/coco/pretrain.arrow")
    )
    assert not voc_val & coco_ids


def test_the_first_starts_from_the_archives_weights(chain):
    """Two steps away from them, where another draw would be nowhere near."""
    trained = weights(ON_COCO)
    start = load_file("archives/xception65")
    names = [
        name for name in start if f"backbone.encoder.{name}" in trained and start[name].ndim == 4
    ]
    assert len(names) > 5
    for name in names:
        moved = (trained[f"backbone.encoder.{name}"] - start[name]).norm() / start[name].norm()
        assert 0.0 < moved < 0.2


@pytest.mark.parametrize(("before", "after"), [(ON_COCO, ON_TRAINAUG), (ON_TRAINAUG, ON_TRAINVAL)])
def test_each_later_training_starts_from_the_checkpoint_before_it(before, after):
    """Whole, head and classifier included: two steps of a low rate change little of it."""
    start, trained = weights(before), weights(after)
    assert start.keys() == trained.keys()
    moved = {
        name: (trained[name] - tensor).norm().item() / tensor.norm().item()
        for name, tensor in start.items()
        if tensor.ndim == 4
    }
    for part in ("backbone.encoder.conv1", "aspp.projection", "decoder", "classifier"):
        assert max(share for name, share in moved.items() if name.startswith(part)) > 0.0
    assert max(moved.values()) < 0.01


def test_statistics_of_the_second_are_of_its_own_images():
    start, trained = weights(ON_COCO), weights(ON_TRAINAUG)
    statistics = [name for name in start if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) > 20
    assert not any(torch.equal(start[name], trained[name]) for name in statistics)


def test_frozen_batch_normalisation_is_the_same_bytes_before_and_after_the_last():
    start, trained = weights(ON_TRAINAUG), weights(ON_TRAINVAL)
    names = batch_norm_names(ON_TRAINVAL)
    assert {name.rsplit(".", 1)[1] for name in names} == {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    for name in names:
        assert start[name].numpy().tobytes() == trained[name].numpy().tobytes(), name


def test_the_last_is_trained_at_output_stride_8_from_a_lower_rate_than_the_first(chain):
    _, network, _ = checkpoints.load(checkpoint(ON_TRAINVAL), output_stride=None)
    assert network.output_stride == 8
    rates = [chain["models"][key]["training"]["base_learning_rate"] for key in CHAIN]
    assert rates == [0.007, 0.0001, 0.0001]
    for key, rate in zip(CHAIN, rates, strict=True):
        lines = [json.loads(line) for line in Path(f"history/{key}.jsonl").read_text().splitlines()]
        assert [line["iteration"] for line in lines] == [0, 1]
        assert lines[0]["learning_rate"] == rate
