"""DVC's experiments, here, in a temporary checkout and in its queue: each state has its runs once.

One clone lives through the whole story, in the order of the tests; a clone of it ends the story.
"""

import copy
import hashlib
import re
import shutil
import time

import pytest
import yaml
from clones import ROOT, Clone

ROW = "v3_os16 (Table 3)"


def _shrink(params):
    del params["models"]["v3plus"], params["rows"]["v3plus_os16"]
    params["models"]["v3"]["training"]["max_iterations"] = 6
    params["models"]["v3"]["validation"]["every_iterations"] = 3
    params["rows"]["v3_os16"]["evaluation"]["resamples"] = 100


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone whose first results are committed."""
    clone = Clone(tmp_path_factory.mktemp("experiments"))
    clone.change_params(_shrink)
    clone.repro()
    commit(clone, "results")
    return clone


def commit(clone, message):
    clone.run("git add -A")
    clone.run(f"git commit -q -m {message}")


def names(clone):
    return sorted(run.info.run_name for run in clone.mlflow_runs()[1])


def run_named(clone, name):
    (run,) = [run for run in clone.mlflow_runs()[1] if run.info.run_name == name]
    return run


def curves(clone, run):
    """(step, value) of each point of each metric, as logged: what is there twice is here twice."""
    client, _ = clone.mlflow_runs()
    histories = {
        name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics
    }
    return {name: sorted((p.step, p.value) for p in points) for name, points in histories.items()}


def dump(clone):
    """Everything that the store shows, to the last byte."""
    client, runs = clone.mlflow_runs()
    files = sorted(path for path in (clone.folder / "mlartifacts").rglob("*") if path.is_file())
    points = [
        [
            (name, p.step, p.value, p.timestamp)
            for p in client.get_metric_history(run.info.run_id, name)
        ]
        for run in runs
        for name in run.data.metrics
    ]
    shown = [run.to_dictionary() for run in runs]
    return shown, points, [(path, hashlib.sha256(path.read_bytes()).digest()) for path in files]


def tracking(clone, module, name):
    """`make show` and `make checkout`, without make's setup."""
    return clone.run(f"python -m pipeline.tracking.{module} params.yaml {name}")


def test_an_experiment_here_has_a_run_of_the_row_that_it_changes(clone):
    clone.run("dvc exp run -n flip -S rows.v3_os16.inference.flip=true")
    assert names(clone) == ["train@v3", ROW, f"{ROW} flip"]
    run = run_named(clone, f"{ROW} flip")
    assert run.data.params["inference.flip"] == "true"
    assert run.data.tags["dvc.experiment"] == "flip"


def test_a_state_that_is_reverted_has_no_second_run(clone):
    clone.run("git checkout -q params.yaml")
    executed, _ = clone.repro()
    assert not [name for name in executed if name.startswith(("train", "predict"))]
    assert names(clone) == ["train@v3", ROW, f"{ROW} flip"]
    assert clone.run("git status --porcelain") == ""


def test_the_same_state_in_a_temporary_checkout_has_no_second_run(clone):
    clone.run("dvc exp run --temp -n again -S rows.v3_os16.inference.flip=true")
    assert names(clone) == ["train@v3", ROW, f"{ROW} flip"]


@pytest.fixture(scope="module")
def queued(clone):
    """Two trainings at once, each in a checkout of its own."""
    for seed in (2, 3):
        clone.run(f"dvc exp run --queue -n seed{seed} -S models.v3.training.seed={seed}")
    clone.run("dvc queue start -j 2")
    try:
        _wait_for_experiments(clone, {"seed2", "seed3"}, seconds=400)
    finally:
        clone.run("dvc queue stop --kill")
    return {name: run_named(clone, f"train@v3 {name}") for name in ("seed2", "seed3")}


def _wait_for_experiments(clone, wanted, seconds):
    """`dvc queue status` would read the messages of the workers, which do not stand that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        refs = clone.run("git for-each-ref --format=%(refname:lstrip=-1) refs/exps")
        if wanted <= set(refs.split()):
            return
        time.sleep(1)
    logs = (clone.folder / ".dvc/tmp/exps").rglob("*.out")
    raise TimeoutError("\n".join(log.read_text()[-3000:] for log in logs))


def test_queued_experiments_at_once_have_their_runs_once_each(clone, queued):
    added = [f"{stage} seed{seed}" for stage in (ROW, "train@v3") for seed in (2, 3)]
    assert names(clone) == sorted([ROW, f"{ROW} flip", "train@v3", *added])
    assert {run.info.status for run in clone.mlflow_runs()[1]} == {"FINISHED"}


def test_queued_experiments_show_their_own_params_and_names(clone, queued):
    for seed in (2, 3):
        run, row = queued[f"seed{seed}"], run_named(clone, f"{ROW} seed{seed}")
        assert run.data.params["training.seed"] == str(seed)
        assert row.data.params["model.training.seed"] == str(seed)
        assert run.data.tags["dvc.experiment"] == row.data.tags["dvc.experiment"] == f"seed{seed}"


def test_the_live_run_of_a_queued_training_is_the_published_one(clone, queued):
    for run in queued.values():
        assert "live.process" in run.data.tags
        assert "dvc.md5/checkpoints/v3.safetensors" in run.data.tags
        assert [step for step, _ in curves(clone, run)["train/loss"]] == [0, 1, 2, 3, 4, 5]


def test_an_applied_experiment_comes_from_the_cache_and_has_no_second_run(clone, queued):
    before = dump(clone)
    clone.run("dvc exp apply seed2")
    seed = yaml.safe_load((clone.folder / "params.yaml").read_text())["models"]["v3"]["training"]
    assert seed["seed"] == 2
    assert clone.repro() == (set(), set())
    assert dump(clone) == before
    clone.run("git reset -q --hard")
    clone.run("dvc checkout -q")


def test_the_state_of_a_queued_experiment_comes_back_and_nothing_is_executed(clone, queued):
    shown = tracking(clone, "show", queued["seed3"].info.run_id)
    assert "\nstate\n  DVC experiment seed3, commit " in shown
    md5 = queued["seed3"].data.tags["dvc.md5/checkpoints/v3.safetensors"]
    tracking(clone, "checkout", queued["seed3"].info.run_id)
    checkpoint = (clone.folder / "checkpoints/v3.safetensors").read_bytes()
    assert hashlib.md5(checkpoint).hexdigest() == md5
    assert clone.repro() == (set(), set())
    clone.run("git checkout -q -")
    clone.run("dvc checkout -q")
    assert clone.repro() == (set(), set())


def test_a_new_clone_fills_an_empty_store_from_what_it_pulls(clone, queued, tmp_path):
    add = "dvc remote add --quiet --default --local shelf"
    clone.run(f"{add} {tmp_path / 'shelf'}")
    clone.run("dvc push -q")
    other = copy.copy(clone)
    other.folder = tmp_path / "other"
    clone.run(f"git clone -q . {other.folder}")
    other.run(f"{add} {tmp_path / 'shelf'}")
    other.run("dvc pull -q")
    shutil.rmtree(other.folder / "archives")  # to save room
    publish = re.search(r"^publish:.*\n\t@(.*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert "left out" not in other.run(publish)
    assert names(other) == ["train@v3", ROW]
    for name in names(other):
        ours, theirs = run_named(clone, name), run_named(other, name)
        assert theirs.data.params == ours.data.params
        assert curves(other, theirs) == _of_any_machine(curves(clone, ours))
        assert _told(theirs) == _told(ours)
    before = dump(other)
    other.run(publish)
    assert dump(other) == before
    other.run("dvc checkout -q")
    assert other.repro() == (set(), set())


def _of_any_machine(found):
    """Without how busy the machine was, which only those see who watched the training live."""
    return {name: points for name, points in found.items() if not name.startswith("system/")}


def _told(run):
    """Tags that are the same in every store: those of the run's moment, place and links are not."""
    local = ("mlflow.", "git.", "live.")
    return {name: value for name, value in run.data.tags.items() if not name.startswith(local)}
