"""Two saved views of an experiment in MLflow's pages: its rows by score, and its models' curves.

Without them the pages show no score in the table, and a chart of each class before any other. A
view is a tag of the experiment, in the form in which the pages themselves save one (MLflow 3.17).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient

from pipeline.tracking import identity

_TAG = "mlflow.sharedViewState."
_KIND = "mlflow.experimentKind"

# Time stamp of views that we saved; the pages write the current time when a person edits one.
_OURS = 0
# The pages open as for language models unless their address has this.
_WORKFLOW = "workflowType=machine_learning"

# Columns of the table of rows, and their widths in pixels, in which no name is cut off: the result
# first, then what it is of, then what it cost. Those up to the params fit on a screen 1600 wide.
_ROW_COLUMNS = {
    "metrics.`score/miou`": 105,
    "metrics.`score/paper_miou`": 122,
    "metrics.`score/difference`": 122,
    "tags.`backbone`": 85,
    "tags.`decoder`": 72,
    "tags.`output_stride.training`": 145,
    "tags.`output_stride.evaluation`": 154,
    "params.`inference.scales`": 115,
    "params.`inference.flip`": 98,
    "metrics.`cost/billion_multiply_adds`": 175,
    "tags.`table`": 75,
    "tags.`dvc.experiment`": 130,
}
_MODEL_COLUMNS = {
    "metrics.`best/miou`": 100,
    "metrics.`val/miou`": 100,
    "metrics.`train/loss`": 100,
    "tags.`backbone`": 85,
    "tags.`decoder`": 72,
    "params.`training.max_iterations`": 160,
    "params.`training.base_learning_rate`": 180,
    "params.`training.seed`": 98,
    "params.`data`": 165,
    "tags.`output_stride.training`": 145,
    "metrics.`cost/training_hours`": 140,
    "metrics.`cost/images_per_second`": 160,
    "tags.`dvc.experiment`": 130,
}
# Columns that are always there: a run's name, which has a row's key, its table and an experiment,
# and when it was created.
_FIXED = {"attributes.`Run Name`": 245, "runDateAndNestInfo": 130}

_LINE: dict[str, Any] = {
    "lineSmoothness": 0,
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "range": {},
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def save(client: MlflowClient, experiment_id: str) -> None:
    """Saves the views, and says that the experiment is one of trainings.

    A view that a person has changed, and a kind or description that a person has given, stay.
    """
    there = client.get_experiment(experiment_id).tags
    links = [f"[{view}]({address(experiment_id, view)})" for view in _VIEWS]
    wanted = {_KIND: "custom_model_development", identity.NOTE: f"Views: {', '.join(links)}."}
    missing = {name: value for name, value in wanted.items() if name not in there}
    for view, layout in _VIEWS.items():
        saved = {"name": view.capitalize(), "createdAt": _OURS, "updatedAt": _OURS}
        value = json.dumps({**saved, "state": json.dumps(layout)})
        if there.get(_TAG + view) != value and _is_ours(there.get(_TAG + view)):
            missing[_TAG + view] = value
    for name, value in missing.items():
        client.set_experiment_tag(experiment_id, name, value)


def _is_ours(saved: str | None) -> bool:
    """Whether a view is as some version of this module saved it, or is not there."""
    if saved is None:
        return True
    try:
        return bool(json.loads(saved)["updatedAt"] == _OURS)
    except (ValueError, KeyError, TypeError):
        return False


def address(experiment_id: str, view: str = "rows") -> str:
    """Where an experiment's rows are in MLflow's pages, or its models."""
    return f"#/experiments/{experiment_id}/runs?{_WORKFLOW}&viewStateShareKey={view}"


def run_address(experiment_id: str, run_id: str) -> str:
    """Where a run is in MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"


def _rows() -> dict[str, Any]:
    charts = [
        _chart("BAR", "score/miou"),
        _line("trimap/miou"),
        _scatter("cost/billion_multiply_adds", "score/miou"),
    ]
    sections = ("score", "trimap", "cost", "iou")
    return _view("row", "metrics.`score/miou`", _ROW_COLUMNS, sections, charts)


def _models() -> dict[str, Any]:
    charts = [_line("val/miou"), _line("train/loss"), _line("train/learning_rate")]
    sections = ("cost", "system")
    return _view("model", "attributes.start_time", _MODEL_COLUMNS, sections, charts)


def _view(
    kind: str,
    order: str,
    columns: Mapping[str, int],
    sections: Sequence[str],
    charts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "searchFilter": f"tags.kind = '{kind}'",
        "orderByKey": order,
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": [*_FIXED, *columns],
        "columnWidths": {**_FIXED, **columns},
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name not in _FOLDED, "isGenerated": True}
            for name in (_FIRST, *sections)
        ],
        "compareRunCharts": list(charts),
    }


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return {**_chart("SCATTER", y), "uuid": f"{y} by {x}", **axes}


def _line(metric: str) -> dict[str, Any]:
    return {**_chart("LINE", metric), **_LINE}


def _chart(type_: str, metric: str) -> dict[str, Any]:
    return {
        "type": type_,
        "uuid": metric,
        "metricKey": metric,
        "metricSectionId": _FIRST,
        "runsCountToCompare": 50,
        "isGenerated": True,
    }


# The section of the charts that are chosen here; the pages add one for each prefix of metrics.
_FIRST = "overview"
_FOLDED = ("iou", "system")
_VIEWS = {"rows": _rows(), "models": _models()}
