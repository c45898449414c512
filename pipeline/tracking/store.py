"""Where the runs are kept, and MLflow made quiet: no log lines, no long retries.

Without MLFLOW_TRACKING_URI the store is one sqlite file beside the main repository's dvc.yaml.
Importing this module imports MLflow, which takes seconds.
"""

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from boto3.exceptions import Boto3Error  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
)
from mlflow import MlflowClient, entities
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES, SQLITE
from mlflow.store.db.utils import create_sqlalchemy_engine
from sqlalchemy.exc import SQLAlchemyError

from pipeline import files

# MLflow's own are 7 retries of 120 s. A user's setting wins.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# Else MLflow prints two lines for each run; `make ui` prints the address of all.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

for _name in ("mlflow", "alembic", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # what fails is raised, and said once

# Errors of a store that is away, broken, closed to us or of a kind that we lack the driver for. Its
# artifacts may lie in S3, whose errors have no common base.
_FAILURES = (
    MlflowException,
    SQLAlchemyError,
    OSError,
    ImportError,
    Boto3Error,
    BotoCoreError,
    ClientError,
)

# Query parameters whose values are secrets.
_SECRET = r"[^=&?\s]*(?:password|secret|token|key|signature|credential)[^=&\s]*"

# The most that MLflow takes in one call.
_RUNS_PER_PAGE = 1000
_MAX_METRICS = 1000

# How servers' addresses begin. A server knows where its artifacts belong; for a database we say it.
_SERVERS = ("http:", "https:", "databricks", "uc:")


def root() -> Path:
    """The folder that holds the store, which temporary checkouts of DVC share."""
    return files.main_repository().resolve()


def uri() -> str:
    """Address of the store; it may hold a password."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(_database())


def is_server() -> bool:
    """Whether a tracking server is asked, not a database."""
    return uri().startswith(_SERVERS)


def artifacts_uri() -> str:
    """Where artifacts lie that belong to runs in a database."""
    return (root() / "mlartifacts").as_uri()


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turns whatever a store raises into a ConnectionError of one line.

    Raises:
        ConnectionError: says where and what, without user name or password.
    """
    try:
        yield
    except _FAILURES as error:
        message = " ".join(str(error).split())
        # Without its cause, whose text a traceback would print as it is.
        raise ConnectionError(redacted(f"{uri()}: {message}")[:500]) from None


def redacted(text: str) -> str:
    """Leaves `user:password@` out of all addresses in a text, and the values of `?password=`."""
    text = re.sub(r"(?<=://)\S*@", "", text)  # to the last @: a password may have any character
    return re.sub(rf"(?<=[?&])({_SECRET})=[^&\s]*", r"\1=...", text, flags=re.IGNORECASE)


@contextlib.contextmanager
def locked(purpose: str) -> Iterator[None]:
    """Keeps other processes of this machine out while one creates the store or publishes."""
    with (root() / f"mlflow.db.{purpose}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def open_client() -> MlflowClient:
    """Opens the store, creating it if need be."""
    with locked("create"):
        if uri() == _sqlite(_database()) and not _database().exists():
            _create_database()
        _require_database()
        return MlflowClient(uri())


def open_experiment(client: MlflowClient, name: str) -> str:
    """Finds an experiment, creating it if need be; returns its id."""
    with locked("create"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return client.create_experiment(name, None if is_server() else artifacts_uri())
            except MlflowException:  # another machine may have been first
                experiment = client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":  # its name stays taken
            client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id


def find(client: MlflowClient, experiment_id: str, conditions: str) -> list[entities.Run]:
    """The experiment's runs that meet the conditions, oldest first; deleted ones are not found."""
    found: list[entities.Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            conditions,
            max_results=_RUNS_PER_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def log_metrics(client: MlflowClient, run_id: str, points: list[Metric]) -> None:
    """Logs points in batches; what is logged is taken out of the list.

    A batch that is sent twice, because the answer was lost, makes no point twice.
    """
    while points:
        client.log_batch(run_id, points[:_MAX_METRICS])
        del points[:_MAX_METRICS]


def _require_database() -> None:
    """Connects once to a database server; if it refuses, MLflow would try again for 100 seconds."""
    if re.split("[+:]", uri())[0] in {*DATABASE_ENGINES} - {SQLITE}:
        engine = create_sqlalchemy_engine(uri())  # type: ignore[no-untyped-call]
        engine.connect().close()
        engine.dispose()


def _create_database() -> None:
    """Makes MLflow's tables in a file that is moved into place: half of them would be useless."""
    partial = _database().with_name("mlflow.db.partial")
    partial.unlink(missing_ok=True)
    MlflowClient(_sqlite(partial))
    partial.replace(_database())


def _database() -> Path:
    return root() / "mlflow.db"


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path}"
