"""The stage that fills MLflow from DVC's outs, on real stores."""

import json
import os
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
import stores
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS
from stores import LOSSES, NAMES, all_runs, curve, one_run

from bench import servers
from pipeline import scratch
from pipeline.tracking import filling, identity, owner, publishing, store
from stages import publish


@pytest.fixture(autouse=True)
def project(tmp_path_factory, tmp_path, monkeypatch):
    stores.use_empty_store(tmp_path_factory, monkeypatch, tmp_path)
    stores.write_project(tmp_path)
    return tmp_path


def publish_all():
    publish.main(Path("params.yaml"), *map(Path, stores.INPUTS))


def live_run(points=(), *, training="gone", **tags):
    """A run as the relay leaves it behind, of a training that is gone or one that is not."""
    client = store.open_client()
    pid = os.getpid() if training == "alive" else _ended_process()
    tags = {**identity.tags("model", "v3"), owner.TAG: owner.tag(pid), **tags}
    run = client.create_run(store.open_experiment(client, "test"), tags=tags, run_name="live")
    for name, value in identity.flatten(stores.MODEL).items():
        client.log_param(run.info.run_id, name, value)
    for step, value in points:
        client.log_metric(run.info.run_id, "train/loss", value, step=step, timestamp=1000 + step)
    return run.info.run_id


def _ended_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def git(*arguments):
    identity = ["-c", "user.name=A User", "-c", "user.email=user@example.invalid"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_each_model_and_each_row_is_one_finished_run():
    publish_all()
    assert [run.info.run_name for run in all_runs()] == NAMES
    assert {run.info.status for run in all_runs()} == {"FINISHED"}


def test_a_model_shows_its_params_and_its_curve():
    publish_all()
    run = one_run("train@v3")
    assert run.data.params == {
        "data": "data/train.arrow",
        "start": "archives/weights",
        "network.backbone": "resnet18",
        "network.output_stride": "16",
        "network.decoder": "null",
        "training.base_learning_rate": "0.05",
        "training.scales": "0.75, 1.0",
        "validation.data": "data/val.arrow",
    }
    assert curve(run, "train/loss") == LOSSES
    assert curve(run, "train/learning_rate") == [(0, 0.05), (1, 0.05), (2, 0.05), (3, 0.05)]


def test_a_row_of_an_imported_checkpoint_belongs_to_the_run_of_the_import(project):
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["imports"] = {"zoo": {"desc": "Model zoo", "network": stores.MODEL["network"]}}
    document["rows"]["v3"]["model"] = "zoo"
    Path("params.yaml").write_text(yaml.safe_dump(document))
    Path("archives/zoo").write_text("an archive")
    Path("checkpoints/zoo.safetensors").write_text("zoo")
    Path("history/zoo.jsonl").write_text('{"iteration": 30000, "variables": 732}\n')
    publish_all()
    run = one_run("import_checkpoint@zoo")
    assert run.info.status == "FINISHED"
    assert "Imported from `archives/zoo`" in run.data.tags["mlflow.note.content"]
    assert f"runs/{run.info.run_id}" in note("evaluate@v3")


def test_a_row_shows_its_scores_its_trimap_curve_and_its_models_params():
    publish_all()
    run = one_run("evaluate@v3")
    assert run.data.params["inference.flip"] == "false"
    assert run.data.params["model.training.base_learning_rate"] == "0.05"
    assert run.data.metrics == {
        "score/miou": 0.5,
        "score/miou_low": 0.4,
        "score/miou_high": 0.6,
        "score/paper_miou": 0.7851,
        "score/pixel_accuracy": 0.75,
        "score/mean_class_accuracy": 0.625,
        "trimap/miou": 0.3,
        "trimap/miou_low": 0.0,
        "trimap/miou_high": 1.0,
        "trimap/pixel_accuracy": 0.5,
        "iou/cat": 0.5,
        "iou/traffic _light_": 0.25,
        "cost/billion_multiply_adds": 7.5,
        "cost/million_parameters": 13.5,
        "cost/training_hours": 1.5,
        "cost/images_per_second": 12.5,
    }
    assert curve(run, "trimap/miou") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_run_names_its_data_and_the_md5_of_its_files():
    publish_all()
    run = one_run("evaluate@v3")
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.name == "data/val.arrow"
    assert json.loads(used.dataset.profile)["num_images"] == 2
    assert run.data.tags["dvc.md5/data/val.arrow"] == used.dataset.digest
    made_of = run.data.tags["dvc.md5/checkpoints/v3.safetensors"]
    assert made_of == "9cbf7227fd92c4f771e09acb893ea802"  # printf 'v3 0.05' | md5sum


def test_figures_have_the_same_names_in_all_rows():
    publish_all()
    client = store.open_client()
    for name in ("evaluate@v3", "evaluate@v3plus"):
        listed = client.list_artifacts(one_run(name).info.run_id)
        assert [artifact.path for artifact in listed] == ["panels.png", "trimap.png"]


def note(stage):
    return one_run(stage).data.tags["mlflow.note.content"]


def test_a_row_links_to_the_run_of_its_model():
    publish_all()
    assert f"[train@v3](#/experiments/1/runs/{one_run('train@v3').info.run_id}" in note(
        "evaluate@v3"
    )
    assert "evaluated on `data/val.arrow`, 2 images." in note("evaluate@v3")


def test_a_row_describes_its_score_beside_the_papers():
    publish_all()
    assert note("evaluate@v3").startswith(
        "**Table 3 Single scale**\n\n"
        "| mIoU, % | |\n"
        "|:--|:--|\n"
        "| **here** | **50.00** (95 % interval 40.00 to 60.00) |\n"
        "| **the paper** | **78.51** (Table 3: ResNet-101 on VOC 2012 val, `table3_os16-eval8`) |\n"
        "| **difference**&ensp; | not comparable: 2 images, not VOC 2012 val |\n"
    )


def test_a_difference_is_given_on_as_many_images_as_the_paper_has(project):
    paper = stores.PAPER | {"datasets": {"VOC 2012 val": 2}}
    Path("paper.yaml").write_text(yaml.safe_dump(paper))
    publish_all()
    assert "| **difference**&ensp; | -28.51 |" in note("evaluate@v3")
    assert one_run("evaluate@v3").data.metrics["score/difference"] == pytest.approx(-0.2851)


def test_a_row_that_nothing_was_published_of_is_described_without_the_paper():
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["rows"]["v3"]["paper"] = []
    Path("params.yaml").write_text(yaml.safe_dump(document))
    publish_all()
    run = one_run("evaluate@v3")
    assert run.info.run_name == "v3"
    assert "paper" not in run.data.tags["mlflow.note.content"]
    assert "score/paper_miou" not in run.data.metrics
    assert "table" not in run.data.tags


def test_a_published_score_that_was_mistyped_is_put_right():
    publish_all()
    paper = Path("paper.yaml")
    paper.write_text(paper.read_text().replace("78.51", "77.21"))
    publish_all()
    assert one_run("evaluate@v3").data.metrics["score/paper_miou"] == 0.7721
    assert "**77.21**" in note("evaluate@v3")


def test_runs_are_sorted_and_searched_by_table_network_and_output_strides():
    publish_all()
    network = {"backbone": "resnet18", "decoder": "no", "output_stride.training": "16"}
    row = network | {"output_stride.evaluation": "8", "table": "Table 3"}
    assert network.items() <= one_run("train@v3").data.tags.items()
    assert row.items() <= one_run("evaluate@v3").data.tags.items()


def test_runs_of_equal_params_have_equal_hashes_of_them():
    publish_all()
    hashes = [run.data.tags["params.sha256"] for run in all_runs()]
    assert hashes[0] == hashes[1]  # v3 and v3plus differ in their keys alone
    assert len(hashes[0]) == 64
    assert hashes[0] != hashes[2]


def test_a_model_names_the_splits_of_its_training_and_its_validation():
    publish_all()
    used = one_run("train@v3").inputs.dataset_inputs
    assert sorted((u.tags[0].value, u.dataset.name) for u in used) == [
        ("training", "data/train.arrow"),
        ("validation", "data/val.arrow"),
    ]


def test_a_split_that_is_trained_on_and_validated_on_is_named_once_with_both():
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["models"]["v3"]["validation"]["data"] = "data/train.arrow"
    Path("params.yaml").write_text(yaml.safe_dump(document))
    publish_all()
    (used,) = one_run("train@v3").inputs.dataset_inputs
    assert used.tags[0].value == "training, validation"


def test_a_run_says_how_to_come_back_to_it(monkeypatch):
    git("init", "-q")
    git("add", "params.yaml", "paper.yaml")
    git("commit", "-q", "-m", "params")
    publish_all()
    tags = one_run("evaluate@v3").data.tags
    back = f"\n```\ngit checkout {tags['git.commit']}\ndvc repro evaluate@v3\n```"
    assert f"make checkout RUN={one_run('evaluate@v3').info.run_id}" in note("evaluate@v3")
    assert note("evaluate@v3").endswith(back)


def test_a_run_of_a_dvc_experiment_is_applied_by_its_name(monkeypatch):
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    monkeypatch.setenv("DVC_EXP_NAME", "topsy-turvy")
    publish_all()
    back = "\n```\ndvc exp apply topsy-turvy\ndvc repro evaluate@v3\n```"
    assert note("evaluate@v3 topsy-turvy").endswith(back)


def test_sources_that_no_commit_holds_are_said_to_be_so():
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    publish_all()
    assert "The sources differed from that commit" in note("evaluate@v3")


def test_runs_that_an_earlier_version_published_get_what_is_new():
    publish_all()
    client, run = store.open_client(), one_run("evaluate@v3")
    with sqlite3.connect("mlflow.db") as database:
        for name in ("latest_metrics", "metrics"):
            database.execute(f"DELETE FROM {name} WHERE key LIKE 'cost/%'")
    publish_all()
    assert client.get_run(run.info.run_id).data.metrics == run.data.metrics


def test_a_row_that_is_warned_of_says_so_and_others_do_not():
    publish_all()
    tags = one_run("evaluate@v3_flip").data.tags
    assert tags["warnings"] == "Never predicted: dog."
    assert "\n\n**Warning:** Never predicted: dog.\n" in tags["mlflow.note.content"]
    others = [run.data.tags for run in all_runs() if run.data.tags["key"] != "v3_flip"]
    assert not [tags for tags in others if "warn" in str(tags).lower()]


def test_class_weights_in_a_history_are_metrics_whatever_the_classes_are_called(project):
    history = project / "history/v3.jsonl"
    first, *rest = history.read_text().splitlines(keepends=True)
    history.write_text(first.replace("}", ', "class_weight/sky (blue)": 2.5}') + "".join(rest))
    publish_all()
    assert curve(one_run("train@v3"), "train/class_weight/sky _blue_") == [(0, 2.5)]
    assert curve(one_run("train@v3"), "train/loss") == LOSSES


def test_publishing_twice_makes_no_second_run_and_no_second_point():
    publish_all()
    publish_all()
    assert [run.info.run_name for run in all_runs()] == NAMES
    assert curve(one_run("train@v3"), "train/loss") == LOSSES


def test_a_changed_training_adds_its_run_and_that_of_its_rows_alone(project):
    publish_all()
    stores.write_project(project, learning_rate=0.1)
    publish_all()
    added = [run.info.run_name for run in all_runs()][len(NAMES) :]
    assert added == ["train@v3", "v3 (Table 3)", "v3_flip (Table 3)"]


def test_more_points_than_one_call_takes_arrive_once_each(project):
    stores.write_project(project, num_iterations=1501)
    publish_all()
    assert len(curve(one_run("train@v3"), "train/loss")) == 1501
    assert len({step for step, _ in curve(one_run("train@v3"), "train/loss")}) == 1501


def test_a_training_that_lost_its_store_is_completed_each_iteration_once():
    run_id = live_run(LOSSES[1:3])
    publish_all()
    assert len(all_runs()) == len(NAMES)
    run = store.open_client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert curve(run, "train/loss") == LOSSES


def test_a_training_that_went_on_while_the_store_was_away_is_completed_in_its_run():
    run_id = live_run(LOSSES[:2])
    store.open_client().set_terminated(run_id, "KILLED")
    publish_all()
    assert len(all_runs()) == len(NAMES)
    run = store.open_client().get_run(run_id)
    assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", LOSSES)


def test_iterations_that_came_out_otherwise_when_it_went_on_are_shown_once(project):
    with scratch.opened("v3", {}, str) as folder:
        this = scratch.identity(folder)
        shutil.copy(project / "history/v3.jsonl", folder / "history.jsonl")
    seen = [LOSSES[0], (1, LOSSES[1][1] + 1e-6)]  # as on a GPU, after its last state
    run_id = live_run(seen, **{owner.TRAINING: this})
    publish_all()
    publish_all()
    assert len(all_runs()) == len(NAMES)
    run = store.open_client().get_run(run_id)
    assert (run.info.status, curve(run, "train/loss")) == ("FINISHED", [*seen, *LOSSES[2:]])


def test_a_live_run_whose_folder_holds_another_history_is_not_taken_over(project):
    with scratch.opened("v3", {}, str) as folder:
        this = scratch.identity(folder)
        (folder / "history.jsonl").write_text("of other code")
    run_id = live_run([(0, 7.0)], **{owner.TRAINING: this})
    publish_all()
    (published,) = (run for run in all_runs() if run.info.run_name == "train@v3")
    assert curve(published, "train/loss") == LOSSES
    assert store.open_client().get_run(run_id).info.status == "KILLED"


def test_a_run_of_a_key_that_is_gone_does_not_run_for_ever():
    run_id = live_run(LOSSES[:2], key="renamed")
    publish_all()
    assert store.open_client().get_run(run_id).info.status == "KILLED"


def test_an_experiment_is_not_lost_for_a_store_that_is_away(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{servers.free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConnectionError):
        publish_all()
    monkeypatch.setenv("DVC_EXP_NAME", "seed-1")
    publish_all()
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("MLflow: http://127.0.0.1")
    assert told.endswith("; `make publish` brings it in")


def test_a_point_that_was_missing_gets_a_time_between_those_that_were_not():
    run_id = live_run([LOSSES[0], LOSSES[3]])
    publish_all()
    points = store.open_client().get_metric_history(run_id, "train/loss")
    assert sorted(point.timestamp for point in points) == [1000, 1001, 1002, 1003]


def test_a_run_of_another_training_that_is_gone_is_marked_as_killed():
    run_id = live_run([(0, 7.0)])
    publish_all()
    assert store.open_client().get_run(run_id).info.status == "KILLED"
    assert len(all_runs()) == 1 + len(NAMES)


def test_a_training_that_still_runs_is_left_alone():
    run_id = live_run(LOSSES[:2], training="alive")
    publish_all()
    assert store.open_client().get_run(run_id).info.status == "RUNNING"
    assert len(all_runs()) == 1 + len(NAMES)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no Linux")
def test_a_training_that_has_ended_unnoticed_is_gone():
    process = subprocess.Popen(["true"])
    tag = owner.tag(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert owner.is_gone(tag)
    process.wait()
    assert owner.is_gone(tag)
    assert not owner.is_gone(owner.tag(os.getpid()))


def test_a_training_on_another_machine_is_left_alone():
    run_id = live_run(LOSSES[:2], **{owner.TAG: "elsewhere:1:0"})
    publish_all()
    assert store.open_client().get_run(run_id).info.status == "RUNNING"


def test_a_training_on_another_machine_that_was_silent_for_days_has_ended(monkeypatch):
    there = {owner.TAG: "elsewhere:1:0"}
    silent = live_run(LOSSES[:2], key="renamed", **there)  # points of 1970, and a start of now
    talking = live_run([], key="renamed", **there)
    now = time.time()
    store.open_client().log_metric(talking, "train/loss", 1.0, int(1000 * (now + 80 * 3600)), 0)
    monkeypatch.setattr(time, "time", lambda: now + 100 * 3600)
    publish_all()
    assert store.open_client().get_run(silent).info.status == "KILLED"
    assert store.open_client().get_run(talking).info.status == "RUNNING"


def test_a_publish_that_was_interrupted_is_completed():
    publish_all()
    client, run = store.open_client(), one_run("train@v3")
    for tag in ("mlflow.published", "dvc.md5/archives/weights"):
        client.delete_tag(run.info.run_id, tag)
    client.update_run(run.info.run_id, status="RUNNING")
    publish_all()
    assert one_run("train@v3").data.tags.keys() == run.data.tags.keys()
    assert len(one_run("train@v3").inputs.dataset_inputs) == 2
    assert one_run("train@v3").info.status == "FINISHED"


def test_a_run_that_two_machines_made_at_once_is_kept_once():
    publish_all()
    first = one_run("train@v3")
    again = live_run(**{identity.TAG: first.data.tags[identity.TAG]})
    publish_all()
    assert one_run("train@v3").info.run_id == first.info.run_id
    assert store.open_client().get_run(again).info.lifecycle_stage == "deleted"


def test_a_figure_that_changed_is_shown_as_it_is_now(project):
    publish_all()
    (project / "report/panels/v3.png").write_text("new panels")
    publish_all()
    run_id = one_run("evaluate@v3").info.run_id
    shown = store.open_client().download_artifacts(run_id, "panels.png")
    assert Path(shown).read_text() == "new panels"


def test_a_description_follows_params_yaml(project):
    publish_all()
    stores.write_project(project, desc="Table 5 Single scale")
    publish_all()
    assert len(all_runs()) == len(NAMES)
    assert note("evaluate@v3").startswith("**Table 5 Single scale**\n")


def test_a_description_that_a_person_wrote_stays(project):
    publish_all()
    client, run_id = store.open_client(), one_run("evaluate@v3").info.run_id
    client.set_tag(run_id, "mlflow.note.content", "the best one")
    stores.write_project(project, desc="Table 5 Single scale")
    publish_all()
    assert one_run("evaluate@v3").data.tags["mlflow.note.content"] == "the best one"


def test_a_run_keeps_its_origin_but_a_clean_commit_replaces_a_dirty_one(monkeypatch):
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    publish_all()
    assert one_run("train@v3").data.tags["git.state"] == "dirty"
    git("add", "params.yaml", "paper.yaml")
    git("commit", "-q", "-m", "params")
    monkeypatch.setenv("DVC_EXP_NAME", "topsy-turvy")
    publish_all()
    clean = one_run("train@v3").data.tags
    git("commit", "-q", "--allow-empty", "-m", "later")
    publish_all()
    assert one_run("train@v3").data.tags == clean
    assert clean["git.state"] == "clean"
    assert "dvc.experiment" not in clean


def test_a_dvc_experiment_is_told_apart_by_its_name(monkeypatch):
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    monkeypatch.setenv("DVC_EXP_NAME", "topsy-turvy")
    publish_all()
    assert one_run("train@v3 topsy-turvy").data.tags["dvc.experiment"] == "topsy-turvy"


def test_an_experiment_that_was_deleted_comes_back():
    publish_all()
    client = store.open_client()
    client.delete_experiment(store.open_experiment(client, "test"))
    publish_all()
    assert len(all_runs()) == len(NAMES)


def test_views_are_saved_and_those_that_a_person_changed_stay():
    publish_all()
    client = store.open_client()
    experiment_id = store.open_experiment(client, "test")
    client.set_experiment_tag(experiment_id, "mlflow.sharedViewState.rows", "changed")
    publish_all()
    tags = client.get_experiment(experiment_id).tags
    assert tags["mlflow.sharedViewState.rows"] == "changed"
    assert "tags.kind = 'model'" in tags["mlflow.sharedViewState.models"]


def test_a_publish_that_another_machine_comes_between_begins_again(monkeypatch):
    fill, interrupted = filling.fill, []

    def fill_once_too_late(client, there, *arguments):
        if not interrupted:
            interrupted.append(there.info.run_id)
            client.delete_run(there.info.run_id)  # as the younger of two
        fill(client, there, *arguments)

    monkeypatch.setattr(filling, "fill", fill_once_too_late)
    monkeypatch.setattr(publishing, "_PAUSE_SECONDS", 0.0)
    publish_all()
    assert [run.info.run_name for run in all_runs()] == NAMES
    assert interrupted[0] not in [run.info.run_id for run in all_runs()]


def test_a_registry_in_which_another_machine_writes_at_the_moment_is_asked_again(monkeypatch):
    create, answers = MlflowClient.create_model_version, [INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS]

    def create_at_the_third_try(*arguments, **named):
        if answers:
            raise MlflowException("Model Version creation error", answers.pop())
        return create(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_model_version", create_at_the_third_try)
    monkeypatch.setattr(publishing, "_PAUSE_SECONDS", 0.0)
    publish_all()
    assert [run.info.run_name for run in all_runs()] == NAMES
    assert len(store.open_client().search_model_versions("name = 'test'")) == 2


def test_a_registry_that_never_takes_a_model_is_one_line(monkeypatch):
    def refuse(*arguments, **named):
        raise MlflowException("no space left", INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "create_model_version", refuse)
    monkeypatch.setattr(publishing, "_PAUSE_SECONDS", 0.0)
    with pytest.raises(ConnectionError, match="no space left"):
        publish_all()


def test_two_machines_that_fill_a_run_log_the_same_points():
    publish_all()
    run = one_run("train@v3")
    points = store.open_client().get_metric_history(run.info.run_id, "train/loss")
    assert {point.timestamp for point in points} == {run.info.start_time}


def test_a_store_that_is_away_is_one_line_without_the_password(monkeypatch):
    address = f"127.0.0.1:{servers.free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@{address}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConnectionError, match="Connection refused") as caught:
        publish_all()
    assert str(caught.value).startswith(f"http://{address}: ")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_line_of_a_history_is_named(project):
    (project / "history/v3.jsonl").write_text('{"iteration": 0, "loss": 1.0}\n{"loss"\n')
    with pytest.raises(ValueError, match=r"history/v3.jsonl:2: no JSON object with an iteration"):
        publish_all()


def test_runs_on_later_pages_of_the_store_are_found_too(project, monkeypatch):
    publish_all()
    names = [run.info.run_name for run in stores.all_runs()]
    monkeypatch.setattr(store, "_RUNS_PER_PAGE", 2)
    assert [run.info.run_name for run in stores.all_runs()] == names == stores.NAMES
    publish_all()
    assert len(stores.all_runs()) == len(names)
