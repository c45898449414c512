"""The paper's claim on the miniature, held by a real, shortened training of both its models.

Sec. 4.4 and Fig. 5: the decoder gains mIoU over bilinear upsampling, most along object boundaries.
"""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from stages import evaluate, fetch, predict, train, trainaug, voc

MINIATURE = Path(__file__).parent.parent / "presets" / "miniature.yaml"
SPLITS = [Path(f"data/voc/{name}.arrow") for name in ("train", "val", "trainval", "trainaug")]


@pytest.fixture(scope="module")
def miou_by_width(tmp_path_factory):
    """mIoU of each row of the miniature, by trimap width; of the whole image under None."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("miniature"))
        patch.setitem(sys.modules, "mlflow", None)
        num_threads = torch.get_num_threads()
        torch.set_num_threads(2)
        params = yaml.safe_load(MINIATURE.read_text())
        for model in params["models"].values():
            model["training"]["max_iterations"] = 100
        params_file = Path("params.yaml")
        params_file.write_text(yaml.safe_dump(params))
        for key in params["archives"]:
            fetch.main(key, params_file, Path("archives") / key)
        voc.main("voc2012", Path("archives/voc2012"), *SPLITS[:3], Path("voc.json"))
        train_split, val, _, out = SPLITS
        counts = Path("trainaug.json")
        trainaug.main("sbd", params_file, Path("archives/sbd"), train_split, val, out, counts)
        results = {key: _run(key, row, params, params_file) for key, row in params["rows"].items()}
        torch.set_num_threads(num_threads)
        return results


def _run(key, row, params, params_file):
    model = params["models"][row["model"]]
    checkpoint, folder = Path(f"checkpoints/{row['model']}.safetensors"), Path("predictions") / key
    names = ("history", "pace", "scores", "trimap")
    history, pace, scores, curve = (Path(f"{key}_{name}") for name in names)
    train.main(
        row["model"],
        params_file,
        Path(model["data"]),
        Path(model["start"]),
        Path(model["validation"]["data"]),
        checkpoint,
        history,
        pace,
    )
    predict.main(key, params_file, checkpoint, Path(row["data"]), folder)
    others = [Path(key, name) for name in ("worst_images.json", "counts.arrow", "confusion.csv")]
    evaluate.main(key, params_file, Path(row["data"]), folder, scores, curve, *others)
    by_width = {point["trimap_width"]: point["miou"] for point in json.loads(curve.read_text())}
    return by_width | {None: json.loads(scores.read_text())["miou"]}


def test_the_miniature_is_learned(miou_by_width):
    assert miou_by_width["v3plus_os16"][None] > 0.6


def test_the_decoder_gains_over_bilinear_upsampling(miou_by_width):
    assert miou_by_width["v3plus_os16"][None] > miou_by_width["v3_os16"][None]


def test_the_decoder_gains_most_along_boundaries(miou_by_width):
    gains = [
        miou_by_width["v3plus_os16"][width] - miou_by_width["v3_os16"][width]
        for width in (1, 5, 20, None)
    ]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0.1
