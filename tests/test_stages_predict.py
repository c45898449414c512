import fcntl
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
import yaml
from PIL import Image
from synthetic import CLASSES

from pipeline import label_map, splits
from pipeline.classes import Classes
from pipeline.inference.predict import label_maps
from pipeline.model import checkpoints, deeplab
from pipeline.splits import Split
from stages import predict

SIZES = [(33, 40), (25, 21)]
CHECKPOINT = Path("checkpoints/a.safetensors")


def write_params(**inference):
    row = {"inference": synthetic.INFERENCE | inference}
    Path("params.yaml").write_text(yaml.safe_dump({"rows": {"b": row}}))


def run_predict(key="b", data="data/two.arrow"):
    predict.main(key, Path("params.yaml"), CHECKPOINT, Path(data), Path("predictions/b"))


def written():
    return sorted(path.name for path in Path("predictions/b").iterdir())


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A project folder with two images and a checkpoint that nothing has trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    write_params()
    synthetic.write_split(Path("data/two.arrow"), SIZES)
    network = synthetic.network()
    model = deeplab.build(network, num_classes=3, output_stride=16, seed=0)
    checkpoints.save(CHECKPOINT, model, network, CLASSES)


def test_predict_writes_a_palette_png_of_each_images_size(trained):
    run_predict()
    assert written() == ["image_0.png", "image_1.png"]
    for number, (height, width) in enumerate(SIZES):
        with Image.open(f"predictions/b/image_{number}.png") as image:
            assert (image.mode, image.size) == ("P", (width, height))
            assert image.getpalette()[3:9] == [64, 0, 0, 64, 0, 128]  # cat, dog


@pytest.mark.parametrize("changes", [{}, {"scales": [0.75, 1.0], "flip": True}])
def test_predict_writes_the_networks_labels(trained, changes):
    write_params(**changes)
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
    write_params(batch_size=2)
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
        write_params(batch_size=2, flip=True)
    else:
        model, network, classes = checkpoints.load(CHECKPOINT, output_stride=16)
        model.classifier.weight.data *= 2
        checkpoints.save(CHECKPOINT, model, network, classes)
    predict_five(Path("predictions/b"))
    assert len(interrupted) == 5


def test_predict_at_output_stride_8_takes_a_checkpoint_of_16(trained):
    write_params(output_stride=8)
    run_predict()
    assert len(written()) == 2


def test_predict_names_an_image_that_is_too_large_and_writes_nothing(trained):
    write_params(height=33, width=33)
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
