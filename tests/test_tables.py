"""One row of every table, through all stages that make it: the presets, overridden where too big.

Two images to train on and two to score, two iterations, the same backbone with fewer blocks and
random weights. Everything else is the preset's: head, strides, rates, recipe, inference strategy.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from torch import nn

from pipeline import label_map, pixels, splits
from pipeline.model import checkpoints
from pipeline.originals import miniature, packed
from pipeline.splits import Split
from stages import (
    check,
    cityscapes,
    compare,
    evaluate,
    fetch,
    multiply_adds,
    predict,
    report,
    train,
    voc,
)

ROOT = Path(__file__).parents[1]
# The smallest that all six scales fit at output_stride 16, and 32 at scale 1.
HEIGHT, WIDTH, CROP_SIZE = 65, 129, 65
SMALLER = {
    "resnet101_beta": ("resnet50_beta", "resnet50s"),
    "xception65": ("xception41", "xception41"),
    "xception71": ("xception41", "xception41"),
}
CHECKPOINT = Path("checkpoints/model.safetensors")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with both data sets' miniatures, packed and cut down, where no MLflow is installed.

    Start weights are fetched into it as tests ask for them.
    """
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        patch.setitem(sys.modules, "mlflow", None)
        pack()
        yield folder


def pack():
    """Packs two images of each split; each name of a split leads to them."""
    names = ("voc2012", "cityscapes-leftImg8bit", "cityscapes-gtFine")
    for name in names:
        Path(name).write_bytes(miniature.generate(name, 0))
    wanted = {"train": 24, "val": 8, "test": 6}
    section = {"images": "-", "labels": "-", "expected_images": wanted, "storage": "encoded"}
    Path("packing.yaml").write_text(json.dumps({"cityscapes": {"fine": section}}))
    packed_ = {n: [Path(f"packed/{n}/{s}") for s in wanted] for n in ("voc", "cityscapes")}
    voc.main("voc2012", Path("voc2012"), *packed_["voc"], Path("packed/voc.json"))
    archives = [Path(name) for name in names[1:]]
    metrics = Path("packed/cityscapes.json")
    cityscapes.main("fine", Path("packing.yaml"), *archives, *packed_["cityscapes"], metrics)
    for name, (train_, val, _) in packed_.items():
        cut(train_, Path(f"data/{name}/train.arrow"))
        cut(val, Path(f"data/{name}/val.arrow"))
    Path("data/voc/train.arrow").rename("data/voc/trainaug.arrow")


def cut(packed_split, out):
    """Writes the middles of a split's first two images."""
    split = Split(packed_split)
    samples = []
    for sample in (split[0], split[1]):
        top, left = (sample.height - HEIGHT + 8) // 2, max(0, sample.width - WIDTH) // 2
        window = np.s_[top : top + HEIGHT - 8, left : left + WIDTH]
        image = packed.png(np.ascontiguousarray(pixels.decode(sample.image)[window]))
        label = label_map.encode(label_map.decode(sample.label)[window], split.classes)
        samples.append(
            splits.checked_sample(sample.image_id, image, label, split.classes, "miniature")
        )
    splits.write(out, samples, split.classes)


def shrunk(preset, row_key):
    """A preset with that row alone and its model, small enough for a test."""
    document = yaml.safe_load((ROOT / "presets" / f"{preset}.yaml").read_text())
    row = document["rows"][row_key]
    model = document["models"][row["model"]]
    backbone, weights = SMALLER[model["network"]["backbone"]]
    model["start"] = f"archives/{weights}"
    model["network"]["backbone"] = backbone
    model["training"] |= {"max_iterations": 2, "batch_size": 2, "crop_size": CROP_SIZE}
    model["training"]["precision"] = "float32"
    model["validation"] |= {"height": HEIGHT, "width": WIDTH, "every_iterations": 2}
    row["inference"] |= {"height": HEIGHT, "width": WIDTH}
    row["model"] = "model"
    archives = document["archives"] | {weights: {"url": f"random:{weights}?seed=0"}}
    sections = {"archives": archives, "imports": {}, "models": {"model": model}}
    sections |= {"submissions": {}}
    return document | sections | {"rows": {"row": row}}


def run(document):
    """Runs the stages of that row, in order, in the working directory."""
    params, paper = Path("params.yaml"), ROOT / "paper.yaml"
    params.write_text(yaml.safe_dump(document))
    model, row = document["models"]["model"], document["rows"]["row"]
    start, data, watched = (Path(p) for p in (model["start"], row["data"], row["data"]))
    predictions, metrics = Path("predictions/row"), Path("metrics/row")
    check.main(params, paper)
    if not start.exists():
        fetch.main(start.name, params, start)
    history = Path("history/model.jsonl")
    outs = (CHECKPOINT, history, Path("history/model.pace.json"))
    train.main("model", params, Path(model["data"]), start, watched, *outs)
    predict.main("row", params, CHECKPOINT, data, predictions)
    scores = [metrics / f"{name}.json" for name in ("scores", "trimap", "worst_images")]
    counts = [Path("counts/row.arrow"), Path("counts/row.confusion.csv")]
    evaluate.main("row", params, data, predictions, *scores, *counts)
    compare.main(params, Path("counts"), Path("metrics/comparisons.json"))
    multiply_adds.main(params, Path("metrics/multiply_adds.json"))
    folders = ("data", "checkpoints", "history", "counts", "metrics", "predictions", "report")
    report.main(params, paper, *map(Path, folders))


def assert_results(document, miou):
    """Every stage has left what the next one and a reader need."""
    row = document["rows"]["row"]
    for sample in Split(Path(row["data"])):
        with Image.open(f"predictions/row/{sample.image_id}.png") as prediction:
            assert prediction.size == (sample.width, sample.height)
    lines = [json.loads(line) for line in Path("history/model.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "loss" in line] == [0, 1]
    assert [line["iteration"] for line in lines if "validation_miou" in line] == [2]
    scores = json.loads(Path("metrics/row/scores.json").read_text())
    assert scores["num_images"] == 2
    assert 0.0 <= scores["miou"] <= 1.0
    assert len(json.loads(Path("metrics/row/trimap.json").read_text())) == 40
    table = Path("report/table.txt").read_text()
    assert f" {miou} " in table
    assert table.splitlines()[-1].startswith("row ")
    assert json.loads(Path("metrics/comparisons.json").read_text()) == []
    assert Path("report/index.html").stat().st_size > 10_000


def made(preset, row_key, miou):
    """Makes a row; returns its network as trained, as evaluated, and what it costs."""
    document = shrunk(preset, row_key)
    run(document)
    assert_results(document, miou)
    trained, network, _ = checkpoints.load(CHECKPOINT, output_stride=None)
    stride = document["rows"]["row"]["inference"]["output_stride"]
    evaluated, _, _ = checkpoints.load(CHECKPOINT, output_stride=stride)
    assert network.model_dump() == document["models"]["model"]["network"]
    costs = json.loads(Path("metrics/multiply_adds.json").read_text())
    return trained, evaluated, costs["row"]["multiply_adds"]


def convolutions(module, kernel_size=3):
    found = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    return [layer for layer in found if layer.kernel_size == (kernel_size, kernel_size)]


def rates(module):
    """Atrous rates of its 3x3 convolutions, in order."""
    return [layer.dilation[0] for layer in convolutions(module)]


def test_table_1_projects_to_8_channels(project):
    model, _, _ = made("voc", "resnet101_os16-eval16-decoder-low8-3x3x256x1", "77.61")
    (stage,) = model.decoder.stages
    assert stage.low_level_projection.convolution.weight.shape == (8, 256, 1, 1)
    assert [layer.weight.shape for layer in convolutions(stage)] == [(256, 256 + 8, 3, 3)]
    assert rates(model.backbone.encoder.layer4) == [2, 4, 8]  # multi-grid (1, 2, 4)
    assert rates(model.aspp) == [6, 12, 18]


def test_table_2_takes_in_conv3_and_then_conv2(project):
    model, _, _ = made("voc", "resnet101_os16-eval16-decoder-conv3-3x3x256x1", "78.61")
    projections = [stage.low_level_projection.convolution for stage in model.decoder.stages]
    assert [layer.in_channels for layer in projections] == [512, 256]
    assert [layer.out_channels for layer in projections] == [48, 48]
    assert [layer.weight.shape for layer in convolutions(model.decoder)] == [(256, 304, 3, 3)] * 2
    assert model.logits_stride == 4


def test_table_3_trains_at_output_stride_32_and_evaluates_at_8(project):
    trained, evaluated, _ = made("voc", "resnet101_os32-eval8-decoder", "77.92")
    assert rates(trained.aspp) == [3, 6, 9]
    assert rates(trained.backbone.encoder.layer4) == [1, 2, 4]
    assert rates(evaluated.aspp) == [12, 24, 36]
    assert rates(evaluated.backbone.encoder.layer4) == [4, 8, 16]


def test_table_5_is_separable_and_sums_over_scales_and_flips(project):
    row = "xception65_os16-eval16-decoder-separable-ms-flip"
    model, _, multi_scale = made("voc", row, "81.21")
    depthwise = [*convolutions(model.aspp), *convolutions(model.decoder)]
    assert [layer.groups for layer in depthwise] == [2048] * 3 + [304, 256]
    document = shrunk("voc", row)
    document["rows"]["row"]["inference"] |= {"scales": [1.0], "flip": False}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    multiply_adds.main(Path("params.yaml"), Path("single.json"))
    single = json.loads(Path("single.json").read_text())["row"]["multiply_adds"]
    # Twice the pixels of six scales over those of 5 x 9 at stride 16, and of 65 x 129 at stride 1.
    at_16 = 2 * (3 * 5 + 4 * 7 + 5 * 9 + 6 * 11 + 7 * 13 + 8 * 15) / (5 * 9)
    at_1 = 2 * (33 * 65 + 49 * 97 + 65 * 129 + 81 * 161 + 97 * 193 + 113 * 225) / (65 * 129)
    assert at_16 < multi_scale / single < at_1


def test_table_7_leaves_image_pooling_out(project):
    model, _, _ = made("cityscapes", "xception71_os16-eval16-decoder-separable", "79.55")
    assert len(model.aspp.branches) == 4
    assert model.aspp.projection.convolution.weight.shape == (256, 4 * 256, 1, 1)
    assert model.classifier.out_channels == 19
    assert rates(model.aspp) == [6, 12, 18]
    assert model.backbone.channels == 2048
