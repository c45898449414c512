"""The process beside a training that talks to MLflow: reads lines on stdin, logs them in batches.

A store that does not answer is tried again now and then with all that has gathered; the user
is told once. When the training ends, or is gone, there is one last try.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from pipeline import files
from pipeline.tracking import identity, live, owner, provenance, store

# A batch per so many seconds: a call per iteration costs the store more than the training does.
_BATCH_SECONDS = 5.0
_RETRY_SECONDS = 30.0


def main() -> None:
    """Relays the training at the other end of stdin."""
    os.nice(10)  # the training's processors are the training's
    # One short try: the next batch is the second, and a training's end waits for the last.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
    relay(sys.stdin)


def relay(lines: Iterable[str]) -> None:
    """Relays one training, from its first line to its end."""
    lines = iter(lines)
    start = json.loads(next(lines))
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines, messages), daemon=True).start()
    process = owner.tag(start["pid"])
    points: list[Metric] = []
    run: tuple[MlflowClient, Run] | None = None
    wait, told = 0.0, False
    while True:
        end = _gather(messages, points, wait)
        wait = _BATCH_SECONDS
        try:
            with store.reporting():
                client, there = run = run or _create(start, process)
                store.log_metrics(client, there.info.run_id, points)
                if end:
                    _end(client, there, start, end)
        except ConnectionError as error:
            if not told:
                live.tell(str(error))
            told, wait = True, _RETRY_SECONDS
        if end:
            return


def _read(lines: Iterable[str], messages: "queue.SimpleQueue[Any]") -> None:
    for line in lines:
        if line.endswith("\n"):
            messages.put(json.loads(line))
    messages.put({"status": "KILLED"})  # no end was said: the training is gone


def _gather(
    messages: "queue.SimpleQueue[Any]", points: list[Metric], seconds: float
) -> dict[str, str] | None:
    """Collects points for some seconds, or until the message that ends the run; returns that."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            message = messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(message, dict):
            return message
        iteration, timestamp, metrics = message
        points += [Metric(name, value, timestamp, iteration) for name, value in metrics.items()]


def _create(start: dict[str, Any], process: str) -> tuple[MlflowClient, Run]:
    """Creates the training's run, or finds it where the answer to that was lost."""
    client = store.open_client()
    experiment_id = store.open_experiment(client, start["experiment"])
    found = store.find(client, experiment_id, f"tags.`{owner.TAG}` = '{process}'")
    if not found:
        tags = identity.tags("model", start["key"]) | provenance.origin(Path.cwd())
        tags[owner.TAG] = process
        title = provenance.title(identity.stage("model", start["key"]), tags)
        found = [client.create_run(experiment_id, tags=tags, run_name=title)]
    params = identity.flatten(start["entry"])
    client.log_batch(found[0].info.run_id, params=[Param(*item) for item in params.items()])
    return client, found[0]


def _end(client: MlflowClient, run: Run, start: dict[str, Any], end: dict[str, str]) -> None:
    """Ends the run; one that has made the bytes of an earlier run is that run, and goes."""
    run_id = run.info.run_id
    if end["status"] == "FINISHED":
        md5s = {role: files.digest(Path(end[role]), "md5") for role in ("checkpoint", "history")}
        params = identity.flatten(start["entry"])
        this = identity.identity("model", start["key"], params, md5s)
        condition = f"tags.{identity.TAG} = '{this}'"
        if store.find(client, run.info.experiment_id, condition):
            client.delete_run(run_id)
            return
        client.set_tag(run_id, identity.TAG, this)
    if "error" in end:
        client.set_tag(run_id, "mlflow.note.content", end["error"][:1000])
    client.set_terminated(run_id, end["status"])


if __name__ == "__main__":
    main()
