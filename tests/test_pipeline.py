"""The real `dvc repro` on a small params.yaml, in clones of this working tree.

One clone lives through the whole story, in the order of the tests; a second is made beside it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

ROOT = Path(__file__).parent.parent
IDENTITY = {"NAME": "A User", "EMAIL": "user@example.invalid"}


class Clone:
    """A clone with few iterations; remembers which stages each repro executed or restored."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if "MLFLOW" not in name},
            **{f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in IDENTITY.items()},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
            if name and (ROOT / name).exists() and not name.startswith(("metrics/", "dvc.lock")):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((ROOT / name).read_bytes())
        shutil.copy(ROOT / "presets/miniature.yaml", folder / "params.yaml")
        self.change_params(_shorten)
        for command in ("git init -q", "git add -A", "git commit -q -m clone"):
            self.run(command)

    def run(self, command):
        done = subprocess.run(
            command.split(),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def repro(self, target=""):
        """Returns the executed stages and the restored ones."""
        output = self.run(f"dvc repro {target}")
        executed = re.findall(r"^Running stage '(.+)':", output, re.MULTILINE)
        restored = re.findall(r"^Stage '(.+)' is cached", output, re.MULTILINE)
        return set(executed), set(restored)

    def change_params(self, change):
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        change(params)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def digest(self, path):
        return hashlib.sha256((self.folder / path).read_bytes()).hexdigest()

    def mlflow_runs(self):
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        experiment = client.get_experiment_by_name("miniature")
        return client, client.search_runs([experiment.experiment_id], max_results=100)


def _shorten(params):
    for model in params["models"].values():
        model["training"].update(max_iterations=20, batch_size=4, crop_size=65)
        for part in ("backbone", "head"):
            model["network"][f"{part}_batch_norm"]["momentum"] = 0.5


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


def test_a_changed_row_runs_that_row_report_and_publish_alone(clone, first_repro):
    def change(params):
        params["rows"]["v3_os16"]["inference"]["flip"] = True

    clone.change_params(change)
    executed, restored = clone.repro()
    row = {"predict@v3_os16", "evaluate@v3_os16"}
    # DVC runs the check again because params.yaml changed; it computes nothing.
    assert executed | restored == {"check", *row, "multiply_adds", "report", "publish"}


def test_a_changed_training_runs_that_model_and_its_rows_alone(clone, first_repro):
    def change(params):
        params["models"]["v3plus"]["training"]["base_learning_rate"] = 0.01

    before = clone.digest("checkpoints/v3plus.safetensors")
    clone.change_params(change)
    executed, _ = clone.repro()
    chain = {"train@v3plus", "predict@v3plus_os16", "evaluate@v3plus_os16"}
    assert executed == {"check", *chain, "multiply_adds", "report", "publish"}
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


def test_two_clones_give_the_same_bytes(clone, first_repro, tmp_path):
    other = Clone(tmp_path / "other")
    other.repro("evaluate@v3plus_os16")
    clone.run("git checkout -q params.yaml")
    clone.repro("evaluate@v3plus_os16")
    for path in (
        "checkpoints/v3plus.safetensors",
        "history/v3plus.jsonl",
        "metrics/v3plus_os16/scores.json",
        "metrics/v3plus_os16/trimap.json",
    ):
        assert clone.digest(path) == other.digest(path), path


def test_a_typo_is_found_before_anything_runs(clone, first_repro):
    def change(params):
        params["rows"]["v3_os16"]["model"] = "v4"

    clone.change_params(change)
    with pytest.raises(AssertionError, match="'v4' is not one of models"):
        clone.repro()
    clone.run("git checkout -q params.yaml")
