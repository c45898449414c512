"""How busy the machine is, as shown in a training's run."""

import json
import os
import sys
import time

import pytest
import stores
from stores import LOSSES, curve, one_run

from pipeline.tracking import machine, relay

PROCESSORS = {
    "system/cpu_utilization_percentage",
    "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage",
}


@pytest.fixture(autouse=True)
def machine_without_gpu(tmp_path, monkeypatch):
    """No nvidia-smi but what a test writes."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def write_nvidia_smi(tmp_path, script):
    program = tmp_path / "bin/nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_processors_and_memory_are_fractions_of_what_there_is():
    sample = machine.watch()(0)
    assert sample.keys() == PROCESSORS
    assert 0 <= sample["system/cpu_utilization_percentage"] <= 100
    assert 0 < sample["system/system_memory_usage_percentage"] < 100
    assert sample["system/system_memory_usage_megabytes"] > 0


def test_the_first_sample_is_taken_at_once_and_the_next_not_within_seconds():
    watch = machine.watch()
    assert watch(0)
    assert watch(1) == {}


def test_an_iteration_has_one_sample_however_long_it_takes(monkeypatch):
    monkeypatch.setattr(machine, "_SECONDS", 0.0)
    watch = machine.watch()
    assert [bool(watch(iteration)) for iteration in (0, 0, 1, 1)] == [True, False, True, False]


def test_gpus_are_what_the_driver_says_in_mlflows_units(tmp_path):
    lines = r"0, 93, 20480, 81559, 512.25\n1, [N/A], 0, 81559, [N/A]\n"
    write_nvidia_smi(tmp_path, f"printf '{lines}'")
    gpus = {k: v for k, v in machine.watch()(0).items() if k not in PROCESSORS}
    assert gpus == {
        "system/gpu_0_utilization_percentage": 93.0,
        "system/gpu_0_memory_usage_megabytes": pytest.approx(21474.83648),  # 20480 MiB
        "system/gpu_0_memory_usage_percentage": pytest.approx(25.1106, abs=1e-4),
        "system/gpu_0_power_usage_watts": 512.25,
        "system/gpu_1_memory_usage_megabytes": 0.0,
        "system/gpu_1_memory_usage_percentage": 0.0,
    }


@pytest.mark.parametrize(
    ("visible", "expected"), [("1,3", {"1,3"}), ("GPU-5f", {"GPU-5f"}), ("", set())]
)
def test_only_gpus_that_the_training_may_use_are_asked_for(
    tmp_path, monkeypatch, visible, expected
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    write_nvidia_smi(tmp_path, f'echo "$@" >> {tmp_path}/asked; echo "0, 1, 1, 1, 1"')
    machine.watch()(0)
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert {word[5:] for word in asked.split() if word.startswith("--id=")} == expected


@pytest.mark.parametrize(
    "script", ["exit 9", "echo Unable to determine the device handle", "exec sleep 60"]
)
def test_a_driver_that_fails_or_hangs_costs_its_own_metrics_alone(tmp_path, monkeypatch, script):
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/bin:/usr/bin")
    monkeypatch.setattr(machine, "_PATIENCE_SECONDS", 0.2)
    write_nvidia_smi(tmp_path, script)
    assert machine.watch()(0).keys() == PROCESSORS


def test_without_psutil_there_are_no_metrics_and_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert machine.watch()(0) == {}


def test_a_sample_takes_no_time_that_a_training_would_notice():
    watch = machine.watch()
    began = time.thread_time()
    watch(0)
    assert time.thread_time() - began < 0.1


def test_a_models_run_shows_system_metrics_with_the_iteration_as_step(
    tmp_path_factory, tmp_path, monkeypatch
):
    stores.use_empty_store(tmp_path_factory, monkeypatch, tmp_path)
    start = {"experiment": "test", "key": "v3", "entry": stores.MODEL, "pid": os.getpid()}
    points = [[step, 1000 + step, {"train/loss": loss}, None] for step, loss in LOSSES]
    start |= {"training": "v3-0123456789ab", "training_id": "v3-0123456789ab-this"}
    messages = [start, *points]
    relay.relay((json.dumps(message) + "\n" for message in messages), lambda: None)
    run = one_run("train@v3")
    assert {name for name in run.data.metrics if name.startswith("system/")} == PROCESSORS
    ((step, _),) = curve(run, "system/cpu_utilization_percentage")
    assert step in [step for step, _ in LOSSES]
