"""A user's own folders as DVC sees them: inside the repository and outside."""

import json
import shutil

import pytest
from clones import ROOT, Clone
from test_custom import MASK, encoded, picture


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with the preset for one's own data, and 20 images."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    shutil.copy(ROOT / "presets/custom.yaml", clone.folder / "params.yaml")
    for number in range(20):
        add(clone.folder / "my", number)
    return clone


def add(folder, number):
    files = {f"images/{number}.jpg": picture(), f"labels/{number}.png": encoded(MASK)}
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def set_folders(clone, images, labels):
    folders = {"images": str(images), "labels": str(labels)}
    clone.change_params(lambda params: params["custom"]["mine"].update(folders))


def packed(clone):
    return [clone.digest(f"data/custom/{split}.arrow") for split in ("train", "val")]


def test_own_folders_are_packed_and_then_left_alone(clone):
    assert clone.repro("custom@mine") == ({"custom@mine"}, set())
    assert clone.repro("custom@mine") == (set(), set())


def test_a_file_that_changes_is_packed_again(clone):
    before = packed(clone)
    (clone.folder / "my/images/3.jpg").write_bytes(picture(quality=50))
    assert clone.repro("custom@mine") == ({"custom@mine"}, set())
    assert sum(now != was for now, was in zip(packed(clone), before, strict=True)) == 1


def test_folders_may_stand_anywhere(clone, tmp_path):
    before = packed(clone)
    outside = tmp_path / "out side"
    shutil.copytree(clone.folder / "my", outside)
    set_folders(clone, outside / "images", outside / "labels")
    assert clone.repro("custom@mine") == ({"custom@mine"}, set())
    assert packed(clone) == before
    assert clone.repro("custom@mine") == (set(), set())
    add(outside, 20)
    assert clone.repro("custom@mine") == ({"custom@mine"}, set())
    assert packed(clone) != before
    set_folders(clone, "my/images", "my/labels")


def test_the_preset_runs_to_its_page_and_into_mlflow(clone):
    clone.change_params(_shorten)
    clone.repro()
    assert "DeepLab v3+ on my images" in (clone.folder / "report/index.html").read_text()
    costs = json.loads((clone.folder / "metrics/multiply_adds.json").read_text())
    assert list(costs) == ["mobilenetv2-v3plus_os16"]
    _, runs = clone.mlflow_runs("custom")
    names = {run.info.run_name for run in runs}
    assert names == {"train@mobilenetv2-v3plus", "mobilenetv2-v3plus_os16"}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_git_leaves_own_folders_alone(clone):
    # DVC stashes what git would take, and moves it off the disk, to apply an experiment.
    assert clone.run("git status --porcelain --untracked-files=all my") == ""


def test_without_the_folders_page_and_runs_are_made_of_what_was_packed(clone):
    (clone.folder / "my").rename(clone.folder / "elsewhere")
    try:
        assert "left out" not in clone.run("python -m pipeline.tracking.so_far params.yaml")
        clone.run("dvc repro --allow-missing")
        table = (clone.folder / "report/table.txt").read_text()
        assert "mobilenetv2-v3plus_os16" in table
        assert (clone.folder / "data/custom/train.arrow").exists()
    finally:
        (clone.folder / "elsewhere").rename(clone.folder / "my")


def _shorten(params):
    """The preset as it is, but for sizes, and weights that need no download."""
    params["archives"]["mobilenetv2_100"]["url"] = "random:mobilenetv2_100?seed=0"
    params["custom"]["mine"].update(max_height=65, max_width=65)
    (model,) = params["models"].values()
    model["training"].update(max_iterations=2, batch_size=4, crop_size=65)
    (row,) = params["rows"].values()
    for section in (model["validation"], row["inference"]):
        section.update(height=65, width=65)


def test_a_mistake_in_the_data_stops_the_pipeline_there(clone):
    (clone.folder / "my/labels/7.png").write_bytes(encoded(MASK + 1))
    with pytest.raises(AssertionError, match=r"my/labels/7\.png: value 1 \(4 pixels\)"):
        clone.repro("custom@mine")
    assert not (clone.folder / "data/custom/train.arrow").exists()
