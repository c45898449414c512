"""From a run in MLflow back to its bytes, in a small pipeline with the real git and DVC."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import stores
import synthetic
import yaml
from stores import all_runs

from pipeline import scratch
from pipeline.tracking import checkout, identity, outs, show, store
from stages import publish

PARAMS = Path("params.yaml")
CHECKPOINT = Path("checkpoints/v3.safetensors")
DVC_YAML = """
stages:
  train:
    foreach: ${models}
    do:
      cmd: python make.py train ${key}
      deps: ["${item.data}"]
      params: ["models.${key}"]
      outs:
        - checkpoints/${key}.safetensors
        - history/${key}.jsonl
        - history/${key}.pace.json
  evaluate:
    foreach: ${rows}
    do:
      cmd: python make.py evaluate ${key}
      deps: ["checkpoints/${item.model}.safetensors"]
      params: ["rows.${key}"]
      metrics:
        - metrics/${key}/scores.json: {cache: false}
        - metrics/${key}/trimap.json: {cache: false}
"""
# Stands for the stages: what they make shows the params.
MAKE = """
import json, pathlib, sys, yaml
kind, key = sys.argv[1:]
params = yaml.safe_load(open("params.yaml"))
def write(name, text):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
if kind == "train":
    rate = params["models"][key]["training"]["base_learning_rate"]
    write(f"checkpoints/{key}.safetensors", f"trained at {rate}")
    write(f"history/{key}.jsonl", json.dumps({"iteration": 0, "loss": rate, "learning_rate": rate}))
    pace = {"seconds": 60.0, "iterations": 1, "images_per_second": 8.0, "device": "CPU"}
    write(f"history/{key}.pace.json", json.dumps(pace | {"num_devices": 1, "torch": "2.11.0"}))
else:
    checkpoint = f"checkpoints/{params['rows'][key]['model']}.safetensors"
    miou = len(open(checkpoint).read()) / 100
    scores = {"miou": miou, "pixel_accuracy": 1.0, "mean_class_accuracy": 1.0}
    scores |= {"miou_low": 0.0, "miou_high": 1.0, "absent_classes": []}
    scores |= {"num_images": 2, "iou_per_class": {"cat": miou}, "warnings": []}
    write(f"metrics/{key}/scores.json", json.dumps(scores))
    write(f"metrics/{key}/trimap.json", "[]")
"""


def run(*command):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def git(*arguments):
    return run("git", "-c", "user.name=A", "-c", "user.email=a@example.invalid", *arguments)


def commit(message):
    git("add", "--all")
    git("commit", "--quiet", "--message", message)


def write_params(learning_rate):
    training = {**stores.MODEL["training"], "base_learning_rate": learning_rate}
    model = {**stores.MODEL, "start": "archives/weights", "training": training}
    document = {"imports": {}, "models": {"v3": model}, "rows": {"v3": stores.ROW}}
    PARAMS.write_text(yaml.safe_dump(document | {"mlflow": {"experiment": "test"}}))
    Path("paper.yaml").write_text(yaml.safe_dump(stores.PAPER))
    cost = {"multiply_adds": 1.0, "authors_multiply_adds": 1.0, "parameters": 1}
    Path("metrics").mkdir(exist_ok=True)
    Path("metrics/multiply_adds.json").write_text(json.dumps({"v3": cost}))


def repro(learning_rate):
    """Runs the pipeline at another learning rate; returns the ids of its two runs."""
    before = {run.info.run_id for run in all_runs()}
    write_params(learning_rate)
    run("dvc", "repro", "--quiet")
    publish.main(PARAMS, *map(Path, stores.INPUTS))
    return [run.info.run_id for run in all_runs() if run.info.run_id not in before]


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Three states: of the first commit; committed after it ran; and never committed."""
    folder = tmp_path_factory.mktemp("story")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stores.use_empty_store(tmp_path_factory, monkeypatch, folder)
        Path("dvc.yaml").write_text(DVC_YAML)
        Path("make.py").write_text(MAKE)
        ignored = "/checkpoints\n/history\n/mlflow.db*\n/mlartifacts\n/remote\n"
        Path(".gitignore").write_text(ignored)
        synthetic.write_split(Path("data/train.arrow"), [(20, 30)] * 3)
        synthetic.write_split(Path("data/val.arrow"), [(20, 30)] * 2)
        Path("archives").mkdir()
        Path("archives/weights").write_text("weights")
        git("init", "--quiet", "--initial-branch", "main")
        run("dvc", "init", "--quiet")
        run("dvc", "config", "core.autostage", "true")
        runs = {"first": repro(0.05)}
        commit("first")
        runs["never"] = repro(0.25)
        git("checkout", "--quiet", "HEAD", "--", ".")
        runs["later"] = repro(0.125)
        commit("later")
    return folder, runs


@pytest.fixture
def runs(story, tmp_path_factory, monkeypatch):
    """The ids of model and row in each state; the working folder is a copy of the project."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(story[0], folder)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return story[1]


def shown(capsys, name):
    show.main(PARAMS, name)
    return capsys.readouterr().out


def learning_rate():
    return yaml.safe_load(PARAMS.read_text())["models"]["v3"]["training"]["base_learning_rate"]


def checkpoint_md5(run_id):
    tags = store.open_client().get_run(run_id).data.tags
    return tags[identity.md5_tag(CHECKPOINT.as_posix())]


def test_a_run_is_shown_with_params_scores_md5s_and_its_commit(runs, capsys):
    text = shown(capsys, runs["first"][1])
    assert text.startswith("evaluate@v3\n**Table 3 Single scale**\n")
    assert re.search(r"  model\.training\.base_learning_rate +0\.05\n", text)
    assert re.search(r"  score/miou +0\.15\n", text)  # "trained at 0.05" has 15 letters
    assert ", first\n  5 of its 5 outs are in DVC's cache or git.\n" in text


def test_the_commit_is_found_that_came_after_the_run(runs, capsys):
    """The run's own tag names the commit before, and says that it was dirty."""
    text = shown(capsys, runs["later"][0])
    assert f"git.commit  {git('rev-parse', 'HEAD^')}\n" in text
    assert "git.state   dirty\n" in text
    assert f"\nstate\n  commit {git('rev-parse', '--short', 'HEAD')}, " in text


def test_a_state_that_was_never_committed_is_told_with_the_params_to_set(runs, capsys):
    text = shown(capsys, runs["never"][1])
    assert "no commit and no DVC experiment in this repository has it." in text
    assert f"git checkout {git('rev-parse', 'HEAD^')[:12]}\n" in text
    assert "    models.v3.training.base_learning_rate: 0.25    # is 0.05\n" in text
    assert "  dvc repro evaluate@v3\n" in text
    cached = outs.cached(Path(), {"x": checkpoint_md5(runs["never"][0])})["x"]
    assert cached.read_text() == "trained at 0.25"
    assert str(cached) in text


def test_a_state_of_the_working_tree_is_told_as_such(runs, capsys):
    (model, row) = repro(0.5)
    assert "no commit has it yet" in shown(capsys, row)
    with pytest.raises(ValueError, match=r"cannot be brought back:\nparams.yaml and dvc.lock in"):
        checkout.main(PARAMS, model)


def test_a_checkout_brings_back_code_params_and_outs_and_dvc_has_nothing_to_do(runs, capsys):
    checkout.main(PARAMS, runs["first"][1])
    assert re.fullmatch(
        r"The way back:  git checkout main && dvc checkout --allow-missing\n"
        r"evaluate@v3 is back: .*\n"
        r"dvc repro has nothing to do\.\n",
        capsys.readouterr().out,
    )
    assert CHECKPOINT.read_text() == "trained at 0.05"
    assert learning_rate() == 0.05
    assert "Data and pipelines are up to date." in run("dvc", "repro")
    assert git("status", "--porcelain") == ""


def test_a_checkout_of_the_state_that_is_there_stays_on_the_branch(runs, capsys):
    Path("README").write_text("which no result depends on")
    commit("README")
    CHECKPOINT.unlink()
    checkout.main(PARAMS, runs["later"][0])
    assert CHECKPOINT.read_text() == "trained at 0.125"
    assert git("symbolic-ref", "--short", "HEAD") == "main"


def test_a_name_of_several_runs_shows_the_latest_and_checks_out_none(runs, capsys):
    text = shown(capsys, "train@v3")
    assert f"  id          {runs['later'][0]}\n" in text
    assert f"earlier runs of this name: 2\n  {runs['never'][0]}  " in text
    with pytest.raises(ValueError, match="RUN=train@v3 stands for 3 runs; give the id of one:\n"):
        checkout.main(PARAMS, "train@v3")


@pytest.mark.parametrize("name", ["v4", "0" * 32, ""])
def test_a_name_of_no_run_is_an_error_that_lists_the_names(runs, name):
    with pytest.raises(ValueError, match=rf"^RUN={name}: .* it has evaluate@v3, train@v3$"):
        show.main(PARAMS, name)


def changed_params():
    write_params(7.0)


def changed_out():
    CHECKPOINT.unlink()
    CHECKPOINT.write_text("by hand")


def file_in_the_way():
    git("rm", "--quiet", "--cached", "metrics/v3/scores.json")
    git("commit", "--quiet", "-m", "without")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_params, "^changes that no commit has: params.yaml; commit them, or git stash$"),
        (changed_out, r"^DVC: Can't remove the following unsaved files .*/v3.safetensors$"),
        (file_in_the_way, r"would be overwritten by checkout: metrics/v3/scores.json"),
    ],
)
def test_nothing_moves_where_something_would_be_lost(runs, change, message):
    change()
    kept = [PARAMS.read_text(), CHECKPOINT.read_text(), git("rev-parse", "HEAD")]
    with pytest.raises(ValueError, match=message):
        checkout.main(PARAMS, runs["first"][0])
    assert [PARAMS.read_text(), CHECKPOINT.read_text(), git("rev-parse", "HEAD")] == kept


def test_nothing_moves_under_a_training_that_runs(runs):
    before = git("rev-parse", "HEAD")
    with (
        scratch.opened("v3", {}, str) as folder,
        pytest.raises(ValueError, match=f"at work in {folder}: wait for its end, or end it"),
    ):
        checkout.main(PARAMS, runs["first"][0])
    assert git("rev-parse", "HEAD") == before


def test_a_training_in_a_temporary_checkout_is_in_nobodys_way(runs, monkeypatch, tmp_path):
    project = Path.cwd()
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(tmp_path)
    with scratch.opened("v3", {}, str):
        monkeypatch.chdir(project)
        assert scratch.busy(tmp_path) != []
        checkout.main(PARAMS, runs["first"][0])


def test_who_interrupts_a_checkout_is_where_he_was(runs, monkeypatch):
    real, calls = outs.checkout, []

    def interrupted(project, *, allow_missing=False):
        calls.append(allow_missing)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(project, allow_missing=allow_missing)

    monkeypatch.setattr(outs, "checkout", interrupted)
    before = CHECKPOINT.read_text()
    with pytest.raises(KeyboardInterrupt):
        checkout.main(PARAMS, runs["first"][0])
    assert calls == [True, False, True]
    assert git("symbolic-ref", "--short", "HEAD") == "main"
    assert CHECKPOINT.read_text() == before


def test_a_state_in_which_some_stages_never_ran_can_be_brought_back(runs, capsys):
    git("checkout", "--quiet", "-b", "partly")
    params = yaml.safe_load(PARAMS.read_text())
    params["models"]["v3"]["training"]["base_learning_rate"] = 0.5
    whole = Path("whole.yaml")
    whole.write_text(yaml.safe_dump(params))
    params["models"]["for_later"] = params["models"]["v3"]
    PARAMS.write_text(yaml.safe_dump(params))
    run("dvc", "repro", "--quiet", "evaluate@v3")
    before = {one.info.run_id for one in all_runs()}
    publish.main(whole, *map(Path, stores.INPUTS))
    whole.unlink()
    new = [one for one in all_runs() if one.info.run_id not in before]
    commit("one model of two")
    git("checkout", "--quiet", "main")
    run("dvc", "checkout", "--quiet")
    capsys.readouterr()
    checkout.main(PARAMS, new[-1].info.run_id)
    said = capsys.readouterr().out
    assert "evaluate@v3 is back" in said
    assert said.endswith("dvc repro would run: train@for_later\n")
    assert CHECKPOINT.read_text() == "trained at 0.5"


def test_a_page_of_a_part_is_removed_and_no_other_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("dvc", "init", "--quiet", "--no-scm")
    stages = {name: {"cmd": f"echo whole > {name}", "outs": [name]} for name in ("report", "other")}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    run("dvc", "repro", "--quiet")
    outs.remove_unsaved(Path(), "report")
    assert Path("report").read_text() == "whole\n"
    for name in stages:
        Path(name).unlink()
        Path(name).write_text("of a part")
    outs.remove_unsaved(Path(), "report")
    assert not Path("report").exists()
    assert Path("other").read_text() == "of a part"


def test_what_the_cache_has_lost_is_fetched_from_the_remote_if_there_is_one(runs, capsys):
    cached = outs.cached(Path(), {"x": checkpoint_md5(runs["first"][0])})["x"]
    kept = cached.rename("kept")
    with pytest.raises(
        ValueError, match=r"not here and DVC has no remote: checkpoints/v3.safetensors\nTo bring"
    ):
        checkout.main(PARAMS, runs["first"][0])
    kept.rename(cached)
    run("dvc", "remote", "add", "--quiet", "--default", "--local", "shelf", "remote")
    run("dvc", "push", "--quiet", "--all-commits")
    cached.unlink()
    assert "DVC's remote shelf has them.\n" in shown(capsys, runs["first"][0])
    checkout.main(PARAMS, runs["first"][0])
    assert CHECKPOINT.read_text() == "trained at 0.05"


def test_a_commit_of_new_params_with_the_old_lock_is_no_state_of_either(runs, capsys):
    head = git("rev-parse", "--short", "HEAD")
    write_params(0.25)
    commit("params alone")
    assert f"\nstate\n  commit {head}, " in shown(capsys, runs["later"][0])
    assert "no commit and no DVC experiment" in shown(capsys, runs["never"][0])


def test_a_commit_with_the_scores_of_an_earlier_state_is_passed_over(runs, capsys):
    scores = Path("metrics/v3/scores.json")
    before = scores.read_text()
    model, _ = repro(0.5)
    after = scores.read_text()
    assert after != before
    scores.write_text(before)
    commit("results without scores")
    scores.write_text(after)
    commit("scores")
    complete = git("rev-parse", "HEAD")
    (Path("README")).write_text("moves on")
    write_params(0.75)
    commit("other params")
    checkout.main(PARAMS, model)
    assert git("rev-parse", "HEAD") == complete
    assert scores.read_text() == after
    assert "dvc repro has nothing to do." in capsys.readouterr().out


def test_a_commit_whose_outs_are_here_is_found_behind_many_that_share_its_result(runs, capsys):
    model, _ = repro(0.5)
    lock = Path("dvc.lock").read_text()
    outs = yaml.safe_load(lock)["stages"]["train@v3"]["outs"]
    (pace,) = (out["md5"] for out in outs if out["path"].endswith("pace.json"))
    for number in range(9):
        Path("dvc.lock").write_text(lock.replace(pace, f"a{number}" * 16))
        commit("the same checkpoint, made in another time")
    Path("dvc.lock").write_text(lock)
    commit("whole")
    whole = git("rev-parse", "HEAD")
    write_params(0.75)
    commit("other params")
    checkout.main(PARAMS, model)
    assert git("rev-parse", "HEAD") == whole
    assert "dvc repro has nothing to do." in capsys.readouterr().out


def test_head_is_searched_however_many_commits_hold_a_run(runs, capsys):
    scores = Path("metrics/v3/scores.json")
    before = scores.read_text()
    model, _ = repro(0.5)
    after = scores.read_text()
    scores.write_text(before)
    for number in range(9):
        PARAMS.write_text(f"{PARAMS.read_text()}# {number}\n")
        commit("results without scores")
    scores.write_text(after)
    commit("scores")
    complete = git("rev-parse", "HEAD")
    checkout.main(PARAMS, model)
    assert git("rev-parse", "HEAD") == complete
    assert "dvc repro has nothing to do." in capsys.readouterr().out


def test_outside_git_show_says_that_there_is_no_repository(runs, capsys):
    shutil.rmtree(".git")
    run("dvc", "config", "core.no_scm", "true")
    assert "here is no git repository" in shown(capsys, runs["first"][0])


@pytest.mark.parametrize("recorded", ["f" * 40, "--output=file"])
def test_a_commit_that_is_not_in_this_repository_is_told(runs, capsys, recorded):
    store.open_client().set_tag(runs["never"][0], "git.commit", recorded)
    text = shown(capsys, runs["never"][0])
    assert f"Nor is commit {recorded[:12]} here, on which it was made.\n" in text
    assert not Path("file").exists()
