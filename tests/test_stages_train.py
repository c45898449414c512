import json
import shutil
import sys
from pathlib import Path

import pytest
import synthetic
import torch
import yaml
from safetensors.torch import save_file
from synthetic import CLASSES

from pipeline import files, label_map
from pipeline.model import checkpoints, deeplab
from pipeline.originals import random_weights
from pipeline.splits import Split
from pipeline.training import class_weights, throughput
from pipeline.training.recipe import learning_rate
from stages import train

SIZES = [(33, 40), (25, 21)]
CHECKPOINT, HISTORY = Path("checkpoints/a.safetensors"), Path("history/a.jsonl")
PACE = Path("history/a.pace.json")


def write_params(**training):
    document = {
        "models": {
            "a": {
                "desc": "A model",
                "data": "data/two.arrow",
                "start": "archives/test_resnet",
                "network": synthetic.NETWORK,
                "training": synthetic.TRAINING | training,
                "validation": synthetic.VALIDATION,
            }
        },
        "mlflow": {"experiment": "tests"},
    }
    Path("params.yaml").write_text(yaml.safe_dump(document))


def run_train(key="a", start="archives/test_resnet"):
    data = Path("data/two.arrow")
    train.main(key, Path("params.yaml"), data, Path(start), data, CHECKPOINT, HISTORY, PACE)


def read_history():
    return [json.loads(line) for line in HISTORY.read_text().splitlines()]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with two images and start weights, on a machine without MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    write_params()
    synthetic.write_split(Path("data/two.arrow"), SIZES)
    Path("archives").mkdir()
    Path("archives/test_resnet").write_bytes(random_weights.generate("test_resnet", 0))


def test_train_writes_a_line_for_each_iteration(project):
    run_train()
    recipe = synthetic.training()
    assert [set(line) for line in read_history()] == [{"iteration", "loss", "learning_rate"}] * 4
    assert [line["iteration"] for line in read_history()] == [0, 1, 2, 3]
    rates = [line["learning_rate"] for line in read_history()]
    assert rates == [learning_rate(i, recipe) for i in range(4)]
    assert read_history()[0]["loss"] == pytest.approx(1.1, abs=0.1)  # ln 3


def test_an_image_that_validation_cannot_take_is_told_before_the_first_iteration(project):
    synthetic.write_split(Path("data/two.arrow"), [*SIZES, (81, 40)])
    write_params()
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["models"]["a"]["validation"] |= {"every_iterations": 2, "height": 65, "width": 65}
    Path("params.yaml").write_text(yaml.safe_dump(document))
    message = "image_2: image of 81x40 pixels is larger than the nominal size 65x65"
    with pytest.raises(ValueError, match=message):
        run_train()
    assert not Path("scratch").exists()


def test_what_cannot_tell_its_speed_has_trained_all_the_same(project, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise RuntimeError("out of memory\nsomewhere")

    monkeypatch.setattr(throughput, "summary", refuse)
    run_train()
    assert CHECKPOINT.exists()
    assert "how fast it was is not known: out of memory somewhere" in capsys.readouterr().err


def test_train_writes_the_class_weights_into_the_first_line(project):
    write_params(class_weights=[1.0, 0.5, 2.0])
    run_train()
    first, *rest = read_history()
    named = {name: value for name, value in first.items() if name.startswith("class_weight")}
    assert named == {
        "class_weight/background": 1.0,
        "class_weight/cat": 0.5,
        "class_weight/dog": 2.0,
    }
    assert {frozenset(line) for line in rest} == {frozenset({"iteration", "loss", "learning_rate"})}


def test_train_takes_class_weights_from_the_split(project):
    write_params(class_weights="frequency")
    run_train()
    labels = [label_map.decode(sample.label) for sample in Split(Path("data/two.arrow"))]
    expected = class_weights.resolve(synthetic.training(class_weights="frequency"), CLASSES, labels)
    found = [value for name, value in read_history()[0].items() if name.startswith("class_we")]
    assert found == expected


def test_train_refuses_weights_for_another_number_of_classes(project):
    write_params(class_weights=[1.0, 1.0])
    message = (
        r"training.class_weights: \[1.0, 1.0\] is not a weight for each of 3 classes \(backgro"
    )
    with pytest.raises(ValueError, match=message):
        run_train()


def test_train_writes_a_checkpoint_that_carries_its_network_and_the_splits_classes(project):
    run_train()
    model, network, classes = checkpoints.load(CHECKPOINT, output_stride=None)
    assert network == synthetic.network()
    assert classes == CLASSES
    untrained = deeplab.build(network, num_classes=3, output_stride=16, seed=0)
    assert not torch.equal(model.classifier.weight, untrained.classifier.weight)


def test_train_starts_from_the_weights_it_is_given(project):
    write_params(backbone_learning_rate_multiplier=0.0)
    run_train()
    start = deeplab.build(synthetic.network(), num_classes=3, output_stride=16, seed=9)
    checkpoints.start(start, Path("archives/test_resnet"), "test_resnet", CLASSES)
    trained, _, _ = checkpoints.load(CHECKPOINT, output_stride=None)
    unmoved = dict(start.backbone.named_parameters())
    assert all(torch.equal(p, unmoved[name]) for name, p in trained.backbone.named_parameters())


def test_train_again_writes_the_same_bytes(project):
    write_params(max_iterations=1)
    digests = set()
    for _ in range(6):
        run_train()
        shutil.rmtree("scratch")
        digests.add((files.digest(CHECKPOINT, "md5"), files.digest(HISTORY, "md5")))
    assert len(digests) == 1


def test_a_training_can_start_from_another_models_checkpoint(project):
    run_train()
    CHECKPOINT.rename("other.safetensors")
    write_params(max_iterations=1, base_learning_rate=1e-9)
    run_train(start="other.safetensors")
    before, _, _ = checkpoints.load(Path("other.safetensors"), output_stride=None)
    after, _, _ = checkpoints.load(CHECKPOINT, output_stride=None)
    for name, parameter in after.named_parameters():
        torch.testing.assert_close(parameter, before.get_parameter(name), msg=name)


def test_a_training_that_fails_writes_nothing(project):
    write_params(base_learning_rate=1e30)
    with pytest.raises(ArithmeticError, match=r"the loss is (nan|inf) at iteration 1"):
        run_train()
    assert not any(path.is_file() for path in Path("checkpoints").glob("*"))
    assert not any(path.is_file() for path in Path("history").glob("*"))


def test_train_names_a_model_that_is_not_there(project):
    with pytest.raises(ValueError, match=r"params\.yaml: models\.c\.network is missing"):
        run_train("c")


def test_train_names_start_weights_that_do_not_fit(project):
    path = Path("archives/test_resnet")
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"archives/test_resnet: weights do not fit .*1 unk"):
        run_train()


def test_mlflow_changes_nothing(project, monkeypatch, tmp_path, capfd):
    run_train()
    assert "MLflow: not installed, hence no live curve" in capfd.readouterr().err
    history, (alone, _, _) = HISTORY.read_bytes(), checkpoints.load(CHECKPOINT, output_stride=None)
    monkeypatch.delitem(sys.modules, "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.rmtree("scratch")
    run_train()
    assert "not installed" not in capfd.readouterr().err
    assert HISTORY.read_bytes() == history
    shown, _, _ = checkpoints.load(CHECKPOINT, output_stride=None)
    ours, theirs = shown.state_dict(), alone.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
