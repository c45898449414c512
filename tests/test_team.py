"""Several processes train one network as one does; real ones, on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import synthetic
import torch
import yaml

from pipeline.originals import random_weights
from pipeline.training import launch
from pipeline.training.config import part_mistake
from pipeline.training.team import Team, joined

ROOT = Path(__file__).parents[1]


def make_project(folder, **training):
    (folder / "archives").mkdir(parents=True)
    synthetic.write_split(folder / "data/two.arrow", [(33, 40), (25, 21), (40, 40)])
    (folder / "archives/test_resnet").write_bytes(random_weights.generate("test_resnet", 0))
    model = {
        "desc": "A model",
        "network": synthetic.NETWORK,
        "training": synthetic.TRAINING | {"batch_norm": "frozen", "batch_size": 8} | training,
        "validation": synthetic.VALIDATION | {"every_iterations": 2, "panels": 3},
    }
    document = {"models": {"a": model}, "mlflow": {"experiment": "tests"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    # In the place of MLflow, which is not the matter here and takes long.
    (folder / "mlflow.py").write_text("raise ImportError('not here')")
    return folder


def start(folder, processes, **environment):
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    stage = ["-m", "stages.train", "a", "params.yaml", "data/two.arrow", "archives/test_resnet"]
    outs = ["checkpoints/a.safetensors", "history/a.jsonl", "history/a.pace.json"]
    with (folder / "stderr.txt").open("a") as stderr:
        return subprocess.Popen(
            [sys.executable, *(launcher if processes > 1 else []), *stage, "data/two.arrow", *outs],
            cwd=folder,
            env=os.environ
            | {"PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1", **environment},
            stdout=stderr,
            stderr=stderr,
        )


def history(folder):
    return [json.loads(line) for line in (folder / "history/a.jsonl").read_text().splitlines()]


def curve(folder):
    return [record["loss"] for record in history(folder) if "loss" in record]


def test_two_processes_train_as_one_does(tmp_path):
    alone, two = make_project(tmp_path / "alone"), make_project(tmp_path / "two")
    for process in (start(alone, 1), start(two, 2)):
        assert process.wait(180) == 0
    assert curve(two) == pytest.approx(curve(alone), rel=1e-4)
    scores = [[r["validation_miou"] for r in history(f) if "loss" not in r] for f in (two, alone)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)
    (panels,) = (path for path in two.glob("scratch/*/panels/000000004"))
    assert len(list(panels.iterdir())) > 0


def test_a_killed_process_ends_the_others_and_the_training_goes_on(tmp_path):
    folder = make_project(tmp_path / "two", max_iterations=30)
    process = start(folder, 2, DEEPLAB_SAVE_SECONDS="0")
    deadline = time.monotonic() + 120
    while not list(folder.glob("scratch/*/state-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    killed_at = time.monotonic()
    os.kill(int(children[-1]), 9)
    assert process.wait(60) != 0
    assert time.monotonic() - killed_at < 60
    assert not (folder / "checkpoints").exists()
    assert start(folder, 2).wait(180) == 0
    assert "going on after iteration" in (folder / "stderr.txt").read_text()
    assert [r["iteration"] for r in history(folder) if "loss" in r] == list(range(30))


# Stands in for a machine of two GPUs; the processes themselves find none, and use the CPU.
TWO_GPUS = """
import sys
from pipeline.training import launch
launch.run("stages.train", sys.argv[1:], 2)
"""


def launched(folder):
    arguments = ["a", "params.yaml", "data/two.arrow", "archives/test_resnet", "data/two.arrow"]
    arguments += ["checkpoints/a.st", "history/a.jsonl", "history/a.pace.json"]
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "DEEPLAB_SAVE_SECONDS": "0"}
    with (folder / "stderr.txt").open("a") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", TWO_GPUS, *arguments],
            cwd=folder,
            env=os.environ | environment,
            stdout=stderr,
            stderr=stderr,
        )


def test_a_machine_of_several_gpus_is_used_whole_and_a_signal_ends_all_in_order(tmp_path):
    folder = make_project(tmp_path / "two", max_iterations=30)
    process = launched(folder)
    deadline = time.monotonic() + 120
    while not list(folder.glob("scratch/*/state-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "ended by a signal after iteration" in (folder / "stderr.txt").read_text()
    assert launched(folder).wait(180) == 0
    assert [r["iteration"] for r in history(folder) if "loss" in r] == list(range(30))
    assert not (folder / "panels").exists()


@pytest.mark.parametrize(
    ("num_gpus", "batch_size", "expected"),
    [(0, 8, 1), (1, 8, 1), (2, 8, 2), (3, 8, 2), (8, 8, 4), (7, 16, 4), (8, 16, 8), (16, 16, 8)],
)
def test_as_many_gpus_are_used_as_the_batch_can_be_split_over(
    num_gpus, batch_size, expected, monkeypatch, capsys
):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    training = synthetic.training(batch_size=batch_size, batch_norm="trained")
    assert launch.num_processes(synthetic.network(), training) == expected
    said = capsys.readouterr().err
    assert said.startswith(
        f"training on {expected} of {num_gpus} GPUs: batch_size: {batch_size} "
    ) == (expected < num_gpus)
    images = f"batch normalisation is of the {batch_size // expected} images of each; "
    assert (images in said) == (expected > 1)


def test_whose_batch_normalisation_is_of_all_images_is_told_nothing(monkeypatch, capsys):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    training = synthetic.training(batch_size=16, batch_norm="synchronised")
    assert launch.num_processes(synthetic.network(), training) == 8
    assert capsys.readouterr().err == ""


def test_one_of_many_processes_starts_no_others(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert launch.num_processes(synthetic.network(), synthetic.training(batch_size=16)) == 1


def test_without_a_launcher_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with joined() as team:
        assert (team.rank, team.size, team.is_leader) == (0, 1, True)
        tensor = torch.ones(2)
        assert team.sum(tensor) is tensor
        assert team.maximum(15) == 15


def test_positions_are_shared_in_order():
    shares = [Team(rank, 4, torch.device("cpu")).share(16) for rank in range(4)]
    assert [list(share) for share in shares] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [12, 13, 14, 15],
    ]


@pytest.mark.parametrize(
    ("changes", "num_devices", "message"),
    [
        ({"batch_size": 16}, 8, None),
        ({"batch_size": 16}, 16, "leaves batch normalisation one image at a time"),
        ({"batch_size": 16, "batch_norm": "synchronised"}, 16, None),
        ({"batch_size": 16, "batch_norm": "frozen"}, 16, None),
        ({"batch_size": 16, "batch_norm": "frozen_statistics"}, 16, None),
        ({"batch_size": 16, "accumulation_steps": 8}, 1, None),
        ({"batch_size": 16, "accumulation_steps": 8}, 2, "one image at a time"),
        ({"batch_size": 16}, 3, "cannot be split into 3 equal parts"),
        ({"batch_size": 1}, 1, "one image at a time"),
    ],
)
def test_a_batch_that_leaves_a_single_image_or_a_rest_is_a_mistake(changes, num_devices, message):
    training = synthetic.training(**changes)
    mistake = part_mistake(synthetic.network(), training, num_devices=num_devices)
    assert (mistake is None) == (message is None)
    if message:
        assert message in mistake
