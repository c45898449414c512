"""Live runs, and the ground that they and `publish` stand on: identities, origins, the store."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stores
from stores import LOSSES, MODEL, all_runs, curve, one_run

from bench import servers
from pipeline import files, scratch
from pipeline.splits import Split
from pipeline.tracking import identity, live, provenance, relay, store
from pipeline.tracking.identity import flatten


@pytest.fixture
def project(tmp_path_factory, tmp_path, monkeypatch):
    stores.use_empty_store(tmp_path_factory, monkeypatch, tmp_path)
    stores.write_project(tmp_path)
    return tmp_path


@pytest.fixture
def impatient(monkeypatch):
    """Requests as the relay makes them, but not for 5 s."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


START = {
    "experiment": "test",
    "key": "v3",
    "entry": MODEL,
    "pid": os.getpid(),
    "training": "v3-0123456789ab",
    "training_id": "v3-0123456789ab-this",
}


def points(losses=LOSSES):
    return [[step, 1000 + step, {"train/loss": loss}, None] for step, loss in losses]


def finished(folder):
    made = {"checkpoint": "checkpoints/v3.safetensors", "history": "history/v3.jsonl"}
    return {"status": "FINISHED", **{role: str(folder / path) for role, path in made.items()}}


def relayed(*messages):
    """Relays what a training says, in this process."""
    relay.relay((json.dumps(message) + "\n" for message in messages), lambda: None)


def live_run():
    return live.live_run(
        Path("params.yaml"),
        "v3",
        Path("scratch/v3-0123456789ab"),
        checkpoint=Path("checkpoints/v3.safetensors"),
        history=Path("history/v3.jsonl"),
    )


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# What makes two runs the same


def test_an_entry_is_shown_as_dotted_names_without_its_description():
    entry = {"desc": "x", "a": {"b": None, "c": [1.0, True]}, "d": {}, "e": "text", "f": 1e-05}
    assert flatten(entry) == {
        "a.b": "null",
        "a.c": "1.0, true",
        "d": "{}",
        "e": "text",
        "f": "1e-05",
    }


def test_an_identity_depends_on_kind_key_params_and_bytes_but_not_on_their_order():
    params, md5s = {"a": "1", "b": "2"}, {"checkpoint": "c", "history": "h"}
    this = identity.identity("model", "v3", params, md5s)
    assert this == identity.identity("model", "v3", {"b": "2", "a": "1"}, md5s)
    others = {
        identity.identity("row", "v3", params, md5s),
        identity.identity("model", "v3plus", params, md5s),
        identity.identity("model", "v3", params | {"b": "3"}, md5s),
        identity.identity("model", "v3", params, md5s | {"history": "other"}),
    }
    assert len(others | {this}) == 5


# Where a run is from


def test_the_md5_of_a_data_set_is_taken_from_dvc_lock(tmp_path):
    lock = tmp_path / "dvc.lock"
    lock.write_text(
        "schema: '2.0'\n"
        "stages:\n"
        "  train@v3:\n"
        "    cmd: x\n"
        "    deps:\n"
        "    - {path: data/train.arrow, hash: md5, md5: stale, size: 1}\n"
        "    - {path: archives/weights, hash: md5, md5: weights, size: 1}\n"
        "  pack:\n"
        "    cmd: x\n"
        "    outs:\n"
        "    - {path: data/train.arrow, hash: md5, md5: fresh, size: 1}\n"
    )
    found = {path: file.md5 for path, file in provenance.locked(lock).items()}
    assert found == {"data/train.arrow": "fresh", "archives/weights": "weights"}


def test_without_dvc_lock_no_md5_is_known(tmp_path):
    assert provenance.locked(tmp_path / "dvc.lock") == {}


def test_outside_git_a_run_has_no_origin(tmp_path):
    assert provenance.origin(tmp_path) == {}


def test_what_running_changes_does_not_make_a_commit_dirty(tmp_path):
    for command in ("init -q", "commit -q --allow-empty -m empty"):
        user = ["-c", "user.name=A User", "-c", "user.email=user@example.invalid"]
        subprocess.run(["git", "-C", str(tmp_path), *user, *command.split()], check=True)
    (tmp_path / "dvc.lock").write_text("changed")
    assert provenance.origin(tmp_path)["git.state"] == "clean"
    files.write_text(tmp_path / "stages/new.py", "")
    assert provenance.origin(tmp_path)["git.state"] == "dirty"


# The store


def test_two_processes_may_create_the_store_at_once(tmp_path_factory):
    made = stores.empty_store(tmp_path_factory).iterdir()
    assert {path.name for path in made} == {"mlflow.db", "mlflow.db.create.lock"}


def test_a_temporary_checkout_uses_the_store_of_the_main_repository(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert store.uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert store.artifacts_uri() == f"file://{tmp_path}/mlartifacts"


def test_the_users_store_is_respected(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert store.uri() == "http://somewhere:5000"
    assert store.is_server()


@pytest.mark.parametrize("secret", ["user:password@", "token@", "user:p@ssword@"])
def test_a_password_is_never_shown(secret):
    assert store.redacted(f"at http://{secret}host:1/x failed") == "at http://host:1/x failed"


def test_telemetry_is_off():
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


# A training's run while it lasts


def test_a_live_run_is_named_after_its_stage_and_ends_with_its_identity(project):
    relayed(START, *points(), finished(project))
    run = one_run("train@v3")
    assert run.info.status == "FINISHED"
    assert curve(run, "train/loss") == LOSSES
    assert run.data.params == flatten(MODEL)
    assert len(run.data.tags[identity.TAG]) == 64


def test_a_live_run_is_sorted_by_its_network_from_its_first_iteration_on(project):
    relayed(START, *points(LOSSES[:1]))
    network = {"backbone": "resnet18", "decoder": "no", "output_stride.training": "16"}
    assert network.items() <= one_run("train@v3").data.tags.items()


def test_a_training_that_made_the_same_bytes_again_leaves_one_run(project):
    relayed(START, *points(), finished(project))
    relayed(START, *points(), finished(project))
    assert len(all_runs()) == 1


def test_a_failed_training_ends_as_failed_and_says_why(project):
    relayed(START, *points(), {"status": "FAILED", "error": "RuntimeError: loss is nan"})
    run = one_run("train@v3")
    assert run.info.status == "FAILED"
    assert run.data.tags["mlflow.note.content"] == "RuntimeError: loss is nan"
    assert identity.TAG not in run.data.tags


def test_a_training_that_is_gone_without_a_word_ends_as_killed(project):
    relayed(START, *points())
    assert one_run("train@v3").info.status == "KILLED"
    assert curve(one_run("train@v3"), "train/loss") == LOSSES


def test_a_training_that_goes_on_goes_on_in_its_run_without_a_point_twice(project):
    relayed(START, *points(LOSSES[:3]))
    first = one_run("train@v3")
    relayed(START, *points(LOSSES[2:]), finished(project))
    run = one_run("train@v3")
    assert run.info.run_id == first.info.run_id
    assert run.info.status == "FINISHED"
    history = store.open_client().get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == LOSSES


def test_a_training_that_failed_and_went_on_does_not_keep_its_error(project):
    relayed(START, *points(LOSSES[:3]), {"status": "FAILED", "error": "OSError: disk full"})
    relayed(START, *points(LOSSES[3:]), finished(project))
    run = one_run("train@v3")
    assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", LOSSES)
    assert "mlflow.note.content" not in run.data.tags


def test_another_training_of_the_same_model_is_another_run(project):
    relayed(START, *points(LOSSES[:3]))
    relayed(START | {"training_id": "v3-ba9876543210-this"}, *points(), finished(project))
    assert [run.info.status for run in all_runs()] == ["KILLED", "FINISHED"]


def test_the_same_training_on_another_machine_is_another_run(project, tmp_path):
    folders = [tmp_path / name / "scratch" for name in ("here", "there")]
    ids = []
    for folder in folders:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DVC_ROOT", str(folder.parent))
            for _ in range(2):  # and it keeps its name when it goes on
                with scratch.opened("v3", {"training": "0"}, str) as opened:
                    ids.append(scratch.identity(opened))
    here, again, there, _ = ids
    assert here == again != there
    assert here.rsplit("-", 1)[0] == there.rsplit("-", 1)[0]
    relayed(START | {"training_id": here}, *points(LOSSES[:3]))
    relayed(START | {"training_id": there}, *points(), finished(project))
    assert [run.info.status for run in all_runs()] == ["KILLED", "FINISHED"]
    assert curve(all_runs()[1], "train/loss") == LOSSES


def test_predictions_of_a_validation_are_shown_as_a_picture(project):
    split = Split(project / "data/val.arrow")
    panels = project / "panels/000000002"
    panels.mkdir(parents=True)
    sample = split[0]
    (panels / f"{sample.image_id}.png").write_bytes(sample.label)
    validated = [2, 1002, {"val/miou": 0.5, "best/miou": 0.5}, str(panels)]
    relayed(START, *points(), validated, finished(project))
    run = one_run("train@v3")
    assert curve(run, "val/miou") == [(2, 0.5)]
    (picture,) = store.open_client().list_artifacts(run.info.run_id, "panels")
    assert picture.path == "panels/000000002.png"


def test_a_picture_that_cannot_be_drawn_does_not_cost_the_curve(project):
    panels = project / "panels/000000002"
    panels.mkdir(parents=True)
    (panels / f"{Split(project / 'data/val.arrow').image_ids[0]}.png").write_bytes(b"no picture")
    relayed(START, [2, 1002, {"val/miou": 0.5}, str(panels)], *points(), finished(project))
    run = one_run("train@v3")
    assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", LOSSES)


def test_a_line_that_was_cut_off_is_left_out(project):
    relay.relay([json.dumps(START) + "\n", "[0, 1000, {"], lambda: None)
    assert one_run("train@v3").info.status == "KILLED"


@pytest.mark.parametrize("status", [403, 500])
def test_a_store_that_refuses_is_told_once_and_does_no_harm(
    project, impatient, monkeypatch, capsys, status
):
    with servers.bad_server(lambda handler: handler.send_error(status)) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("//", "//user:secret@"))
        relayed(START, *points(), finished(project))
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith(f"MLflow: {address}: ")
    assert str(status) in told
    assert "secret" not in told


def test_a_store_that_never_answers_is_given_up(project, impatient, monkeypatch, capsys):
    began = time.monotonic()
    with servers.bad_server(lambda handler: time.sleep(60)) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        relayed(START, *points(), finished(project))
    assert time.monotonic() - began < 8  # at most two tries of 1 s
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


# The training's side of it


def test_a_training_is_relayed_by_a_process_beside_it(project, monkeypatch):
    monkeypatch.setattr(live, "_CLOSE_SECONDS", 60.0)  # a busy machine imports MLflow slowly
    with live_run() as log:
        for iteration, loss in LOSSES:
            log(iteration, {"train/loss": loss})
    assert one_run("train@v3").info.status == "FINISHED"
    assert curve(one_run("train@v3"), "train/loss") == LOSSES


def test_an_error_is_raised_at_once_and_relayed_later(project):
    def fail():
        with live_run() as log:
            log(0, {"train/loss": 2.0})
            raise RuntimeError("loss is nan")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="loss is nan"):
        fail()
    assert time.monotonic() - began < 2
    wait_for(lambda: [run.info.status for run in all_runs()] == ["FAILED"])


def test_a_store_that_never_answers_delays_neither_an_iteration_nor_the_end(
    project, monkeypatch, capfd
):
    monkeypatch.setattr(live, "_CLOSE_SECONDS", 0.5)
    with servers.bad_server(lambda handler: time.sleep(60)) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        began = time.monotonic()
        with live_run() as log:
            for iteration in range(5000):
                log(iteration, {"train/loss": 1.0, "train/learning_rate": 0.1})
    assert time.monotonic() - began < 3  # 5000 calls and the end
    assert "did not take the last points within 0.5 s" in capfd.readouterr().err


def test_without_mlflow_a_training_is_told_so_once_and_goes_on(project, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with live_run() as log:
        log(0, {"train/loss": 2.0})
        log(1, {"train/loss": 1.0})
    (told,) = capfd.readouterr().err.strip().splitlines()
    assert told.startswith("MLflow: not installed, hence no live curve; ")
