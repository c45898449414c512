"""A store that dies, hangs, refuses or is full: the training is the same, and nothing is lost.

Each training is the real stage in a process of its own, beside MLflow's real server; proxies
between them make the trouble. A training is stopped (SIGSTOP) while its store is changed, so that
the trouble always comes in its middle.
"""

import functools
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import stores
import synthetic
import yaml
from stores import curve

from bench import servers
from pipeline import files
from pipeline.originals import random_weights
from pipeline.tracking import relay, store
from stages import publish, train

NUM_ITERATIONS = 100
SECRET = "hunter2-in-no-dictionary"
# Forked from a process that has imported everything, so that each training starts at once.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["stages.train"])


def make_project(folder, **validation):
    """One model on two images, and what `publish` reads besides."""
    (folder / "archives").mkdir(parents=True)
    synthetic.write_split(folder / "data/two.arrow", [(33, 40), (25, 21)])
    (folder / "archives/test_resnet").write_bytes(random_weights.generate("test_resnet", 0))
    model = {
        "desc": "A model",
        "data": "data/two.arrow",
        "start": "archives/test_resnet",
        "network": synthetic.NETWORK,
        "training": synthetic.TRAINING | {"max_iterations": NUM_ITERATIONS},
        "validation": synthetic.VALIDATION | validation,
    }
    document = {"imports": {}, "models": {"a": model}, "rows": {}}
    document["mlflow"] = {"experiment": "test"}
    (folder / "params.yaml").write_text(yaml.safe_dump(document))
    (folder / "paper.yaml").write_text(yaml.safe_dump(stores.PAPER))
    (folder / "metrics").mkdir()
    (folder / "metrics/multiply_adds.json").write_text("{}")
    (folder / "report").mkdir()
    return folder


def run(folder, environment):
    """Trains, as the stage does; without a store's address, on a machine without MLflow."""
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.update(environment)
    if not environment:
        sys.modules["mlflow"] = None
    said = os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)  # the relay's too
    sys.stderr = os.fdopen(2, "w", buffering=1)
    data = Path("data/two.arrow")
    out = (Path("checkpoints/a.safetensors"), Path("history/a.jsonl"), Path("history/a.pace.json"))
    train.main("a", Path("params.yaml"), data, Path("archives/test_resnet"), data, *out)


class Training:
    """One in a process of its own."""

    def __init__(self, folder, address=None, **environment):
        self.folder = folder
        if address:
            environment["MLFLOW_TRACKING_URI"] = address
        self._process = SERVER.Process(target=functools.partial(run, folder, environment))
        self._process.start()

    def pause_at(self, iteration):
        """Lets it come so far, and stops it there."""
        os.kill(self._process.pid, signal.SIGCONT)
        wait_for(lambda: self._num_lines() >= iteration, seconds=0.002)
        os.kill(self._process.pid, signal.SIGSTOP)
        assert iteration <= self._num_lines() < NUM_ITERATIONS

    def finish(self):
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.join(120)
        assert self._process.exitcode == 0, said(self.folder)

    def kill(self):
        self._process.kill()
        self._process.join()

    def relay(self):
        """The process beside it."""
        (found,) = psutil.Process(self._process.pid).children()
        return found

    def _num_lines(self):
        written = list(self.folder.glob("scratch/*/history.jsonl"))
        return written[0].read_bytes().count(b"\n") if written else 0


def said(folder):
    return (folder / "stderr.txt").read_text()


def told(folder):
    """What the user was told of MLflow."""
    return [line for line in said(folder).splitlines() if "MLflow" in line]


def results(folder):
    names = ("checkpoints/a.safetensors", "history/a.jsonl")
    return [files.digest(folder / name, "sha256") for name in names]


def losses(folder):
    lines = map(json.loads, (folder / "history/a.jsonl").read_text().splitlines())
    return [(line["iteration"], line["loss"]) for line in lines if "loss" in line]


def wait_for(condition, seconds=0.1):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(seconds)


def publish_all(monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    publish.main(Path("params.yaml"), *map(Path, stores.INPUTS))


def logged():
    """How many points of the loss the store has, in all its runs."""
    return sum(len(curve(run, "train/loss")) for run in stores.all_runs())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What comes out of a training without a store."""
    folder = make_project(tmp_path_factory.mktemp("undisturbed") / "project")
    Training(folder).finish()
    return results(folder)


@pytest.fixture
def project(tmp_path_factory, tmp_path, monkeypatch):
    stores.use_empty_store(tmp_path_factory, monkeypatch, tmp_path)
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    """The folder and the port of a server for all tests that leave it whole."""
    folder, port = tmp_path_factory.mktemp("server"), servers.free_port()
    shutil.copy(stores.empty_store(tmp_path_factory) / "mlflow.db", folder)
    with servers.mlflow_server(folder, port):
        yield folder, port


@pytest.fixture
def server(shared_server, monkeypatch):
    """Its port; it has no runs."""
    _, port = shared_server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    for run in stores.all_runs():
        store.open_client().delete_run(run.info.run_id)
    return port


def require_whole(folder, undisturbed):
    """One finished run with each iteration once, and the bytes of a training without a store."""
    (run,) = stores.all_runs()
    assert run.info.status == "FINISHED"
    assert curve(run, "train/loss") == losses(folder)
    assert len(losses(folder)) == NUM_ITERATIONS
    assert results(folder) == undisturbed


def test_a_server_that_is_killed_and_started_again_has_every_iteration_once(
    project, undisturbed, monkeypatch
):
    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with servers.mlflow_server(project.parent, port) as first:
        training = Training(project, address)
        training.pause_at(20)
        wait_for(logged)
        os.killpg(first.pid, signal.SIGKILL)
    training.pause_at(60)
    wait_for(lambda: told(project))
    with servers.mlflow_server(project.parent, port):
        training.finish()
        require_whole(project, undisturbed)
        publish_all(monkeypatch, address)
        require_whole(project, undisturbed)
    (line,) = told(project)
    assert line.startswith(f"MLflow: {address}: ")
    assert "the training is unharmed, and `make publish` brings in what is missing" in line


def test_a_training_whose_server_was_never_there_is_brought_in_by_publish(
    project, undisturbed, server, monkeypatch
):
    training = Training(project, f"http://127.0.0.1:{servers.free_port()}")
    training.finish()
    (line,) = told(project)
    assert "Connection refused" in line
    assert stores.all_runs() == []
    publish_all(monkeypatch, f"http://127.0.0.1:{server}")
    require_whole(project, undisturbed)


def test_a_training_does_not_wait_for_a_server_that_takes_seconds_for_each_answer(
    project, undisturbed, server, monkeypatch
):
    answered, ended = [], []

    def slow(handler):
        time.sleep(3)
        answered.append(handler.path)
        return bool(ended)  # nothing reaches the store in the tests after this one

    with servers.proxy(server, slow) as address:
        training = Training(project, address)
        wait_for((project / "history/a.jsonl").exists, seconds=0.01)
        assert len(answered) < NUM_ITERATIONS / 2  # it would have waited for one in each
        training.finish()
        ended.append(True)
    assert len(told(project)) == 1
    publish_all(monkeypatch, f"http://127.0.0.1:{server}")
    require_whole(project, undisturbed)


def test_who_was_told_of_a_slow_server_is_not_told_again_at_the_end(
    project, undisturbed, server, monkeypatch
):
    ended = []

    def slow(handler):
        time.sleep(4 if told(project) else 1000)
        return bool(ended)

    with servers.proxy(server, slow) as address:
        training = Training(project, address)
        training.pause_at(20)
        wait_for(lambda: told(project))  # of the first answer, which took more than 5 s
        training.finish()  # while the other answers together take more than 15 s
        ended.append(True)
    (line,) = told(project)
    assert line.startswith(f"MLflow: {address}: ")
    publish_all(monkeypatch, f"http://127.0.0.1:{server}")
    require_whole(project, undisturbed)


@pytest.mark.parametrize("status", [403, 500])
def test_a_server_that_refuses_from_some_moment_on_is_completed_by_publish(
    project, undisturbed, server, monkeypatch, status
):
    refusing = []

    def refuse(handler):
        if refusing:
            handler.send_error(status)
        return bool(refusing)

    with servers.proxy(server, refuse) as address:
        training = Training(project, address.replace("//", f"//user:{SECRET}@"))
        training.pause_at(20)
        wait_for(logged)
        refusing.append(True)
        training.finish()
    (line,) = told(project)
    assert line.startswith(f"MLflow: {address}: ")
    assert str(status) in line
    assert 0 < logged() < NUM_ITERATIONS
    publish_all(monkeypatch, f"http://127.0.0.1:{server}")
    require_whole(project, undisturbed)


def test_a_server_whose_disk_is_full_is_completed_when_there_is_room_again(
    project, undisturbed, monkeypatch
):
    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with servers.mlflow_server(project.parent, port) as process:
        training = Training(project, address)
        training.pause_at(20)
        wait_for(logged)
        _limit_files(process, 0)
        training.finish()
        with pytest.raises(ConnectionError, match=f"{address}: ") as caught:
            publish_all(monkeypatch, address)
        assert "\n" not in str(caught.value)
        _limit_files(process, resource.RLIM_INFINITY)
        assert 0 < logged() < NUM_ITERATIONS
        publish_all(monkeypatch, address)
        require_whole(project, undisturbed)
    assert len(told(project)) == 1


def _limit_files(server, size):
    """No process of a server can write a file beyond so many bytes: to the store, a full disk."""
    for process in [psutil.Process(server.pid), *psutil.Process(server.pid).children(True)]:
        hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_what_a_killed_training_left_to_a_slow_server_is_not_logged_again_by_the_next(
    project, server, monkeypatch
):
    scratch = project / "scratch/v3-0123456789ab"
    scratch.mkdir(parents=True)
    start = {"experiment": "test", "key": "v3", "entry": stores.MODEL, "pid": os.getpid()}
    start |= {"training": str(scratch), "training_id": scratch.name}
    made = {role: str(project / "params.yaml") for role in ("checkpoint", "history")}
    points = [[step, step, {"train/loss": loss}, None] for step, loss in stores.LOSSES]
    again = [[step, 9000 + step, metrics, None] for step, _, metrics, _ in points[1:]]
    left = [start, *points[:3]]  # by a training that was killed, and computed 1 and 2 again
    went_on = [start, *again, {"status": "FINISHED", **made}]
    with servers.proxy(server, lambda handler: time.sleep(0.2)) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        relays = [
            threading.Thread(
                target=relay.relay, args=([json.dumps(m) + "\n" for m in messages], lambda: None)
            )
            for messages in (left, went_on)
        ]
        for one in relays:
            one.start()
            time.sleep(0.1)
        for one in relays:
            one.join()
        (run,) = stores.all_runs()
        assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", stores.LOSSES)


def test_a_relay_that_is_gone_is_told_at_the_end(project, undisturbed, server, monkeypatch):
    address = f"http://127.0.0.1:{server}"
    training = Training(project, address)
    training.pause_at(20)
    training.relay().kill()
    training.finish()
    (line,) = told(project)
    assert "the process that shows the training has ended with status -9; the training is" in line
    publish_all(monkeypatch, address)
    require_whole(project, undisturbed)
