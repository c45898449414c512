"""The real `dvc repro` on a small params.yaml, in clones of this working tree.

One clone lives through the whole story, in the order of the tests; a second is made beside it.
"""

import json
import shutil

import pytest
from clones import Clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def first_repro(clone):
    return clone.repro()


def test_the_first_repro_executes_every_stage(clone, first_repro):
    assert first_repro == (set(clone.run("dvc stage list --name-only").split()), set())
    assert (clone.folder / "report/index.html").stat().st_size > 10_000


def test_a_second_repro_executes_nothing(clone, first_repro):
    assert clone.repro() == (set(), set())


def test_mlflow_holds_one_run_for_each_model_and_row(clone, first_repro):
    _, runs = clone.mlflow_runs()
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_mlflow_holds_every_iteration_of_a_training_once(clone, first_repro):
    client, runs = clone.mlflow_runs()
    (run,) = (run for run in runs if "train/loss" in run.data.metrics and "v3plus" in str(run.data))
    logged = client.get_metric_history(run.info.run_id, "train/loss")
    lines = (clone.folder / "history/v3plus.jsonl").read_text().splitlines()
    assert sorted((m.step, m.value) for m in logged) == [
        (record["iteration"], record["loss"])
        for record in map(json.loads, lines)
        if "loss" in record
    ]


def test_changes_of_a_row_and_of_a_training_run_what_depends_on_them_alone(clone, first_repro):
    def change(params):
        params["rows"]["v3_os16"]["inference"]["flip"] = True
        params["models"]["v3plus"]["training"]["base_learning_rate"] = 0.01

    before = clone.digest("checkpoints/v3plus.safetensors")
    clone.change_params(change)
    executed, restored = clone.repro()
    row = {"predict@v3_os16", "evaluate@v3_os16"}
    chain = {"train@v3plus", "predict@v3plus_os16", "evaluate@v3plus_os16"}
    # DVC runs the check again because params.yaml changed; it computes nothing.
    always = {"check", "compare", "multiply_adds", "report", "publish"}
    assert (executed, restored) == (always | row | chain, set())
    assert clone.digest("checkpoints/v3plus.safetensors") != before


def test_a_reverted_change_is_restored_without_training(clone, first_repro):
    clone.run("git checkout -q params.yaml")
    executed, restored = clone.repro()
    assert not [name for name in executed if name.startswith(("train", "predict"))]
    assert "train@v3plus" in restored
    # Two rows and two trainings as committed, one row with flip, one training and its row with
    # the other learning rate: each once, though the committed state was visited twice.
    _, runs = clone.mlflow_runs()
    assert len(runs) == 7
    assert clone.repro() == (set(), set())


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A clone in which one of the rows was run, with all that it needs."""
    other = Clone(tmp_path_factory.mktemp("other"))
    other.repro("evaluate@v3plus_os16")
    return other


def test_two_clones_give_the_same_bytes(clone, first_repro, other):
    clone.run("git checkout -q params.yaml")
    clone.repro("evaluate@v3plus_os16")
    for path in (
        "checkpoints/v3plus.safetensors",
        "history/v3plus.jsonl",
        "metrics/v3plus_os16/scores.json",
        "metrics/v3plus_os16/trimap.json",
    ):
        assert clone.digest(path) == other.digest(path), path


def test_after_one_row_page_and_runs_are_made_of_it_and_nothing_is_trained(other):
    stale = other.folder / "metrics/v3_os16/scores.json"  # as in git, of whoever committed it
    stale.parent.mkdir()
    shutil.copy(other.folder / "metrics/v3plus_os16/scores.json", stale)
    said = other.run("python -m pipeline.tracking.so_far params.yaml")
    assert "models that dvc repro would run are left out: v3\n" in said
    assert "rows that dvc repro would run are left out: v3_os16\n" in said
    assert not (other.folder / "checkpoints/v3.safetensors").exists()
    assert rows_of(other) == ["v3plus_os16"]
    _, runs = other.mlflow_runs()
    assert {run.info.run_name for run in runs} == {"train@v3plus", "v3plus_os16 (Table 3)"}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_what_was_run_on_other_data_is_left_out_of_page_and_runs(other):
    def change(params):
        params["rows"]["v3plus_os16"]["data"] = "data/voc/train.arrow"

    other.change_params(change)
    said = other.run("python -m pipeline.tracking.so_far params.yaml")
    assert "rows that dvc repro would run are left out: v3plus_os16, v3_os16\n" in said
    assert rows_of(other) == []


def rows_of(clone):
    lines = (clone.folder / "report/table.txt").read_text().splitlines()
    return [line.split()[0] for line in lines[2:]]


def test_a_typo_is_found_before_anything_runs(clone, first_repro):
    def change(params):
        params["rows"]["v3_os16"]["model"] = "v4"

    clone.change_params(change)
    with pytest.raises(AssertionError, match="'v4' is not one of models"):
        clone.repro()
    clone.run("git checkout -q params.yaml")
