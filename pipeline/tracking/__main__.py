"""Opens MLflow's pages on the store that `train` and `publish` write to.

Usage: python -m pipeline.tracking params.yaml PORT
"""

import os
import sys
from pathlib import Path

from pipeline import command, params
from pipeline.tracking import store, views


def main(params_file: Path, port: int) -> None:
    """Prints the address of the runs; a store without a server gets one on this machine."""
    name = params.load(params_file, "mlflow.experiment", str)
    with store.reporting():
        client = store.open_client()
        experiment_id = store.open_experiment(client, name)
        views.save(client, experiment_id)
    page = views.address(experiment_id)
    if store.is_server():
        print(f"{store.redacted(store.uri())}/{page}")
        return
    print(f"http://127.0.0.1:{port}/{page}", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # jobs are for language models
    os.environ["PYTHONWARNINGS"] = "ignore"
    arguments = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--workers", "1", "--default-artifact-root", store.artifacts_uri()]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.uri()  # `ps` shows arguments, passwords included
    os.execv(sys.executable, arguments)


if __name__ == "__main__":
    command.run(main)
