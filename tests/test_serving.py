"""Servable models: what a request may hold, what MLflow keeps, and a real server that answers."""

import ast
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stores
import synthetic
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from bench import servers
from pipeline import label_map, splits
from pipeline.inference import predict
from pipeline.model import checkpoints, deeplab
from pipeline.serving import images, network
from pipeline.splits import Split, checked_sample
from pipeline.tracking import registry, servable, store
from stages import publish

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
MULTI_SCALE = {"scales": [0.5, 1.0, 1.25], "flip": True}


def write_checkpoint(path, seed=1, **changes):
    described = synthetic.network(**changes)
    model = deeplab.build(described, num_classes=3, output_stride=16, seed=seed)
    synthetic.scramble_batch_norm(model)
    with torch.no_grad():
        model.classifier.weight *= 30
    checkpoints.save(path, model, described, synthetic.CLASSES)


def scene(height, width, seed=0):
    return synthetic.scene(np.random.default_rng(seed), height, width)[0]


def base64_of(encoded):
    return base64.b64encode(encoded).decode("ascii")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "small.safetensors"
    write_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def served(checkpoint):
    return network.load(checkpoint, synthetic.inference(), max_side=2049)


# What a request may hold


PIXELS = scene(7, 9)
PNG = synthetic.png(PIXELS)


@pytest.mark.parametrize(
    "request_",
    [
        PIXELS,
        PNG,
        base64_of(PNG),
        np.array(base64_of(PNG)),
        PIXELS.astype(np.int64),
        {"image": PNG},
        {"image": PIXELS},
    ],
    ids=["array", "bytes", "base64", "text array", "integers", "dictionary", "array in one"],
)
def test_one_picture_is_one_in_every_form(request_):
    found, is_one = images.read(request_)
    assert is_one
    assert [image.tolist() for image in found] == [PIXELS.tolist()]


@pytest.mark.parametrize(
    "request_",
    [
        [PIXELS, scene(4, 5, seed=1)],
        [PNG, synthetic.png(scene(4, 5, seed=1))],
        {"image": [PNG, synthetic.png(scene(4, 5, seed=1))]},
        np.array([base64_of(PNG), base64_of(synthetic.png(scene(4, 5, seed=1)))]),
        pd.DataFrame({"image": [base64_of(PNG), base64_of(synthetic.png(scene(4, 5, seed=1)))]}),
        pd.Series([PNG, synthetic.png(scene(4, 5, seed=1))]),
        [PIXELS.tolist(), scene(4, 5, seed=1).tolist()],
    ],
    ids=["arrays", "bytes", "dictionary", "text array", "DataFrame", "Series", "nested lists"],
)
def test_several_pictures_may_have_several_sizes(request_):
    found, is_one = images.read(request_)
    assert not is_one
    assert [image.shape for image in found] == [(7, 9, 3), (4, 5, 3)]
    assert np.array_equal(found[0], PIXELS)


def test_a_batch_of_one_is_answered_as_a_batch():
    assert images.read(PIXELS[None])[1] is False


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ([], "expected at least one image, found none"),
        (None, "expected an image or a list of images, found nothing"),
        (b"no picture", "the image: not a readable picture: none of JPEG, PNG, "),
        ([PNG, PNG[:50]], "image 1: not a readable picture"),
        ("no base64!", "the image: not base64 text"),
        (PIXELS[:, :, 0], "the image: expected shape (H, W, 3), found (7, 9)"),
        (PIXELS[:0], "the image: expected shape (H, W, 3), found (0, 9, 3)"),
        (PIXELS / 255, "the image: expected integers in 0..255, found float64"),
        (PIXELS.astype(np.int16) - 300, "the image: expected integers in 0..255, found -"),
        ([[[1, 2, 3], [4, 5]]], "image 0: "),
        ([7], "image 0: expected pixels or an encoded image, found int"),
        ({"picture": PNG}, "expected 'image' alone, found 'picture'"),
        ({}, "expected 'image' alone, found nothing"),
        (pd.DataFrame({"image": [PNG], "name": ["a"]}), "found 'image', 'name'"),
    ],
)
def test_a_mistake_in_a_request_is_named(request_, said):
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        images.read(request_)
    assert "\n" not in str(raised.value)


# Labels


def write_split(path, sizes):
    samples = [
        checked_sample(
            f"{number}",
            synthetic.jpeg(scene(*size, seed=number)),
            label_map.encode(np.zeros(size, np.uint8), synthetic.CLASSES),
            synthetic.CLASSES,
            "test",
        )
        for number, size in enumerate(sizes)
    ]
    splits.write(path, samples, synthetic.CLASSES)
    return Split(path)


@pytest.mark.parametrize(
    "changes", [{}, MULTI_SCALE, {"scales": [0.75]}, {"precision": "bfloat16"}], ids=str
)
def test_served_labels_are_those_of_predict(checkpoint, tmp_path, changes):
    inference = synthetic.inference(batch_size=1, **changes)
    split = write_split(tmp_path / "two.arrow", [(40, 61), (65, 33)])
    model, described, _ = checkpoints.load(checkpoint, output_stride=16)
    expected = predict.label_maps(model, described, split, inference, device=CPU)
    loaded = network.load(checkpoint, inference, max_side=2049)
    for sample, (_, label) in zip(split, expected, strict=True):
        (image,), _ = images.read(bytes(sample.image))
        assert np.array_equal(network.label(loaded, image), label)


@pytest.mark.parametrize("changes", [{}, MULTI_SCALE], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (66, 20), (20, 130), (97, 97)])
def test_a_picture_of_any_size_gets_a_label_map_of_its_own(checkpoint, size, changes):
    loaded = network.load(checkpoint, synthetic.inference(**changes), max_side=2049)
    label = network.label(loaded, scene(*size))
    assert (label.shape, label.dtype) == (size, np.uint8)


def test_a_picture_beyond_the_limit_is_shrunk_for_the_network(checkpoint):
    loaded = network.load(checkpoint, synthetic.inference(height=17, width=17), max_side=50)
    image = np.kron(scene(25, 25), np.ones((4, 4, 1), np.uint8))
    assert network.label(loaded, image).shape == (100, 100)
    assert np.array_equal(
        network.label(loaded, image)[::2, ::2].repeat(2, 0).repeat(2, 1),
        network.label(loaded, image),
    )


def test_a_png_holds_the_label_map_in_the_classes_colours(served):
    label = network.label(served, PIXELS)
    decoded = base64.b64decode(network.png(served, label))
    assert np.array_equal(label_map.decode(decoded), label)


# What MLflow keeps


@pytest.fixture
def project(tmp_path_factory, tmp_path, monkeypatch):
    stores.use_empty_store(tmp_path_factory, monkeypatch, tmp_path)
    stores.write_project(tmp_path)
    return tmp_path


def publish_all():
    publish.main(*(Path(name) for name in ("params.yaml", *stores.INPUTS)))


def versions():
    """Tags by the version's number."""
    found = registry._versions(store.open_client(), "test")
    return {str(version.version): version.tags for version in found}


def champion():
    return store.open_client().get_model_version_by_alias("test", "champion").tags["row"]


def set_miou(project, row, miou):
    path = project / f"metrics/{row}/scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"miou": miou}))


def logged():
    client = store.open_client()
    return list(client.search_logged_models([store.open_experiment(client, "test")]))


def test_each_evaluated_checkpoint_is_a_version_of_the_experiments_model(project):
    set_miou(project, "v3_flip", 0.6)
    publish_all()
    tags = versions()
    assert {number: (t["model"], t["row"], t["miou"]) for number, t in tags.items()} == {
        "1": ("v3", "v3_flip", "0.6"),
        "2": ("v3plus", "v3plus", "0.5"),
    }
    assert tags["1"]["checkpoint.md5"] == "9cbf7227fd92c4f771e09acb893ea802"
    assert champion() == "v3_flip"


def test_a_logged_model_shows_its_rows_scores_without_a_second_point_in_the_run(project):
    publish_all()
    model = next(model for model in logged() if model.name == "v3plus")
    run = stores.one_run("evaluate@v3plus")
    shown = {(m.key, m.value, m.dataset_name, m.run_id) for m in model.metrics}
    assert ("score/miou", 0.5, "data/val.arrow", run.info.run_id) in shown
    assert stores.curve(run, "score/miou") == [(0, 0.5)]
    assert stores.one_run("train@v3plus").outputs.model_outputs[0].model_id == model.model_id
    used = store.open_client().get_run(run.info.run_id).inputs.model_inputs
    assert [one.model_id for one in used] == [model.model_id]


def test_equal_bytes_under_two_keys_are_one_model(project):
    (project / "checkpoints/v3plus.safetensors").write_text("v3 0.05")
    publish_all()
    publish_all()
    assert len(logged()) == len(versions()) == 1


def test_publishing_twice_adds_neither_model_nor_version_nor_metric(project):
    publish_all()
    before = [(model.model_id, len(model.metrics)) for model in logged()]
    publish_all()
    assert [(model.model_id, len(model.metrics)) for model in logged()] == before
    assert list(versions()) == ["1", "2"]


def test_a_changed_score_is_of_other_code_and_adds_a_version_that_may_be_champion(project, capsys):
    publish_all()
    assert champion() == "v3"  # of equal ones the first
    set_miou(project, "v3plus", 0.75)
    capsys.readouterr()
    publish_all()
    assert champion() == "v3plus"
    assert [tags["miou"] for tags in versions().values()] == ["0.5", "0.5", "0.75"]
    said = "MLflow: models:/test@champion is version 3, mIoU 0.7500 on data/val.arrow\n"
    assert capsys.readouterr().err == said


def test_a_score_that_was_too_high_is_superseded_by_the_next(project):
    set_miou(project, "v3plus", 0.9)
    publish_all()
    assert champion() == "v3plus"
    set_miou(project, "v3plus", 0.4)  # of a v3 with 0.5
    publish_all()
    assert champion() == "v3"


def test_a_score_is_superseded_when_another_row_serves_its_checkpoint(project):
    set_miou(project, "v3plus", 0.3)
    set_miou(project, "v3_flip", 0.9)
    publish_all()
    assert champion() == "v3_flip"
    set_miou(project, "v3_flip", 0.4)  # v3, of the same checkpoint, has 0.5
    publish_all()
    assert champion() == "v3"


def test_a_model_whose_files_are_lost_has_them_again(project):
    publish_all()
    shutil.rmtree(project / "mlartifacts")
    publish_all()
    client = store.open_client()
    assert all(client.list_logged_model_artifacts(model.model_id) for model in logged())
    assert len(logged()) == len(versions()) == 2


def test_a_run_that_is_made_again_is_linked_to_its_model(project):
    publish_all()
    store.open_client().delete_run(stores.one_run("train@v3plus").info.run_id)
    publish_all()
    model = next(model for model in logged() if model.name == "v3plus")
    outputs = stores.one_run("train@v3plus").outputs.model_outputs
    assert [one.model_id for one in outputs] == [model.model_id]


def test_a_second_training_adds_a_version_and_the_best_of_all_stays_champion(project):
    set_miou(project, "v3", 0.9)
    publish_all()
    stores.write_project(project, learning_rate=0.1)
    publish_all()
    assert [tags["model"] for tags in versions().values()] == ["v3", "v3plus", "v3"]
    current = store.open_client().get_model_version_by_alias("test", "champion")
    assert (str(current.version), current.tags["miou"]) == ("1", "0.9")


def test_scores_on_other_data_are_not_compared(project):
    set_miou(project, "v3", 0.9)
    publish_all()
    synthetic.write_split(project / "data/val.arrow", [(20, 30)] * 3)
    stores.write_project(project, learning_rate=0.1)
    set_miou(project, "v3plus", 0.6)
    synthetic.write_split(project / "data/val.arrow", [(20, 30)] * 3)
    publish_all()
    assert champion() == "v3plus"


# Of MlflowClient, in the order in which a publish with new models calls them.
WRITES = [
    "create_logged_model",
    "log_model_artifacts",
    "log_outputs",
    "log_inputs",
    "finalize_logged_model",
    "log_batch",
    "create_registered_model",
    "create_model_version",
    "set_logged_model_tags",
    "set_registered_model_alias",
]


def in_the_store():
    """Models with their runs, links and versions, as comparable text: whatever can be doubled."""
    client = store.open_client()
    runs = {run.info.run_name: client.get_run(run.info.run_id) for run in stores.all_runs()}
    names = {model.model_id: model.name for model in logged()}
    return (
        sorted((m.name, m.status.name, sorted(p.key for p in m.metrics)) for m in logged()),
        {
            name: [names[one.model_id] for one in r.outputs.model_outputs]
            for name, r in runs.items()
        },
        {name: [names[one.model_id] for one in r.inputs.model_inputs] for name, r in runs.items()},
        {number: (tags["model"], names[tags["model_id"]]) for number, tags in versions().items()},
        champion(),
    )


def fail(monkeypatch, method, *, late):
    """Lets the first call of a method fail: before the store has it, or its answer get lost."""
    original = getattr(MlflowClient, method)

    def failing(*arguments, **options):
        metrics = options.get("metrics", [])
        if method == "log_batch" and not any(metric.model_id for metric in metrics):
            return original(*arguments, **options)
        monkeypatch.setattr(MlflowClient, method, original)
        if late:
            original(*arguments, **options)
        raise MlflowException("the store is gone", TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(MlflowClient, method, failing)


def test_a_store_that_fails_at_any_call_has_nothing_twice_in_the_end(project, monkeypatch):
    shutil.copy("mlflow.db", "failing.db")
    publish_all()
    expected = in_the_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/failing.db")
    for method in WRITES:
        for late in (False, True):
            fail(monkeypatch, method, late=late)
            with pytest.raises(ConnectionError, match="the store is gone"):
                publish_all()
    publish_all()
    assert in_the_store() == expected


def test_a_model_that_a_publish_left_unfinished_is_finished_in_its_place(project, monkeypatch):
    fail(monkeypatch, "log_model_artifacts", late=True)
    with pytest.raises(ConnectionError, match="the store is gone"):
        publish_all()
    (left,) = logged()
    publish_all()
    assert {model.status.name for model in logged()} == {"READY"}
    assert left.model_id in {model.model_id for model in logged()}
    assert len(logged()) == 2


def test_what_two_machines_registered_at_the_same_moment_is_there_once_afterwards(project):
    publish_all()
    expected = in_the_store()
    client, model = store.open_client(), logged()[0]
    tags = {name: value for name, value in model.tags.items() if not name.startswith("mlflow.")}
    second = client.create_logged_model(
        "1", name=model.name, tags=tags, source_run_id=model.source_run_id
    )
    client.finalize_logged_model(second.model_id, "READY")
    tags |= {"model_id": second.model_id, "miou": "0.5"}
    with registry._as_default():
        client.create_model_version("test", f"models:/{second.model_id}", tags=tags)
    assert len(versions()) == 3
    publish_all()
    assert in_the_store() == expected


def test_a_model_that_a_person_deleted_is_made_again_and_its_version_with_it(project):
    publish_all()
    store.open_client().delete_logged_model(logged()[0].model_id)
    publish_all()
    assert len(logged()) == len(versions()) == 2
    assert {tags["model_id"] for tags in versions().values()} == {m.model_id for m in logged()}


def test_a_model_says_on_its_page_that_it_is_registered(project):
    publish_all()
    shown = {m.name: json.loads(m.tags["mlflow.modelVersions"]) for m in logged()}
    assert shown == {
        "v3": [{"name": "test", "version": "1"}],
        "v3plus": [{"name": "test", "version": "2"}],
    }


def test_an_experiment_in_a_temporary_checkout_registers_in_the_main_repositorys_store(
    project, tmp_path, monkeypatch
):
    checkout = project / "checkout"
    checkout.mkdir()
    stores.write_project(checkout)
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(checkout)
    publish_all()
    assert len(versions()) == 2
    assert not (checkout / "mlflow.db").exists()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_store_without_a_registry_gets_the_runs_and_one_line_is_said(
    project, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "nowhere://registry")
    publish_all()
    assert len(stores.all_runs()) == len(stores.NAMES)
    said = capsys.readouterr().err
    assert said.startswith("MLflow: runs are published, models are not: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["team/voc", "a:b", "it's", "100%"])
def test_an_experiment_of_any_name_has_a_registered_model(name):
    assert not re.search(r"[/:'\"%]", registry.registered_name(name))


def imported_by_serving(path, seen):
    """All modules outside the project that a file imports, and that the project's it imports do."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            file = ROOT / Path(*name.split(".")).with_suffix(".py")
            if name.startswith("pipeline") and file.is_file() and file not in seen:
                seen.add(file)
                found |= imported_by_serving(file, seen)
            elif not name.startswith("pipeline"):
                found.add(name.split(".")[0])
    return found


def test_the_code_inside_is_what_serving_imports_no_more_and_no_less():
    seen = set()
    imported_by_serving(ROOT / "pipeline/tracking/served_model.py", seen)
    parts = {file.relative_to(ROOT / "pipeline").parts[0] for file in seen}
    assert parts | {"__init__.py"} == set(servable.CODE)


def test_the_stated_requirements_are_what_serving_imports_no_more_and_no_less():
    names = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}
    imported = imported_by_serving(ROOT / "pipeline/tracking/served_model.py", set())
    stated = {names.get(name, name) for name in servable.PACKAGES}
    assert imported - set(sys.stdlib_module_names) == stated


def test_requirements_are_the_locks_and_name_no_index():
    lock = (ROOT / "requirements.lock").read_text()
    for requirement in servable.requirements():
        assert re.fullmatch(r"[a-z-]+==[0-9.]+", requirement)
        assert re.search(rf"^{re.escape(requirement)}\s", lock, re.MULTILINE), requirement


# A model that is loaded elsewhere, and served


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A store with a champion that computes, and the label map that it should give."""
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        stores.use_empty_store(tmp_path_factory, patch, folder)
        patch.setitem(stores.ROW, "inference", synthetic.INFERENCE)
        stores.write_project(folder)
        for seed, key in enumerate(("v3", "v3plus")):
            write_checkpoint(folder / f"checkpoints/{key}.safetensors", seed)
        publish_all()
    loaded = network.load(
        folder / "checkpoints/v3.safetensors", synthetic.inference(), max_side=2049
    )
    return folder, network.label(loaded, scene(40, 61))


def elsewhere(folder, tmp_path):
    """An environment that does not know where this repository is."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DVC_ROOT")}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return {"env": environment, "cwd": tmp_path}


LOAD = """
import numpy, sys, mlflow
model = mlflow.pyfunc.load_model("models:/test@champion")
one = model.predict(numpy.load("image.npy"))
many = model.predict([open("image.png", "rb").read()], params={"encoding": "png"})
assert isinstance(many, list) and many[0].startswith("iVBOR"), many
import pipeline
print(pipeline.__file__)
numpy.save("label.npy", one)
"""


def test_what_is_kept_holds_no_pickle_and_no_path_of_this_machine(registered):
    folder, _ = registered
    there = [path for path in (folder / "mlartifacts").rglob("*") if path.is_file()]
    kept = [path for path in there if path.parent.name != "__pycache__"]  # of a model in use
    assert {path.name for path in kept} >= {"served_model.py", "v3.safetensors", "MLmodel"}
    assert not [path for path in kept if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    for path in kept:
        if path.name in ("MLmodel", "requirements.txt", "conda.yaml", "python_env.yaml"):
            text = path.read_text()
            assert str(ROOT) not in text
            assert "http" not in text


@contextlib.contextmanager
def model_server(folder, tmp_path):
    port = servers.free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/test@champion"]
    command += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **elsewhere(folder, tmp_path),
        )
        try:
            servers.wait_until_ready(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(server.pid, 15)
            server.wait()


def ask(address, body):
    """The status and the answer, as JSON."""
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_server_answers_pictures_in_json_and_says_what_is_wrong_in_a_line(registered, tmp_path):
    folder, label = registered
    text = base64_of(synthetic.png(scene(40, 61)))
    small = base64_of(PNG)
    with model_server(folder, tmp_path) as address:
        status, answer = ask(address, {"dataframe_split": {"columns": ["image"], "data": [[text]]}})
        assert (status, answer["predictions"]) == (200, [label.tolist()])
        status, answer = ask(address, {"inputs": [text, small], "params": {"encoding": "png"}})
        decoded = [label_map.decode(base64.b64decode(one)) for one in answer["predictions"]]
        assert np.array_equal(decoded[0], label)
        assert decoded[1].shape == (7, 9)
        status, answer = ask(address, {"inputs": {"image": [small]}})
        assert np.array(answer["predictions"]).shape == (1, 7, 9)
        status, answer = ask(address, {"inputs": PIXELS.tolist()})
        assert np.array(answer["predictions"]).shape == (7, 9)
        example = next((folder / "mlartifacts").rglob("serving_input_example.json"))
        assert ask(address, json.loads(example.read_text()))[0] == 200
        bad = ask(address, {"dataframe_split": {"columns": ["image"], "data": [["no picture"]]}})
        wrong = ask(address, {"inputs": [text], "params": {"encoding": "jpeg"}})
    assert bad[0] == wrong[0] == 400
    assert bad[1] == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "image 0: not base64 text: Only base64 data is allowed",
    }
    assert wrong[1]["message"] == "encoding: 'jpeg' is not one of array, png"


def test_a_tracking_server_hands_the_model_out_to_where_the_repository_is_not(
    registered, tmp_path_factory, tmp_path, monkeypatch
):
    folder, label = registered
    there = tmp_path / "server"
    there.mkdir()
    shutil.copy(stores.empty_store(tmp_path_factory) / "mlflow.db", there)
    shutil.copytree(folder, tmp_path / "project", ignore=shutil.ignore_patterns("ml*"))
    np.save(tmp_path / "image.npy", scene(40, 61))
    (tmp_path / "image.png").write_bytes(PNG)
    port = servers.free_port()
    monkeypatch.chdir(tmp_path / "project")
    with servers.mlflow_server(there, port):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:pass-word@127.0.0.1:{port}")
        publish_all()
        publish_all()
        assert [tags["model"] for tags in versions().values()] == ["v3", "v3plus"]
        place = elsewhere(folder, tmp_path)
        place["env"]["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-I", "-c", LOAD]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **place)
        kept = [path for path in there.rglob("*") if path.is_file()]
        assert len(kept) > 80
        assert not [path for path in kept if b"pass-word" in path.read_bytes()]
    assert done.returncode == 0, done.stderr
    assert not done.stdout.splitlines()[-1].startswith(str(ROOT))
    assert np.array_equal(np.load(tmp_path / "label.npy"), label)
