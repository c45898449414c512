"""A training that is killed, starved of disk or told to end goes on to the same bytes."""

import dataclasses
import functools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import synthetic
import yaml

from pipeline import files, scratch
from pipeline.originals import random_weights
from pipeline.training import states
from pipeline.training.states import State
from stages import train

NUM_ITERATIONS = 8
MACHINE = {"device": "a GPU", "num_devices": 16, "torch": "2.11.0"}
# Forked from a process that has imported everything, so that each of many trainings starts at once.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["stages.train"])


def run(folder, save_seconds="0"):
    """Trains in a folder of its own, as the stage does, on a machine without MLflow."""
    os.chdir(folder)
    os.environ["DEEPLAB_SAVE_SECONDS"] = save_seconds
    sys.modules["mlflow"] = None
    data, validation = Path("data/two.arrow"), Path("data/validation.arrow")
    sys.stderr = Path("stderr.txt").open("a", buffering=1)  # noqa: SIM115 (until the process ends)
    out = (Path("checkpoints/a.safetensors"), Path("history/a.jsonl"), Path("history/a.pace.json"))
    train.main("a", Path("params.yaml"), data, Path("archives/test_resnet"), validation, *out)


def started(folder, **options):
    process = SERVER.Process(target=functools.partial(run, folder, **options))
    process.start()
    return process


def finish(folder):
    process = started(folder)
    process.join(120)
    assert process.exitcode == 0


def results(folder):
    return [
        files.digest(folder / path, "sha256")
        for path in ("checkpoints/a.safetensors", "history/a.jsonl")
    ]


def make_project(folder, **training):
    (folder / "archives").mkdir(parents=True)
    for name in ("two", "validation"):
        synthetic.write_split(folder / f"data/{name}.arrow", [(33, 40), (25, 21)])
    (folder / "archives/test_resnet").write_bytes(random_weights.generate("test_resnet", 0))
    model = {
        "desc": "A model",
        "network": synthetic.NETWORK,
        "training": synthetic.TRAINING | {"max_iterations": NUM_ITERATIONS} | training,
        "validation": synthetic.VALIDATION | {"every_iterations": 3},
    }
    document = {"models": {"a": model}, "mlflow": {"experiment": "tests"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    return folder


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What comes out of a training that nobody disturbs."""
    finish(make_project(tmp_path_factory.mktemp("first") / "project"))  # warms the server up
    folder = make_project(tmp_path_factory.mktemp("uninterrupted") / "project")
    started_at = time.monotonic()
    finish(folder)
    return results(folder), time.monotonic() - started_at


def history(folder):
    lines = (folder / "history/a.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def only_scratch(folder):
    (found,) = (folder / "scratch").iterdir()
    return found


def saved(folder):
    """States, the newest first."""
    return sorted(only_scratch(folder).glob("state-*"), reverse=True)


def said(folder):
    return (folder / "stderr.txt").read_text()


def interrupt(folder, condition, number):
    """Starts a training and sends it a signal as soon as a condition holds."""
    process = started(folder)
    deadline = time.monotonic() + 60
    while process.is_alive() and time.monotonic() < deadline and not condition():
        time.sleep(0.001)
    os.kill(process.pid, number)
    process.join(60)
    return process.exitcode


def has_states(folder, count):
    return lambda: len(list(folder.glob("scratch/*/state-*"))) >= count


def test_a_training_killed_at_random_points_ends_with_the_same_bytes(tmp_path, uninterrupted):
    expected, seconds = uninterrupted
    points = random.Random(0)
    num_points = int(os.environ.get("DEEPLAB_KILLS", "4"))
    killed = 0
    for number in range(num_points):
        folder = make_project(tmp_path / str(number))
        for _ in range(2):
            process = started(folder)
            process.join(points.uniform(0.2, 1.0) * seconds)
            killed += process.is_alive()
            process.kill()
            process.join()
        finish(folder)
        assert results(folder) == expected
    assert killed > 0


def test_a_training_killed_within_a_save_ends_with_the_same_bytes(project, uninterrupted):
    def is_saving():
        return has_states(project, 1)() and any(project.glob("scratch/*/.state-*.partial"))

    while interrupt(project, is_saving, signal.SIGKILL) != -signal.SIGKILL:
        shutil.rmtree(project / "scratch")  # it was done before a save was seen
    finish(project)
    assert results(project) == uninterrupted[0]
    assert not list(project.glob("scratch/*/.*.partial"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_told_to_end_keeps_its_state_and_says_how_it_goes_on(
    project, uninterrupted, number
):
    status = interrupt(project, has_states(project, 1), number)
    assert status == 128 + number
    assert "ended by a signal after iteration" in said(project)
    assert not list(project.glob("checkpoints/*"))
    finish(project)
    assert "going on after iteration" in said(project)
    assert results(project) == uninterrupted[0]


def test_every_iteration_stands_in_the_history_once(project):
    interrupt(project, has_states(project, 2), signal.SIGKILL)
    finish(project)
    losses = [record["iteration"] for record in history(project) if "loss" in record]
    validated = [record["iteration"] for record in history(project) if "loss" not in record]
    assert losses == list(range(NUM_ITERATIONS))
    assert validated == [3, 6, NUM_ITERATIONS]


def test_a_finished_training_is_not_trained_again(project, uninterrupted):
    finish(project)
    (project / "checkpoints/a.safetensors").unlink()
    finish(project)
    assert f"going on after iteration {NUM_ITERATIONS}" in said(project)
    assert results(project) == uninterrupted[0]


def pace(folder):
    return json.loads((folder / "history/a.pace.json").read_text())


def test_the_pace_is_that_of_all_iterations_whoever_made_them(project):
    interrupt(project, has_states(project, 2), signal.SIGKILL)
    (folder,) = project.glob("scratch/a-*")
    before = states.latest(folder, print)
    finish(project)
    found = pace(project)
    assert found["iterations"] == NUM_ITERATIONS > before.iteration
    assert found["seconds"] > before.seconds > 0
    # Batches of 2; the file's own figures are rounded.
    assert found["images_per_second"] == pytest.approx(2 * NUM_ITERATIONS / found["seconds"], 0.01)
    assert found["num_devices"] == 1
    (project / "history/a.pace.json").unlink()
    finish(project)  # trains nothing
    assert pace(project) == found


def test_who_takes_over_a_finished_training_says_on_what_it_was_computed(project):
    finish(project)
    (folder,) = project.glob("scratch/a-*")
    last = states.latest(folder, print)
    for path in saved(project):
        path.unlink()
    states.save(folder, dataclasses.replace(last, computed_on=MACHINE))
    finish(project)
    assert {name: pace(project)[name] for name in MACHINE} == MACHINE


def change_params(folder, change):
    document = yaml.safe_load((folder / "params.yaml").read_text())
    change(document["models"]["a"])
    (folder / "params.yaml").write_text(yaml.safe_dump(document))


def test_what_does_not_determine_a_training_does_not_restart_it(project):
    interrupt(project, has_states(project, 2), signal.SIGKILL)
    change_params(project, lambda model: model["validation"].update(every_iterations=0, panels=0))
    finish(project)
    assert "going on after iteration" in said(project)


def change_validation_images(folder):
    synthetic.write_split(folder / "data/validation.arrow", [(30, 30), (20, 31), (33, 33)])


def has_validated(folder):
    def found():
        return any("validation_miou" in f.read_text() for f in folder.glob("scratch/a-*/history*"))

    return lambda: found() and has_states(folder, 2)()


def validated(folder):
    return {
        record["iteration"]: record["validation_miou"]
        for record in history(folder)
        if "validation_miou" in record
    }


def test_a_finished_training_is_validated_once_on_what_is_new_to_it(project, uninterrupted):
    finish(project)
    before, shown_as = validated(project), scratch.identity(only_scratch(project))
    change_validation_images(project)
    for _ in range(2):  # the second time nothing is new
        finish(project)
        assert results(project)[0] == uninterrupted[0][0]
        found = validated(project)
        assert list(found) == [NUM_ITERATIONS]
        assert found[NUM_ITERATIONS] != before[NUM_ITERATIONS]
        losses = [record["iteration"] for record in history(project) if "loss" in record]
        assert losses == list(range(NUM_ITERATIONS))
    assert scratch.identity(only_scratch(project)) != shown_as


def test_a_training_that_goes_on_has_no_validations_on_other_images(project):
    interrupt(project, has_validated(project), signal.SIGKILL)
    (folder,) = project.glob("scratch/a-*")
    first = states.latest(folder, print).iteration
    change_validation_images(project)
    finish(project)
    assert "going on after iteration" in said(project)
    assert list(validated(project)) == [n for n in (3, 6, NUM_ITERATIONS) if n > first]


def test_a_training_that_was_not_validated_is_when_that_is_asked_for(project, uninterrupted):
    change_params(project, lambda model: model["validation"].update(every_iterations=0))
    finish(project)
    assert validated(project) == {}
    change_params(project, lambda model: model["validation"].update(every_iterations=3))
    finish(project)
    assert list(validated(project)) == [NUM_ITERATIONS]
    assert results(project)[0] == uninterrupted[0][0]


def test_another_learning_rate_is_another_training_and_says_so(project):
    finish(project)
    change_params(project, lambda model: model["training"].update(base_learning_rate=0.01))
    finish(project)
    assert "is of another training, and is not needed" in said(project)
    assert len(list((project / "scratch").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"torn"])
def test_a_damaged_state_is_passed_over_for_the_one_before_and_that_is_said(
    project, uninterrupted, damage
):
    interrupt(project, has_states(project, 2), signal.SIGKILL)
    newest, before, *_ = saved(project)  # a kill may come before the oldest is removed
    newest.write_bytes(damage + newest.read_bytes()[: -100 if damage else 0])
    finish(project)
    assert f"{newest.name}: damaged (its bytes are not those that were written)" in said(project)
    assert f"going on after iteration {int(before.name[6:15])} " in said(project)
    assert results(project) == uninterrupted[0]


def test_only_damaged_states_start_the_training_from_its_beginning(project, uninterrupted):
    interrupt(project, has_states(project, 2), signal.SIGKILL)
    for path in saved(project):
        path.write_bytes(b"")
    finish(project)
    assert results(project) == uninterrupted[0]


def test_what_a_power_cut_left_behind_the_last_state_is_passed_over(project, uninterrupted):
    interrupt(project, has_states(project, 2), signal.SIGKILL)
    with (only_scratch(project) / "history.jsonl").open("ab") as file:
        file.write(b"\0" * 100 + b"\xff\n" + b'{"iteration": 7, "loss": 1.0}\n')
    finish(project)
    assert results(project) == uninterrupted[0]


def test_a_second_process_is_refused(project):
    process = started(project)
    while not has_states(project, 1)():
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGSTOP)
    second = started(project)
    second.join(60)
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert (process.exitcode, second.exitcode) == (0, 1)
    assert f"a is being computed by another process (process {process.pid} on " in said(project)


def test_a_trainer_whose_dvc_is_killed_keeps_its_state_and_ends(project):
    """A process in DVC's place, a shell below it as DVC has, and the stage below that."""
    make_endless = {"max_iterations": 100_000}
    change_params(project, lambda model: model["training"].update(make_endless))
    command = (
        f"{sys.executable} -m stages.train a params.yaml data/two.arrow archives/test_resnet "
        "data/two.arrow checkpoints/a.safetensors history/a.jsonl history/a.pace.json; true"
    )
    in_its_place = "import subprocess, sys; subprocess.run(['/bin/sh', '-c', sys.argv[1]])"
    environment = {"DVC_ROOT": str(project), "DEEPLAB_SAVE_SECONDS": "0"}
    environment["PYTHONPATH"] = str(Path(train.__file__).parents[1])
    with (project / "stderr.txt").open("w") as stderr:
        starter = subprocess.Popen(
            [sys.executable, "-c", in_its_place, command],
            cwd=project,
            env=os.environ | environment,
            stderr=stderr,
        )
    deadline = time.monotonic() + 120
    while not has_states(project, 1)() and time.monotonic() < deadline:
        time.sleep(0.05)
    starter.kill()
    starter.wait()
    while "ended by a signal" not in said(project) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "ended by a signal after iteration" in said(project)
    (lock,) = project.glob("scratch/*/lock")
    pid = int(lock.read_text().split()[1])
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def mount(place, *options):
    return subprocess.run(["mount", *options, str(place)], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system that has room for one state, not for two."""
    place = tmp_path / "small"
    place.mkdir()
    if not mount(place, "-t", "tmpfs", "-o", "size=6m", "none"):
        pytest.skip("mounting a small disk takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_ends_the_training_and_leaves_the_state_before(
    project, small_disk, uninterrupted
):
    (project / "scratch").symlink_to(small_disk)
    process = started(project)
    process.join(60)
    assert process.exitcode == 1
    assert "No space left on device" in said(project)
    (kept,) = saved(project)
    assert mount(small_disk, "-o", "remount,size=60m")
    finish(project)
    assert f"going on after iteration {int(kept.name[6:15])} " in said(project)
    assert results(project) == uninterrupted[0]


# States by themselves


def test_the_last_two_states_are_kept(tmp_path):
    for iteration in (1, 2, 3):
        states.save(tmp_path, State(iteration, 0.0, MACHINE, {}))
    assert [path.name[:15] for path in sorted(tmp_path.iterdir())] == [
        "state-000000002",
        "state-000000003",
    ]


def test_a_folder_without_states_has_no_latest(tmp_path):
    assert states.latest(tmp_path, print) is None


def test_work_is_determined_by_its_params_its_files_and_its_code(project):
    sections = {"network": synthetic.network(), "training": synthetic.training()}
    read = {"data": project / "data/two.arrow", "start": project / "archives/test_resnet"}
    before = scratch.determinants(
        sections, read, ("pipeline/data", "pipeline/model", "pipeline/training")
    )
    swapped = {"network": sections["training"], "training": sections["network"]}
    assert _changed(
        before,
        scratch.determinants(
            swapped, read, ("pipeline/data", "pipeline/model", "pipeline/training")
        ),
    ) == [
        "network",
        "training",
    ]
    other = read | {"start": project / "params.yaml"}
    assert _changed(
        before,
        scratch.determinants(
            sections, other, ("pipeline/data", "pipeline/model", "pipeline/training")
        ),
    ) == ["start"]
    assert _changed(
        before, scratch.determinants(sections, read, ("pipeline/data", "pipeline/model"))
    ) == ["code"]


def test_other_work_of_a_key_is_told_but_not_that_of_a_longer_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    said = []
    with scratch.opened("a", {"training": "0"}, said.append):
        pass  # and leaves nothing to go on from
    with scratch.opened("a-large", {"training": "1"}, said.append) as folder:
        (folder / "state").touch()
    with scratch.opened("a", {"training": "1"}, said.append) as folder:
        (folder / "state").touch()
        with scratch.opened("a", {"training": "2"}, said.append):
            pass  # beside the one that is at work
    assert said == []
    with scratch.opened("a", {"training": "3"}, said.append):
        pass
    (line,) = said
    assert re.match(r"starting anew: .*/scratch/a-[0-9a-f]{12} is of another training, and", line)


def _changed(before, after):
    return [name for name in before if before[name] != after[name]]
