"""A row's network as an ONNX graph: its labels are those of predict, whatever the size."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import stores
import synthetic
import torch
import yaml

from pipeline.exporting import __main__ as export
from pipeline.exporting import comparison, graph
from pipeline.inference import predict
from pipeline.model import checkpoints, deeplab
from pipeline.pictures import labelling
from pipeline.splits import Split
from pipeline.tracking import store
from stages import publish

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
EVALUATION = {
    "trimap_band": "square",
    "max_trimap_width": 3,
    "resamples": 100,
    "resampling_seed": 0,
    "worst_images": 2,
    "warn_predicted_share": 0.95,
    "warn_label_share": 0.8,
}


def scene(height, width, seed=0):
    return synthetic.scene(np.random.default_rng(seed), height, width)[0]


def network(described, inference):
    model = deeplab.build(described, num_classes=3, output_stride=inference.output_stride, seed=1)
    synthetic.scramble_batch_norm(model).eval()
    images = torch.from_numpy(scene(65, 65)[None]).permute(0, 3, 1, 2) / 128 - 1
    with torch.no_grad():  # all classes equally likely in the mean, so that each is found
        model.classifier.weight *= 30
        model.classifier.bias -= model.coarse_logits(images).mean((0, 2, 3))
    return model


def built(described, inference, facts=None):
    model = network(described, inference)
    folded = predict.folded(model)
    made = graph.build(folded, described, inference, synthetic.CLASSES, facts or {})
    return predict.prepared(model, inference, CPU), made


def differing(run, model, described, inference, batch):
    """How many labels differ, over the batch."""
    (found,) = run(["label"], {"image": batch})
    assert (found.shape, found.dtype) == (batch.shape[:3], np.uint8)
    expected = [
        labelling.label(model, described, image, inference, max_side=4096, device=CPU)
        for image in batch
    ]
    return int((found != np.stack(expected)).sum())


PLAIN = {"backbone": "resnet18", "decoder": None}
FAR_TAPS = synthetic.NETWORK["aspp"] | {"atrous_rates": [6, 12, 18]}
NETWORKS = [
    ({"backbone": "resnet18"}, {"scales": [0.75]}),
    (PLAIN, {"output_stride": 8}),
    (PLAIN, {"scales": [1.25]}),
    ({"backbone": "xception41", "separable": True}, {}),
    ({**PLAIN, "separable": True, "aspp": FAR_TAPS}, {}),
]


@pytest.fixture(scope="module")
def plain():
    """The graph of a small network, for what does not depend on the network."""
    return built(synthetic.network(**PLAIN), synthetic.inference(), {"checkpoint.md5": "0a1b"})[1]


@pytest.mark.parametrize(("changes", "strategy"), NETWORKS, ids=str)
def test_labels_are_those_of_predict_at_any_size_and_any_batch(changes, strategy):
    described, inference = synthetic.network(**changes), synthetic.inference(**strategy)
    model, made = built(described, inference)
    run = comparison.session(made.SerializeToString()).run
    for sizes in [(40, 61), (65, 65), (1, 1), (70, 140)]:
        batch = scene(*sizes)[None]
        assert differing(run, model, described, inference, batch) <= 1
    three = np.stack([scene(33, 50, seed=number) for number in range(3)])
    assert differing(run, model, described, inference, three) <= 1
    assert len(np.unique(run(["label"], {"image": three})[0])) > 1  # a map of one class is equal


def test_the_graph_says_what_it_takes_and_gives_and_was_made_of(plain):
    (taken,), (given,) = plain.graph.input, plain.graph.output
    dims = [d.dim_param or d.dim_value for d in taken.type.tensor_type.shape.dim]
    assert (taken.name, dims) == ("image", ["batch", "height", "width", 3])
    assert given.name == "label"
    types = [one.type.tensor_type.elem_type for one in (taken, given)]
    assert types == [onnx.TensorProto.UINT8] * 2
    assert [(one.domain, one.version) for one in plain.opset_import] == [("", 18)]
    facts = {prop.key: prop.value for prop in plain.metadata_props}
    assert facts["checkpoint.md5"] == "0a1b"
    assert json.loads(facts["classes"])["names"] == ["background", "cat", "dog"]


def test_a_graph_names_no_file_and_no_folder_of_this_machine(plain):
    assert str(ROOT).encode() not in plain.SerializeToString()
    assert str(Path(sys.prefix)).encode() not in plain.SerializeToString()


@pytest.mark.parametrize(
    "changes", [{"scales": [0.5, 1.0]}, {"flip": True}, {"scales": [0.5, 1.0], "flip": True}]
)
def test_a_row_of_several_passes_is_refused(changes):
    with pytest.raises(ValueError, match=r"rows\.best\.inference: \d scales, flip"):
        graph.check("best", synthetic.inference(**changes))


@pytest.fixture
def project(tmp_path_factory, tmp_path, monkeypatch):
    """A project with one row, whose checkpoint computes, and an empty store."""
    stores.use_empty_store(tmp_path_factory, monkeypatch, tmp_path)
    monkeypatch.setitem(stores.ROW, "inference", synthetic.INFERENCE)
    monkeypatch.setitem(stores.ROW, "evaluation", EVALUATION)
    monkeypatch.setitem(stores.ROW, "paper", [])
    stores.write_project(tmp_path)
    synthetic.write_split(tmp_path / "data/val.arrow", [(40, 61), (65, 33)])
    described = synthetic.network(backbone="resnet18", decoder=None)
    model = deeplab.build(described, num_classes=3, output_stride=16, seed=1)
    checkpoints.save(tmp_path / "checkpoints/v3.safetensors", model, described, synthetic.CLASSES)
    return tmp_path


def run_export(row="v3"):
    export.main(Path("params.yaml"), row, Path("checkpoints"), Path("exports"))


def test_an_export_states_the_share_of_equal_labels_and_lies_beside_its_run(project, capsys):
    publish.main(*(Path(name) for name in ("params.yaml", *stores.INPUTS)))
    capsys.readouterr()
    run_export()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "v3:     1 x 40 x 61: 0 pixels (0.0000%) differ from predict"
    assert said[3] == "v3:     3 x 40 x 33: 0 pixels (0.0000%) differ from predict"
    assert said[4].startswith("exports/v3.onnx: ")
    run = stores.one_run("evaluate@v3")
    assert said[5] == f"MLflow: exports/v3.onnx of run {run.info.run_id}"
    listed = store.open_client().list_artifacts(run.info.run_id, "exports")
    assert [artifact.path for artifact in listed] == ["exports/v3.onnx"]
    made = (project / "exports/v3.onnx").read_bytes()
    run_export()
    assert (project / "exports/v3.onnx").read_bytes() == made


def test_an_export_is_not_laid_beside_a_run_of_another_strategy(
    project, plain, monkeypatch, capsys
):
    monkeypatch.setattr(graph, "build", lambda *_: plain)
    monkeypatch.setattr(comparison, "compare", lambda *_: [])
    publish.main(*(Path(name) for name in ("params.yaml", *stores.INPUTS)))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["rows"]["v3"]["inference"]["batch_size"] += 1
    Path("params.yaml").write_text(yaml.safe_dump(params))
    run_export()
    said = "MLflow: not logged there, it has no run of this row and checkpoint\n"
    assert capsys.readouterr().err.endswith(said)


def test_without_a_store_the_file_is_written_all_the_same(project, plain, monkeypatch, capsys):
    monkeypatch.setattr(graph, "build", lambda *_: plain)
    monkeypatch.setattr(comparison, "compare", lambda *_: [])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run_export()
    assert (project / "exports/v3.onnx").is_file()
    assert capsys.readouterr().err.startswith("MLflow: not logged there, http://127.0.0.1:1: ")


def test_a_graph_with_other_labels_is_not_written(project, plain, monkeypatch):
    monkeypatch.setattr(graph, "build", lambda *_: plain)
    compared = comparison.Comparison(1, 20, 30, differing=6)
    monkeypatch.setattr(comparison, "compare", lambda *_: [compared])
    with pytest.raises(ValueError, match=r"v3: 1 x 20 x 30: 6 pixels \(1\.0000%\) differ from"):
        run_export()
    assert not (project / "exports").exists()


def test_another_network_is_found_out_by_the_comparison(project, plain):
    inference = synthetic.inference()
    other = synthetic.network(**PLAIN, mean=[10.0, 200.0, 90.0])
    split = Split(project / "data/val.arrow")
    model = predict.prepared(network(other, inference), inference, CPU)
    found = comparison.compare(plain.SerializeToString(), model, other, inference, split)
    assert max(compared.share for compared in found) > 0.001


def test_what_is_missing_is_said_with_what_makes_it(project):
    (project / "checkpoints/v3.safetensors").unlink()
    with pytest.raises(ValueError, match=r"v3\.safetensors: not there yet; `dvc repro predict@v3`"):
        run_export()


def test_a_row_that_is_none_is_named(project):
    with pytest.raises(ValueError, match=r"params\.yaml: rows\.none is missing"):
        run_export("none")
