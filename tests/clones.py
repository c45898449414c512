"""A clone of this working tree for the tests that run the real DVC."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from mlflow import MlflowClient

ROOT = Path(__file__).parent.parent
IDENTITY = {"NAME": "A User", "EMAIL": "user@example.invalid"}


class Clone:
    """A clone with short trainings; knows which stages each repro executed or restored."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if "MLFLOW" not in name},
            **{f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in IDENTITY.items()},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            # Threads of two trainings at once would wait for each other.
            "OMP_NUM_THREADS": "1",
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

    def mlflow_runs(self, experiment="miniature"):
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        experiment = client.get_experiment_by_name(experiment)
        return client, client.search_runs([experiment.experiment_id], max_results=100)


def _shorten(params):
    for model in params["models"].values():
        model["training"].update(max_iterations=20, batch_size=4, crop_size=65)
        for part in ("backbone", "head"):
            model["network"][f"{part}_batch_norm"]["momentum"] = 0.5


def train_on_voc_alone(params):
    """Two stages less, for tests that are not about the data."""
    del params["archives"]["sbd"]
    params["trainaug"] = {}
    for model in params["models"].values():
        model["data"] = "data/voc/train.arrow"
