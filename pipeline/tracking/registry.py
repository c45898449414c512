"""Servable models: each evaluated checkpoint, registered, and the best of them by name.

A checkpoint under the strategy of its best row, with its mIoU, is a LoggedModel of the experiment,
and a version of the registered model that is called as the experiment: `models:/NAME/3`. A
LoggedModel or version that exists already is found by its identity and left as it is. The alias
`champion` is on the version with the highest mIoU among those whose row was evaluated on the same
data: the split, and its bytes, that most rows of params.yaml are evaluated on. It moves when that
changes, also where a person has moved it.

A model costs one copy of its checkpoint in the store, and while it is written one more in the
temporary folder.
"""

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.tracking import candidates, identity, logged_models, store
from pipeline.tracking.provenance import File
from pipeline.tracking.runs import Run

CHAMPION = "champion"
# The tag of a LoggedModel by which its page knows that it is registered.
_VERSIONS = "mlflow.modelVersions"
_DESCRIPTION = """Networks of the experiment of the same name, each under its best row's strategy.
The alias {champion} is on the highest mIoU on the data that most rows are evaluated on.

    mlflow.pyfunc.load_model("models:/{name}@{champion}").predict(image)
    mlflow models serve -m models:/{name}@{champion} --env-manager local
"""

# Errors of a store that has no registry, or none that is open to us.
_ABSENT = {
    "ENDPOINT_NOT_FOUND",
    "FEATURE_DISABLED",
    "INVALID_PARAMETER_VALUE",  # an address that no registry has
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
}


def publish(
    client: MlflowClient,
    experiment_id: str,
    experiment: str,
    runs: Sequence[Run],
    run_ids: Mapping[str, str],
) -> None:
    """Registers new models and names the champion; prints a line when that changes.

    Args:
        client: of the store.
        experiment_id: where the runs are.
        experiment: its name.
        runs: all that params.yaml lists.
        run_ids: of these in MLflow, by name.
    """
    rows = [run for run in runs if run.kind == "row" and math.isfinite(candidates.miou(run))]
    if not rows:
        return
    if reason := _missing(client, experiment_id):
        print(f"MLflow: runs are published, models are not: {reason}", file=sys.stderr)
        return
    name = registered_name(experiment)
    data = candidates.compared(rows)
    versions = _versions(client, name)
    for row in candidates.best(rows, data):
        facts, trained = candidates.facts(row), candidates.trained(row)
        model = logged_models.ensure(client, experiment_id, row, trained, facts, run_ids)
        tags = {**facts, "model_id": model.model_id, "miou": repr(candidates.miou(row))}
        version = _version(client, versions, tags) or _registered(client, name, model, row, tags)
        for tag, value in tags.items():
            if version.tags.get(tag) != value:
                client.set_model_version_tag(name, version.version, tag, value)
        _show(client, model, version)
    _crown(client, name, data, rows)


def registered_name(experiment: str) -> str:
    """The experiment's name as the registry allows it."""
    return re.sub(r"[/:'\"%]", "-", experiment)


def _missing(client: MlflowClient, experiment_id: str) -> str:
    """Why the store takes no models, empty if it does."""
    try:
        client.search_registered_models(max_results=1)
        client.search_logged_models([experiment_id], max_results=1)
    except NotImplementedError:
        return "the store has no model registry"
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        return store.redacted(" ".join(str(error).split()))[:300]
    return ""


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """The versions that we registered, oldest first."""
    versions = client.search_model_versions(f"name = '{name}'")
    ours = [version for version in versions if identity.TAG in version.tags]
    return sorted(ours, key=lambda version: int(version.version))


def _version(
    client: MlflowClient, versions: Sequence[ModelVersion], tags: Mapping[str, str]
) -> ModelVersion | None:
    """The model's version, if there is one.

    Others of equal identity belong to models that are gone, or repeat it, and are deleted.
    """
    equal = [there for there in versions if there.tags[identity.TAG] == tags[identity.TAG]]
    found = None
    for there in equal:
        if found is None and there.tags.get("model_id") == tags["model_id"]:
            found = there
        else:
            client.delete_model_version(there.name, there.version)
    return found


def _registered(
    client: MlflowClient, name: str, model: LoggedModel, row: Run, tags: Mapping[str, str]
) -> ModelVersion:
    try:
        description = _DESCRIPTION.format(name=name, champion=CHAMPION)
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with _as_default():
        return client.create_model_version(
            name,
            f"models:/{model.model_id}",
            run_id=model.source_run_id,
            tags={**logged_models.facts(model), **tags},
            description=row.desc,
            model_id=model.model_id,
        )


@contextlib.contextmanager
def _as_default() -> Iterator[None]:
    """Makes the store MLflow's default one for a while.

    A registry in a database looks the model up there, and not in the client's store.
    """
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = store.uri()
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _show(client: MlflowClient, model: LoggedModel, version: ModelVersion) -> None:
    """Names the version on the model's page, as servers do and databases do not."""
    known = json.loads(model.tags.get(_VERSIONS, "[]"))
    number = str(version.version)
    if (version.name, number) not in {(one["name"], str(one["version"])) for one in known}:
        others = [one for one in known if one["name"] != version.name]
        shown = [*others, {"name": version.name, "version": number}]
        client.set_logged_model_tags(model.model_id, {_VERSIONS: json.dumps(shown)})


def _crown(client: MlflowClient, name: str, data: File, rows: Sequence[Run]) -> None:
    """Gives the alias to the best version; of equal ones to its holder, else to the oldest.

    Of each checkpoint under each row the newest version counts, unless the row has another score
    now. The new score may have no version, where another row of the checkpoint is better.
    """
    now: dict[tuple[str | None, str | None], float] = {
        (row.files["checkpoint"].md5, row.key): candidates.miou(row) for row in rows
    }
    newest = {
        (version.tags.get("checkpoint.md5"), version.tags.get("row")): version
        for version in _versions(client, name)
        if (version.tags.get("data"), version.tags.get("data.md5")) == (data.path, data.md5)
    }
    scores = {
        str(version.version): miou  # an int where the registry is a bare database
        for of, version in newest.items()
        if now.get(of, miou := float(version.tags["miou"])) == miou
    }
    if not scores:
        return
    present = client.get_registered_model(name).aliases.get(CHAMPION)
    best = max(scores.values())
    if present is not None and scores.get(str(present)) == best:
        return
    version = next(number for number, score in scores.items() if score == best)
    client.set_registered_model_alias(name, CHAMPION, version)
    print(
        f"MLflow: models:/{name}@{CHAMPION} is version {version}, mIoU {best:.4f} on {data.path}",
        file=sys.stderr,
    )
