"""dvc.yaml is true, and imports point downward."""

import ast
import functools
import re
import shlex
from pathlib import Path

import pytest
import yaml

from pipeline import label_folder
from pipeline.experiment import Experiment
from stages import train

ROOT = Path(__file__).parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PREDICT = "stages/predict.py"
# The window on the pipeline, which no number depends on: the only code that is no dep.
WINDOW = "pipeline/tracking"
LEVELS = [
    {
        "cityscapes",
        "classes",
        "coco",
        "command",
        "devices",
        "experiment",
        "export_split",
        "files",
        "label_map",
        "paper",
        "parallel",
        "params",
        "pixels",
        "revision",
        "scratch",
        "sources",
        "splits",
        "summary",
        "voc",
    },
    {"originals", "data", "model", "evaluation", "report"},
    {"training", "inference", "importing", "cost", "submission", "drop_classifier"},
    {"label_folder", "pictures"},
    {"serving"},
    {"tracking"},
    {"exporting"},
]


def stage(name):
    return STAGES[name].get("do", STAGES[name])


def entries(name, section):
    return [next(iter(e)) if isinstance(e, dict) else e for e in stage(name).get(section, [])]


def outs(name):
    return [out for section in ("outs", "metrics", "plots") for out in entries(name, section)]


def is_code(path):
    return path.startswith(("pipeline/", "stages/"))


def python_files(path):
    """The modules that a dep holds; a package's __init__.py is one docstring."""
    files = [ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py")
    return {str(f.relative_to(ROOT)) for f in files if f.name != "__init__.py"}


@functools.cache
def imported_files(path):
    """Project modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            file = Path(*name.split(".")).with_suffix(".py")
            if is_code(str(file)) and (ROOT / file).is_file():
                found.add(str(file))
    return found


def import_closure(path):
    closure, unread = set(), {path}
    while unread:
        file = unread.pop()
        closure.add(file)
        unread |= {f for f in imported_files(file) if not f.startswith(WINDOW)} - closure
    return closure


# Code that moves bytes about and computes none of them.
PLUMBING = {f"pipeline/{name}.py" for name in ("command", "files", "params", "scratch")}


@pytest.mark.parametrize(
    ("name", "code", "other"),
    [("train", train._CODE, PLUMBING), ("predict", label_folder._CODE, PLUMBING | {PREDICT})],
)
def test_what_was_interrupted_goes_on_under_the_same_code_alone(name, code, other):
    assert set(code) == {dep for dep in entries(name, "deps") if is_code(dep)} - other


def parameters_read(name):
    """The params sections a stage loads, an f-string's {key} written as dvc.yaml's ${key}."""
    sections = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{name}.py").read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        function = ast.unparse(node.func)
        if function == "params.load":
            section = node.args[1]
            text = (
                section.value if isinstance(section, ast.Constant) else ast.unparse(section)[2:-1]
            )
            sections.add(text.replace("{key}", "${key}"))
        elif function == "experiment.load":
            sections |= set(Experiment.model_fields)
    return sections


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_exactly_the_code_it_imports(name):
    declared = [python_files(path) for path in entries(name, "deps") if is_code(path)]
    assert set().union(*declared) == import_closure(f"stages/{name}.py")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_exactly_the_params_it_loads(name):
    assert set(stage(name).get("params", [])) == parameters_read(name)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_handed_every_path_it_reads_or_writes(name):
    files = [path for path in entries(name, "deps") if not is_code(path)] + outs(name)
    assert set(files) <= set(shlex.split(stage(name)["cmd"]))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_the_module_of_its_own_name(name):
    assert stage(name)["cmd"].startswith(f"python -m stages.{name} ")


@pytest.mark.parametrize("name", STAGES)
def test_a_description_fits_a_table_of_contents(name):
    assert 0 < len(stage(name)["desc"]) <= 60


def test_only_publish_has_no_outs_but_the_check_before_anything_runs():
    assert [name for name in STAGES if not outs(name)] == ["check", "publish"]


def test_what_is_in_metrics_is_kept_in_git():
    for name in STAGES:
        for section in ("outs", "metrics", "plots"):
            for entry in stage(name).get(section, []):
                path, options = (
                    next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
                )
                assert path.startswith("metrics/") == (options.get("cache") is False), path


def test_scores_alone_are_the_columns_of_dvcs_table_of_experiments():
    listed = {path for name in STAGES for path in entries(name, "metrics")}
    assert listed == {"metrics/${key}/scores.json"}


@pytest.mark.parametrize("path", sorted(python_files("pipeline")))
def test_imports_point_downward(path):
    """A config module may be imported from below its level: it is a description, not code."""
    part = Path(path).relative_to("pipeline").parts[0].removesuffix(".py")
    level = next(i for i, parts in enumerate(LEVELS) if part in parts)
    for imported in imported_files(path):
        other = Path(imported).relative_to("pipeline").parts[0].removesuffix(".py")
        if other == part or imported.endswith("/config.py"):
            continue
        other_level = next(i for i, parts in enumerate(LEVELS) if other in parts)
        assert other_level < level or level == other_level == 0, f"{path} imports {imported}"


def test_no_part_of_the_pipeline_knows_a_stage():
    for path in python_files("pipeline"):
        assert not [f for f in imported_files(path) if f.startswith("stages/")], path


def test_mlflow_is_imported_by_the_window_alone():
    for path in python_files("pipeline") | python_files("stages"):
        if not path.startswith(WINDOW):
            assert not re.search(r"^\s*(import|from) mlflow", (ROOT / path).read_text(), re.M), path


def test_training_and_evaluation_do_not_know_each_other():
    for path in python_files("pipeline/training"):
        assert not [f for f in import_closure(path) if f.startswith("pipeline/evaluation")]
    for path in python_files("pipeline/evaluation"):
        closure = import_closure(path)
        assert not [f for f in closure if f.startswith(("pipeline/training", "pipeline/model"))]
