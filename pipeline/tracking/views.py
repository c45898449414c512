"""Two saved views of an experiment in MLflow's pages: its rows by score, and its models' curves.

Without them the pages show no score in the table, and a chart of each class before any other. A
view is a tag of the experiment, in the form in which the pages themselves save one (MLflow 3.17).
"""

import json
from collections.abc import Sequence
from typing import Any

from mlflow import MlflowClient

_TAG = "mlflow.sharedViewState."
# The pages open on those for language models unless their address says otherwise.
_WORKFLOW = "workflowType=machine_learning"

_SCORES = ("score/miou", "score/pixel_accuracy", "score/mean_class_accuracy")
_ROW_PARAMS = ("model", "inference.output_stride", "inference.scales", "inference.flip")
_MODEL_PARAMS = ("network.backbone", "training.max_iterations", "training.base_learning_rate")

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
    """Saves the views that are not there; one that a person has changed stays as it is."""
    there = client.get_experiment(experiment_id).tags
    views = {"rows": _rows(), "models": _models()}
    for key, view in views.items():
        if _TAG + key not in there:
            saved = {"name": key.capitalize(), "createdAt": 0, "updatedAt": 0}
            value = json.dumps({**saved, "state": json.dumps(view)})
            client.set_experiment_tag(experiment_id, _TAG + key, value)


def address(experiment_id: str) -> str:
    """Where an experiment's rows are in MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs?{_WORKFLOW}&viewStateShareKey=rows"


def run_address(experiment_id: str, run_id: str) -> str:
    """Where a run is in MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"


def _rows() -> dict[str, Any]:
    view = _view("row", _SCORES, _ROW_PARAMS, sections=("score", "trimap", "iou"))
    view["orderByKey"] = "metrics.`score/miou`"
    view["compareRunCharts"] = [_chart("BAR", name) for name in _SCORES]
    view["compareRunCharts"] += [_line("trimap/miou"), _line("trimap/pixel_accuracy")]
    return view


def _models() -> dict[str, Any]:
    view = _view("model", ("train/loss",), _MODEL_PARAMS, sections=("train",))
    view["orderByKey"] = "attributes.start_time"
    view["compareRunCharts"] = [_line("train/loss"), _line("train/learning_rate")]
    return view


def _view(
    kind: str, metrics: Sequence[str], params: Sequence[str], sections: Sequence[str]
) -> dict[str, Any]:
    columns = [f"metrics.`{name}`" for name in metrics] + [f"params.`{name}`" for name in params]
    columns.append("tags.`dvc.experiment`")
    return {
        "searchFilter": f"tags.kind = '{kind}'",
        "orderByAsc": False,
        "selectedColumns": columns,
        "columnOrder": columns,
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": name != "iou", "isGenerated": True}
            for name in sections
        ],
    }


def _line(metric: str) -> dict[str, Any]:
    return {**_chart("LINE", metric), **_LINE}


def _chart(type_: str, metric: str) -> dict[str, Any]:
    return {
        "type": type_,
        "uuid": metric,
        "metricKey": metric,
        "metricSectionId": metric.split("/")[0],
        "runsCountToCompare": 20,
        "isGenerated": True,
    }
