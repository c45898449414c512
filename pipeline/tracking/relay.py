"""The process beside a training that talks to MLflow: reads lines on stdin, logs them in batches.

A store that does not answer is tried again now and then with all that has gathered; the user
is told once. When the training ends, or is gone, there is one last try.
"""

import contextlib
import fcntl
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient, entities
from mlflow.entities import Metric, Param

from pipeline import files
from pipeline.report import panels as drawing
from pipeline.splits import Split
from pipeline.tracking import facts, identity, live, machine, owner, provenance, store

# Between two batches: a call for each iteration would be a heavy load for the store.
_BATCH_SECONDS = 5.0
_RETRY_SECONDS = 30.0


def main() -> None:
    """Relays the training at the other end of stdin."""
    os.nice(10)  # the training comes first on its processors
    # One short try: the next batch is the second try, and a training's end waits for the last one.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
    relay(sys.stdin, _acknowledge_on_stdout())


def _acknowledge_on_stdout() -> Callable[[], None]:
    """Returns what says on stdout that the user has been told; nothing else can write there then.

    MLflow prints a run's address on stdout, which the reader would take for this message.
    """
    ours = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)

    def acknowledge() -> None:
        with contextlib.suppress(BrokenPipeError):  # the training is gone
            os.write(ours, live.TOLD)

    return acknowledge


def relay(lines: Iterable[str], acknowledge: Callable[[], None]) -> None:
    """Relays one training, from its first line to its end.

    Args:
        lines: see `live`.
        acknowledge: called once the user has been told that the store fails.
    """
    lines = iter(lines)
    start = json.loads(next(lines))
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines, messages), daemon=True).start()
    with _alone(Path(start["training"])):
        _relay(start, messages, acknowledge)


@contextlib.contextmanager
def _alone(training: Path) -> Iterator[None]:
    """Waits until no other relay of this training is at work.

    One from before an interruption may be at its last try, and both would log the iterations that
    are computed again. Messages that arrive meanwhile wait in the queue.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # file systems that lock no folder; a folder moved away
            folder = os.open(training, os.O_RDONLY)
            stack.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield


def _relay(
    start: dict[str, Any], messages: "queue.SimpleQueue[Any]", acknowledge: Callable[[], None]
) -> None:
    process = owner.tag(start["pid"])
    watch = machine.watch()
    points: list[Metric] = []
    panels: list[Path] = []
    live_run: _LiveRun | None = None
    wait, told = 0.0, False
    while True:
        end = _gather(messages, points, panels, wait)
        wait = _BATCH_SECONDS
        points += _load(watch, points)
        try:
            with store.reporting():
                live_run = live_run or _open(start, process)
                live_run.log(points)
                try:
                    live_run.show(panels)
                finally:  # a picture that cannot be stored must not leave the run open
                    if end:
                        _end(live_run, start, end)
        except ConnectionError as error:
            if not told:
                live.tell(str(error))
                acknowledge()
            told, wait = True, _RETRY_SECONDS
        if end:
            return


def _read(lines: Iterable[str], messages: "queue.SimpleQueue[Any]") -> None:
    for line in lines:
        if line.endswith("\n"):
            messages.put(json.loads(line))
    # The pipe ended without an end of the run: the training is gone.
    messages.put({"status": "KILLED"})


def _gather(
    messages: "queue.SimpleQueue[Any]", points: list[Metric], panels: list[Path], seconds: float
) -> dict[str, str] | None:
    """Collects for some seconds, or until the message that ends the run; returns that."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            message = messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(message, dict):
            return message
        iteration, timestamp, metrics, shown = message
        points += [Metric(name, value, timestamp, iteration) for name, value in metrics.items()]
        if shown:
            panels.append(Path(shown))


def _load(watch: machine.Watch, points: list[Metric]) -> list[Metric]:
    """How busy the machine is, as points of the latest iteration."""
    if not points:
        return []
    step, now = points[-1].step, time.time_ns() // 10**6
    return [Metric(name, value, now, step) for name, value in watch(step).items()]


@dataclass(frozen=True)
class _LiveRun:
    """A run in MLflow, and what it had when this process came to it.

    Attributes:
        client: of the store.
        run: as it was then.
        last_steps: of each metric, the last step that was there; all up to it is there.
        data: the split that panels show images of.
    """

    client: MlflowClient
    run: entities.Run
    last_steps: dict[str, int]
    data: Path

    def log(self, points: list[Metric]) -> None:
        """Logs what is new; what is logged is taken out of the list."""
        points[:] = [p for p in points if p.step > self.last_steps.get(p.key, -1)]
        store.log_metrics(self.client, self.run.info.run_id, points)

    def show(self, panels: list[Path]) -> None:
        """Logs pictures; what is logged is taken out of the list."""
        while panels:
            with tempfile.TemporaryDirectory() as folder:
                picture = Path(folder) / f"{panels[0].name}.png"
                with contextlib.suppress(ValueError, OSError):  # the curve matters more
                    drawing.draw_folder(Split(self.data), panels[0], picture)
                if picture.exists():
                    self.client.log_artifact(self.run.info.run_id, str(picture), "panels")
            del panels[0]


def _open(start: dict[str, Any], process: str) -> _LiveRun:
    """Finds the run that this training was shown as before an interruption, or creates one."""
    client = store.open_client()
    experiment_id = store.open_experiment(client, start["experiment"])
    run = _interrupted(client, experiment_id, start) or _create(
        client, experiment_id, start, process
    )
    run_id = run.info.run_id
    client.set_tag(run_id, owner.TAG, process)
    client.update_run(run_id, status="RUNNING")
    if identity.NOTE in run.data.tags:  # why it ended before
        client.delete_tag(run_id, identity.NOTE)
    params = identity.flatten(start["entry"])
    client.log_batch(run_id, params=[Param(*item) for item in params.items()])
    last_steps = {
        name: max(point.step for point in client.get_metric_history(run_id, name))
        for name in run.data.metrics
    }
    return _LiveRun(client, run, last_steps, Path(start["entry"]["validation"]["data"]))


def _interrupted(
    client: MlflowClient, experiment_id: str, start: dict[str, Any]
) -> entities.Run | None:
    """The latest run of this training's folder that has not come to its end."""
    condition = f"tags.`{owner.TRAINING}` = '{start['training_id']}'"
    found = store.find(client, experiment_id, condition)
    unfinished = [run for run in found if identity.TAG not in run.data.tags]
    params = identity.flatten(start["entry"])
    fitting = [run for run in unfinished if run.data.params.items() <= params.items()]
    return fitting[-1] if fitting else None


def _create(
    client: MlflowClient, experiment_id: str, start: dict[str, Any], process: str
) -> entities.Run:
    """Creates the training's run, or finds it if it was created and the answer lost."""
    found = store.find(client, experiment_id, f"tags.`{owner.TAG}` = '{process}'")
    if found:
        return found[0]
    tags = identity.tags("model", start["key"]) | facts.of_network(start["entry"]["network"])
    tags |= provenance.origin(Path.cwd())
    tags |= {owner.TAG: process, owner.TRAINING: start["training_id"]}
    title = provenance.title(identity.stage("model", start["key"]), tags)
    return client.create_run(experiment_id, tags=tags, run_name=title)


def _end(live_run: _LiveRun, start: dict[str, Any], end: dict[str, str]) -> None:
    """Ends the run; deletes it if an earlier run has the same params and bytes."""
    client, run, run_id = live_run.client, live_run.run, live_run.run.info.run_id
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
        client.set_tag(run_id, identity.NOTE, end["error"][:1000])
    client.set_terminated(run_id, end["status"])


if __name__ == "__main__":
    main()
