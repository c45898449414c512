"""What the tests of MLflow share: a project's outs without training, and stores for its runs."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import synthetic
import yaml

from pipeline.tracking import store

ROOT = Path(__file__).parent.parent
MODEL = {
    "desc": "Sec. 3.1 A small network",
    "data": "data/train.arrow",
    "start": "archives/weights",
    "network": {"backbone": "resnet18", "output_stride": 16, "decoder": None},
    "training": {"base_learning_rate": 0.05, "scales": [0.75, 1.0]},
    "validation": {"data": "data/val.arrow"},
}
ROW = {
    "desc": "Table 3 Single scale",
    "model": "v3",
    "data": "data/val.arrow",
    "paper": ["table3_os16-eval8"],
    "inference": {"output_stride": 8, "flip": False},
    "evaluation": {"trimap_band": "square"},
}
PAPER = {
    "datasets": {"VOC 2012 val": 1449},
    "figure5": {},
    "claims": {},
    "tables": {3: "Inference strategies"},
    "rows": {
        "table3_os16-eval8": {
            "table": 3,
            "backbone": "ResNet-101",
            "dataset": "VOC 2012 val",
            "miou": 78.51,
        }
    },
}
NUM_ITERATIONS = 4
# What `publish` is handed after params.yaml.
INPUTS = ("paper.yaml", "data", "checkpoints", "history", "metrics", "report")
# The runs of `write_project`, in the order in which they are published.
NAMES = ["train@v3", "train@v3plus", "v3 (Table 3)", "v3_flip (Table 3)", "v3plus (Table 3)"]


def empty_store(tmp_path_factory):
    """A folder with MLflow's tables, made once and by two processes at the same time."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "empty_store"
    with (shared / "empty_store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make_store(folder)
    return folder


def _make_store(folder):
    folder.mkdir()
    code = "from pipeline.tracking import store; store.open_client()"
    environment = {**os.environ, "DVC_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    makers = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [maker.wait() for maker in makers] == [0, 0]


def use_empty_store(tmp_path_factory, monkeypatch, folder):
    """Makes `folder` the working folder, with an empty store of its own."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(empty_store(tmp_path_factory) / "mlflow.db", folder)
    monkeypatch.chdir(folder)


def history(num_iterations=NUM_ITERATIONS):
    """What a training writes of each iteration."""
    return [
        {"iteration": i, "loss": 2.0 / (i + 1), "learning_rate": 0.05}
        for i in range(num_iterations)
    ]


def write_project(folder, *, learning_rate=0.05, desc=ROW["desc"], num_iterations=NUM_ITERATIONS):
    """Writes params.yaml and what DVC has when `publish` runs: two models and three rows."""
    changed = {**MODEL, "training": {**MODEL["training"], "base_learning_rate": learning_rate}}
    models = {"v3": changed, "v3plus": MODEL}
    rows = {"v3": ROW | {"desc": desc}, "v3_flip": ROW, "v3plus": ROW | {"model": "v3plus"}}
    document = {"imports": {}, "models": models, "rows": rows, "mlflow": {"experiment": "test"}}
    _write(folder / "params.yaml", yaml.safe_dump(document, sort_keys=False))
    _write(folder / "paper.yaml", yaml.safe_dump(PAPER))
    cost = {"multiply_adds": 6.5e9, "authors_multiply_adds": 7.5e9, "parameters": 13_500_000}
    _write(folder / "metrics/multiply_adds.json", json.dumps(dict.fromkeys(rows, cost)))
    synthetic.write_split(folder / "data/train.arrow", [(20, 30)] * 3)
    synthetic.write_split(folder / "data/val.arrow", [(20, 30)] * 2)
    _write(folder / "archives/weights", "weights")
    for key, model in models.items():
        rate = model["training"]["base_learning_rate"]
        _write(folder / f"checkpoints/{key}.safetensors", f"{key} {rate}")
        lines = [json.dumps(point) + "\n" for point in history(num_iterations)]
        _write(folder / f"history/{key}.jsonl", "".join(lines))
        _write(folder / f"history/{key}.pace.json", json.dumps(pace(num_iterations)))
    for key in rows:
        scores = {"miou": 0.5, "miou_low": 0.4, "miou_high": 0.6}
        scores |= {"pixel_accuracy": 0.75, "mean_class_accuracy": 0.625, "absent_classes": []}
        scores |= {"num_images": 2, "iou_per_class": {"cat": 0.5, "traffic (light)": 0.25}}
        scores |= {"warnings": ["Never predicted: dog."] if key == "v3_flip" else []}
        trimap = [
            {"trimap_width": w, "miou": w / 10, "miou_low": 0.0, "miou_high": 1.0}
            | {"pixel_accuracy": 0.5}
            for w in (1, 2, 3)
        ]
        _write(folder / f"metrics/{key}/scores.json", json.dumps(scores))
        _write(folder / f"metrics/{key}/trimap.json", json.dumps(trimap))
        _write(folder / f"report/panels/{key}.png", f"panels of {key}")
    _write(folder / "report/trimap.png", "curves")


def pace(num_iterations=NUM_ITERATIONS):
    """What a training writes of how long it took: an hour and a half."""
    return {
        "seconds": 5400.0,
        "iterations": num_iterations,
        "images_per_second": 12.5,
        "device": "x86_64 CPU, 2 threads",
        "num_devices": 1,
        "torch": "2.11.0",
    }


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def all_runs():
    """Every run that is not deleted, oldest first."""
    client = store.open_client()
    return store.find(client, store.open_experiment(client, "test"), "")


def one_run(stage):
    """The run of a stage, which a DVC experiment's name may follow: "evaluate@v3 topsy-turvy"."""
    stage, _, experiment = stage.partition(" ")
    (run,) = [
        run
        for run in all_runs()
        if run.data.tags["mlflow.source.name"] == f"dvc repro {stage}"
        and run.info.run_name.endswith(experiment)
    ]
    return run


def curve(run, metric):
    """(step, value) of each point, as logged: a point that is there twice is here twice."""
    points = store.open_client().get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in points)


LOSSES = [(point["iteration"], point["loss"]) for point in history()]
