"""A team's store: MLflow's server before PostgreSQL and an S3-compatible place for files.

PostgreSQL is the machine's own (Debian's package), started here; S3 is moto's server.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import psutil
import pytest
import stores
from stores import LOSSES, NAMES, all_runs, curve

from bench import servers
from pipeline.tracking import live, store
from stages import publish

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
BUCKET = "team"
PASSWORD = "hunter2 in/no@dictionary"
QUOTED_PASSWORD = "hunter2%20in%2Fno%40dictionary"
KEY = "s3cr3t-in-no-dictionary-either"

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed"),
]


class Database:
    """PostgreSQL with a password, in a folder."""

    def __init__(self, folder):
        port = servers.free_port()
        self.address = f"postgresql://mlflow:{QUOTED_PASSWORD}@127.0.0.1:{port}"
        password, data, owner = folder / "password", folder / "data", []
        password.write_text(PASSWORD)
        if os.getuid() == 0:  # as whom PostgreSQL refuses to run
            owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
        initdb = [PROGRAMS / "initdb", "--username=mlflow", f"--pwfile={password}", "--auth=md5"]
        subprocess.run([*owner, *initdb, f"--pgdata={data}"], check=True, capture_output=True)
        self._command = [*owner, PROGRAMS / "postgres", "-D", data, "-p", str(port), "-k", folder]
        self.start()

    def start(self):
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        ask = [PROGRAMS / "psql", f"{self.address}/postgres", "--command=SELECT"]
        _wait_for(lambda: not subprocess.run(ask, capture_output=True).returncode)

    def stop(self):
        self._process.send_signal(signal.SIGINT)  # SIGTERM would wait for clients to go
        self._process.wait()

    def crash(self):
        """Ends all of its processes as a loss of power does."""
        children = psutil.Process(self._process.pid).children()
        self._process.kill()  # first, or it would start others
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):  # it may have noticed by itself
                process.kill()
        psutil.wait_procs(children)
        self._process.wait()


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine imports MLflow slowly, and a training's end waits for its last points."""
    monkeypatch.setattr(live, "_CLOSE_SECONDS", 60.0)


@pytest.fixture(scope="module")
def postgresql():
    with tempfile.TemporaryDirectory() as name:
        database = Database(Path(name))
        yield database
        database.stop()


@pytest.fixture(scope="module")
def s3():
    """Address of an S3-compatible server with a bucket."""
    port = servers.free_port()
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", address)
        servers.wait_until_ready(f"{address}/moto-api/")
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        yield address
    server.terminate()
    server.wait()


def _database(postgresql, name):
    create = [PROGRAMS / "createdb", f"--maintenance-db={postgresql.address}/postgres", name]
    subprocess.run(create, check=True, capture_output=True)
    return f"{postgresql.address}/{name}"


@pytest.fixture(scope="module")
def server(postgresql, s3, tmp_path_factory):
    """Address of the team's MLflow."""
    folder, port = tmp_path_factory.mktemp("server"), servers.free_port()
    place = {"database": _database(postgresql, "mlflow"), "artifacts": f"s3://{BUCKET}/files"}
    with servers.mlflow_server(folder, port, **place):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def project(server, tmp_path, monkeypatch):
    """Results of a project whose runs go to the team's MLflow, which has none."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.chdir(tmp_path)
    stores.write_project(tmp_path)
    _empty()
    return tmp_path


def _empty():
    """Deletes what there is of the experiment, so that each test begins alike."""
    client = store.open_client()
    for run in all_runs():
        client.delete_run(run.info.run_id)


def publish_all():
    publish.main(Path("params.yaml"), *map(Path, stores.INPUTS))


def dump():
    """All that MLflow shows of the runs, and the names of all files that it keeps."""
    bucket = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    pages = bucket.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    files = sorted(file["Key"] for page in pages for file in page.get("Contents", []))
    shown = [(run.info.run_name, run.data.to_dictionary()) for run in all_runs()]
    return shown, files


def test_a_teams_store_has_every_run_once_however_often_it_is_filled(project):
    publish_all()
    shown, files = dump()
    assert [name for name, _ in shown] == NAMES
    assert {run.info.status for run in all_runs()} == {"FINISHED"}
    assert [curve(run, "train/loss") for run in all_runs()[:2]] == [LOSSES, LOSSES]
    ids = [run.info.run_id for run in all_runs()]
    panels = [name for name in files if name.endswith("panels.png")]
    assert sum(any(one in name for one in ids) for name in panels) == 3
    publish_all()
    assert dump() == (shown, files)


def test_machines_that_publish_at_once_into_an_empty_store_leave_each_run_once(
    postgresql, s3, tmp_path, monkeypatch
):
    port, projects = servers.free_port(), [tmp_path / name for name in ("a", "b", "c")]
    place = {"database": _database(postgresql, "at_once"), "artifacts": f"s3://{BUCKET}/at_once"}
    with servers.mlflow_server(tmp_path, port, **place):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        command = [sys.executable, "-m", "stages.publish", "params.yaml", *stores.INPUTS]
        environment = {**os.environ, "PYTHONPATH": str(stores.ROOT)}
        for project in projects:
            stores.write_project(project)
        publishing = [
            subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE)
            for project in projects
        ]
        said = [process.communicate()[1].decode() for process in publishing]
        assert [process.returncode for process in publishing] == [0, 0, 0], said
        monkeypatch.chdir(projects[0])
        publish_all()  # the next to come puts right what they have made at the same moment
        assert sorted(run.info.run_name for run in all_runs()) == sorted(NAMES)
        assert {run.info.status for run in all_runs()} == {"FINISHED"}
        losses = [curve(run, "train/loss") for run in all_runs()]
        assert sorted(losses) == [[], [], [], LOSSES, LOSSES]
        versions = store.open_client().search_model_versions("name = 'test'")
        assert len({version.tags["checkpoint.md5"] for version in versions}) == len(versions) == 2


def training(project):
    """A training that is shown."""
    states = project / "scratch/v3-0123456789ab"
    states.mkdir(parents=True)
    outs = (project / "checkpoints/v3.safetensors", project / "history/v3.jsonl")
    return live.live_run(Path("params.yaml"), "v3", states, checkpoint=outs[0], history=outs[1])


def test_a_training_is_shown_while_it_runs(project):
    with training(project) as log:
        for step, loss in LOSSES:
            log(step, {"train/loss": loss})
        _wait_for(lambda: [curve(run, "train/loss") for run in all_runs()] == [LOSSES])
        assert all_runs()[0].info.status == "RUNNING"
    (run,) = all_runs()
    assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", LOSSES)
    publish_all()
    assert [run.info.run_name for run in all_runs()] == NAMES
    assert curve(all_runs()[0], "train/loss") == LOSSES


def test_a_training_whose_database_dies_and_comes_back_has_every_iteration_once(
    project, postgresql, capfd
):
    said = []

    def told():
        said.append(capfd.readouterr().err)
        return "".join(said).count("MLflow: ")

    with training(project) as log:
        log(LOSSES[0][0], {"train/loss": LOSSES[0][1]})
        _wait_for(lambda: [curve(run, "train/loss") for run in all_runs()] == [LOSSES[:1]])
        try:
            postgresql.crash()
            for step, loss in LOSSES[1:]:
                log(step, {"train/loss": loss})
            _wait_for(told)
        finally:
            postgresql.start()
    (run,) = all_runs()
    assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", LOSSES)
    assert told() == 1
    publish_all()
    assert [run.info.run_name for run in all_runs()] == NAMES
    assert curve(all_runs()[0], "train/loss") == LOSSES


@contextlib.contextmanager
def _small_disk(folder):
    """A file system of 250 MB at a folder, which root alone may make."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=250m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _fill(folder):
    """Writes a file that leaves no room beside it; returns it."""
    ballast, block = folder / "ballast", bytes(1 << 20)
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(block)
    assert shutil.disk_usage(folder).free == 0
    return ballast


def test_a_training_whose_database_finds_the_disk_full_has_every_iteration_once(
    tmp_path, monkeypatch, capfd
):
    losses, port, said = [(step, float(step)) for step in range(5000)], servers.free_port(), []

    def told():
        said.append(capfd.readouterr().err)
        return "".join(said).count("MLflow: ")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.chdir(tmp_path)
    stores.write_project(tmp_path)
    with contextlib.ExitStack() as stack:
        disk = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_small_disk(disk))
        database = Database(disk)
        stack.callback(database.stop)
        address = _database(database, "mlflow")
        stack.enter_context(servers.mlflow_server(tmp_path, port, database=address))
        with training(tmp_path) as log:
            log(0, {"train/loss": 0.0})
            _wait_for(lambda: [curve(run, "train/loss") for run in all_runs()] == [losses[:1]])
            # A log file of its own size that is there, as on a disk that fills up while it is used.
            switch = ["--command=SELECT pg_switch_wal()", "--command=CHECKPOINT"]
            subprocess.run([PROGRAMS / "psql", address, *switch], check=True, capture_output=True)
            ballast = _fill(disk)
            for step, loss in losses[1:]:
                log(step, {"train/loss": loss})
            _wait_for(told)
            ballast.unlink()
        (run,) = all_runs()
        assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", losses)
    assert told() == 1


def test_files_for_which_s3_had_no_place_come_with_the_next_publish(
    postgresql, s3, tmp_path, monkeypatch
):
    port = servers.free_port()
    place = {"database": _database(postgresql, "no_place"), "artifacts": "s3://not-there-yet"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.chdir(tmp_path)
    stores.write_project(tmp_path)
    with servers.mlflow_server(tmp_path, port, **place):
        with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}: ") as caught:
            publish_all()
        assert "\n" not in str(caught.value)
        bucket = boto3.client("s3", endpoint_url=s3)
        bucket.create_bucket(Bucket="not-there-yet")
        publish_all()
        files = [file["Key"] for file in bucket.list_objects_v2(Bucket="not-there-yet")["Contents"]]
        assert sum(name.endswith("panels.png") for name in files) == 3
        assert [run.info.run_name for run in all_runs()] == NAMES
        assert {run.info.status for run in all_runs()} == {"FINISHED"}
        assert [curve(run, "train/loss") for run in all_runs()[:2]] == [LOSSES, LOSSES]


def test_a_database_without_a_server_is_a_store_too(postgresql, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", _database(postgresql, "bare"))
    monkeypatch.chdir(tmp_path)
    stores.write_project(tmp_path)
    publish_all()
    assert [run.info.run_name for run in all_runs()] == NAMES


def test_a_database_that_refuses_a_password_is_asked_once(postgresql, tmp_path, monkeypatch):
    def sleep(seconds):
        raise AssertionError("asked again")

    address = postgresql.address.replace(QUOTED_PASSWORD, "guessed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/postgres")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", sleep)
    stores.write_project(tmp_path)
    with pytest.raises(ConnectionError, match="password authentication failed") as caught:
        publish_all()
    assert "guessed" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_secret_is_in_anything_that_a_store_keeps_or_a_person_reads(project, monkeypatch, capfd):
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.invalid"]
    subprocess.run([*git, "init", "-q"], check=True)
    remote = f"https://somebody:{QUOTED_PASSWORD}@git.example.invalid/team.git"
    subprocess.run([*git, "remote", "add", "origin", remote], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "First"], check=True)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", KEY)
    publish_all()
    kept = [*_everything(), *map(str, dump())]
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    nowhere = f"http://mlflow:{QUOTED_PASSWORD}@127.0.0.1:{servers.free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nowhere)
    with pytest.raises(ConnectionError, match="127") as caught:
        publish_all()
    said = capfd.readouterr()
    for text in (*kept, str(caught.value), said.out, said.err):
        for secret in (PASSWORD, QUOTED_PASSWORD, KEY):
            assert secret not in text


def _everything():
    """The bytes of all files that MLflow keeps, as text."""
    bucket = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    _, names = dump()
    for name in names:
        yield bucket.get_object(Bucket=BUCKET, Key=name)["Body"].read().decode(errors="replace")
