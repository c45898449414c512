import fcntl
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from synthetic import CLASSES

from pipeline import files, label_map, splits
from pipeline.classes import Classes
from pipeline.inference.predict import label_maps
from pipeline.model import checkpoints, deeplab
from pipeline.originals import random_weights
from pipeline.splits import Split
from pipeline.training import class_weights
from pipeline.training.recipe import learning_rate
from stages import predict, train

SIZES = [(33, 40), (25, 21)]
CHECKPOINT, HISTORY = Path("checkpoints/a.safetensors"), Path("history/a.jsonl")
PACE = Path("history/a.pace.json")


def write_params(model=None, training=None, inference=None, validation=None):
    document = {
        "models": {
            "a": {
                "desc": "A model",
                "data": "data/two.arrow",
                "start": "archives/test_resnet",
                "network": synthetic.NETWORK | (model or {}),
                "training": synthetic.TRAINING | (training or {}),
                "validation": synthetic.VALIDATION | (validation or {}),
            }
        },
        "rows": {"b": {"inference": synthetic.INFERENCE | (inference or {})}},
        "mlflow": {"experiment": "tests"},
    }
    Path("params.yaml").write_text(yaml.safe_dump(document))


def run_train(key="a", start="archives/test_resnet"):
    data = Path("data/two.arrow")
    train.main(key, Path("params.yaml"), data, Path(start), data, CHECKPOINT, HISTORY, PACE)


def run_predict(key="b", data="data/two.arrow"):
    predict.main(key, Path("params.yaml"), CHECKPOINT, Path(data), Path("predictions/b"))


def written():
    return sorted(path.name for path in Path("predictions/b").iterdir())


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


@pytest.fixture
def trained(project):
    """A project folder with a checkpoint that nothing has trained."""
    network = synthetic.network()
    model = deeplab.build(network, num_classes=3, output_stride=16, seed=0)
    checkpoints.save(CHECKPOINT, model, network, CLASSES)


# train


def test_train_writes_a_line_for_each_iteration(project):
    run_train()
    recipe = synthetic.training()
    assert [set(line) for line in read_history()] == [{"iteration", "loss", "learning_rate"}] * 4
    assert [line["iteration"] for line in read_history()] == [0, 1, 2, 3]
    rates = [line["learning_rate"] for line in read_history()]
    assert rates == [learning_rate(i, recipe) for i in range(4)]
    assert read_history()[0]["loss"] == pytest.approx(1.1, abs=0.1)  # ln 3


def test_train_writes_the_class_weights_into_the_first_line(project):
    write_params(training={"class_weights": [1.0, 0.5, 2.0]})
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
    write_params(training={"class_weights": "frequency"})
    run_train()
    labels = [label_map.decode(sample.label) for sample in Split(Path("data/two.arrow"))]
    expected = class_weights.resolve(synthetic.training(class_weights="frequency"), CLASSES, labels)
    found = [value for name, value in read_history()[0].items() if name.startswith("class_we")]
    assert found == expected


def test_train_refuses_weights_for_another_number_of_classes(project):
    write_params(training={"class_weights": [1.0, 1.0]})
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
    write_params(training={"backbone_learning_rate_multiplier": 0.0})
    run_train()
    start = deeplab.build(synthetic.network(), num_classes=3, output_stride=16, seed=9)
    checkpoints.start(start, Path("archives/test_resnet"), "test_resnet", CLASSES)
    trained, _, _ = checkpoints.load(CHECKPOINT, output_stride=None)
    unmoved = dict(start.backbone.named_parameters())
    assert all(torch.equal(p, unmoved[name]) for name, p in trained.backbone.named_parameters())


def test_train_again_writes_the_same_bytes(project):
    write_params(training={"max_iterations": 1})
    digests = set()
    for _ in range(6):
        run_train()
        shutil.rmtree("scratch")
        digests.add((files.digest(CHECKPOINT, "md5"), files.digest(HISTORY, "md5")))
    assert len(digests) == 1


def test_a_training_can_start_from_another_models_checkpoint(project):
    run_train()
    CHECKPOINT.rename("other.safetensors")
    write_params(training={"max_iterations": 1, "base_learning_rate": 1e-9})
    run_train(start="other.safetensors")
    before, _, _ = checkpoints.load(Path("other.safetensors"), output_stride=None)
    after, _, _ = checkpoints.load(CHECKPOINT, output_stride=None)
    for name, parameter in after.named_parameters():
        torch.testing.assert_close(parameter, before.get_parameter(name), msg=name)


def test_a_training_that_fails_writes_nothing(project):
    write_params(training={"base_learning_rate": 1e30})
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


# predict


def test_predict_writes_a_palette_png_of_each_images_size(trained):
    run_predict()
    assert written() == ["image_0.png", "image_1.png"]
    for number, (height, width) in enumerate(SIZES):
        with Image.open(f"predictions/b/image_{number}.png") as image:
            assert (image.mode, image.size) == ("P", (width, height))
            assert image.getpalette()[3:9] == [64, 0, 0, 64, 0, 128]  # cat, dog


@pytest.mark.parametrize("changes", [{}, {"scales": [0.75, 1.0], "flip": True}])
def test_predict_writes_the_networks_labels(trained, changes):
    write_params(inference=changes)
    run_predict()
    model, network, _ = checkpoints.load(CHECKPOINT, output_stride=16)
    expected = label_maps(
        model,
        network,
        Split(Path("data/two.arrow")),
        synthetic.inference(**changes),
        device=torch.device("cpu"),
    )
    for image_id, label in expected:
        encoded = Path(f"predictions/b/{image_id}.png").read_bytes()
        assert np.array_equal(label_map.decode(encoded), label)


def test_predict_again_writes_the_same_bytes_and_leaves_no_old_image(trained):
    run_predict()
    first = {path.name: path.read_bytes() for path in Path("predictions/b").iterdir()}
    Path("predictions/b/removed.png").write_bytes(b"")
    run_predict()
    assert {path.name: path.read_bytes() for path in Path("predictions/b").iterdir()} == first


def predict_five(folder):
    predict.main("b", Path("params.yaml"), CHECKPOINT, Path("data/five.arrow"), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def interrupted(trained, monkeypatch):
    """Five images in batches of two, interrupted at the fourth; how many are labelled after."""
    synthetic.write_split(Path("data/five.arrow"), [(33, 40), (25, 21), (9, 9), (40, 33), (17, 30)])
    write_params(inference={"batch_size": 2})
    encode, labelled = label_map.encode, []

    def encode_three(label, classes):
        if len(labelled) == 3:
            raise KeyboardInterrupt
        labelled.append(label)
        return encode(label, classes)

    def encode_on(label, classes):
        labelled.append(label)
        return encode(label, classes)

    monkeypatch.setattr(label_map, "encode", encode_three)
    with pytest.raises(KeyboardInterrupt):
        predict_five(Path("predictions/b"))
    assert not list(Path("predictions").iterdir())
    labelled.clear()
    monkeypatch.setattr(label_map, "encode", encode_on)
    return labelled


def test_an_interrupted_prediction_goes_on_with_its_batch_and_gives_the_same_bytes(
    interrupted, capfd
):
    (kept,) = Path("scratch").glob("predict-b-*")
    (kept / "labels/.image_3.png.x.partial").write_bytes(b"what a kill leaves")
    found = predict_five(Path("predictions/b"))
    assert len(interrupted) == 3  # the third image again, whose batch was not complete
    assert "b: goes on after 2 of 5 images" in capfd.readouterr().err
    assert not list(kept.glob("labels"))
    assert sorted(found) == [f"image_{k}.png" for k in range(5)]
    assert predict_five(Path("predictions/again")) == found


def test_two_processes_that_predict_the_same_both_do(interrupted):
    expected = predict_five(Path("predictions/alone"))
    (folder,) = Path("scratch").glob("predict-b-*")
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert predict_five(Path("predictions/b")) == expected


@pytest.mark.parametrize("what", ["strategy", "checkpoint"])
def test_a_prediction_by_other_means_begins_anew(interrupted, what):
    if what == "strategy":
        write_params(inference={"batch_size": 2, "flip": True})
    else:
        model, network, classes = checkpoints.load(CHECKPOINT, output_stride=16)
        model.classifier.weight.data *= 2
        checkpoints.save(CHECKPOINT, model, network, classes)
    predict_five(Path("predictions/b"))
    assert len(interrupted) == 5


def test_predict_at_output_stride_8_takes_a_checkpoint_of_16(trained):
    write_params(inference={"output_stride": 8})
    run_predict()
    assert len(written()) == 2


def test_predict_names_an_image_that_is_too_large_and_writes_nothing(trained):
    write_params(inference={"height": 33, "width": 33})
    with pytest.raises(ValueError, match="image_0: image of 33x40 pixels is larger than the nomi"):
        run_predict()
    assert not any(path.is_file() for path in Path("predictions").rglob("*"))


def test_predict_names_a_row_that_is_not_there(trained):
    with pytest.raises(ValueError, match=r"params\.yaml: rows\.c\.inference is missing"):
        run_predict("c")


@pytest.mark.parametrize(
    "classes",
    [
        Classes(("background", "cat"), ((0, 0, 0), (64, 0, 0)), 255),
        Classes(("background", "dog", "cat"), CLASSES.colours, 255),
    ],
)
def test_predict_of_a_split_with_other_classes_is_an_error(trained, classes):
    image, label = (synthetic.png(np.zeros(shape, np.uint8)) for shape in ((9, 9, 3), (9, 9)))
    sample = splits.checked_sample("image_0", image, label, classes, "synthetic")
    splits.write(Path("data/other.arrow"), [sample], classes)
    with pytest.raises(
        ValueError, match=r"a\.safetensors is of 3 classes .*, data/other\.arrow of"
    ):
        run_predict(data="data/other.arrow")
