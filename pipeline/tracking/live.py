"""A training's curve while it runs: shown in MLflow, never in the training's way.

A process beside the training talks to MLflow (see `relay`); this side only writes lines to a pipe
that does not block. MLflow's import, which holds the interpreter for seconds, and a server that is
slow or hangs therefore cost the training nothing, and a training that is killed is noticed by the
pipe's end. What does not get through is in the history file, and `publish` brings it in.
"""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline import params, scratch
from pipeline.tracking.identity import legal


class Log(Protocol):
    """Shows an iteration's metrics, and the label maps in a folder as pictures."""

    def __call__(
        self, iteration: int, metrics: Mapping[str, float], panels: Path | None = None
    ) -> None:
        """Takes microseconds, and neither waits nor fails."""


# Points wait here for a relay that is slow to read; beyond this they are left to `publish`.
_BACKLOG_BYTES = 16 << 20

# What the relay writes once it has told the user that the store fails.
TOLD = b"told\n"

# How long the end of a training may wait for the last points to arrive.
_CLOSE_SECONDS = 15.0

_PROJECT = Path(__file__).resolve().parents[2]


def show_nothing(iteration: int, metrics: Mapping[str, float], panels: Path | None = None) -> None:
    """The `Log` of a process whose training is not shown."""


@contextlib.contextmanager
def live_run(
    params_file: Path, key: str, training: Path, *, checkpoint: Path, history: Path
) -> Iterator[Log]:
    """Shows a training as a run; yields the function that logs one iteration's metrics.

    A training that goes on after an interruption goes on in its run. At the block's end the run is
    FINISHED, after an exception FAILED, after Ctrl-C or an exit KILLED.

    Args:
        params_file: params.yaml; the model's entry is shown as the run's params.
        key: of the model.
        training: folder of the training's states; its name is the same after an interruption.
        checkpoint: written by the end of the block.
        history: likewise.
    """
    start = {
        "experiment": params.load(params_file, "mlflow.experiment", str),
        "key": key,
        "entry": params.load(params_file, f"models.{key}", dict[str, Any]),
        "pid": os.getpid(),
        "training": str(training.absolute()),
        "training_id": scratch.identity(training),
    }
    outs = {"checkpoint": str(checkpoint.absolute()), "history": str(history.absolute())}
    relay, pipe = _start_relay()
    backlog = bytearray(_line(start))
    _write(pipe, backlog)

    def log(iteration: int, metrics: Mapping[str, float], panels: Path | None = None) -> None:
        if len(backlog) < _BACKLOG_BYTES:
            values = {legal(name): float(value) for name, value in metrics.items()}
            shown = str(panels.absolute()) if panels else None
            backlog.extend(_line([iteration, time.time_ns() // 10**6, values, shown]))
        _write(pipe, backlog)

    end = {"status": "KILLED"}
    try:
        yield log
        end = {"status": "FINISHED", **outs}
    except Exception as error:
        end = {"status": "FAILED", "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        backlog.extend(_line(end))
        _close(relay, pipe, backlog, is_awaited=end["status"] == "FINISHED")


def tell(message: str) -> None:
    """Prints one line for the person at the terminal, below a progress bar that stands there."""
    hint = "the training is unharmed, and `make publish` brings in what is missing"
    print(f"\nMLflow: {message}; {hint}", file=sys.stderr, flush=True)


def _start_relay() -> tuple["subprocess.Popen[bytes] | None", int]:
    """Starts the process beside this one; returns it and our end of the pipe to it."""
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    relay = None
    if importlib.util.find_spec("mlflow") is None:
        tell("not installed, hence no live curve")
    else:
        try:
            relay = _popen(theirs)
        except OSError as error:
            tell(f"no live curve, {error}")
    os.close(theirs)
    return relay, ours


def _popen(stdin: int) -> "subprocess.Popen[bytes]":
    path = [str(_PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.tracking.relay"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdin=stdin,
        stdout=subprocess.PIPE,  # where it says `TOLD`
        start_new_session=True,  # Ctrl-C is meant for the training, which tells the relay
    )


def _line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _write(pipe: int, backlog: bytearray) -> None:
    try:
        while backlog:
            del backlog[: os.write(pipe, backlog)]
    except BlockingIOError:
        pass  # the relay is busy: the next line takes these along
    except OSError:
        backlog.clear()  # the relay is gone, which the end of the training tells


def _close(
    relay: "subprocess.Popen[bytes] | None", pipe: int, backlog: bytearray, *, is_awaited: bool
) -> None:
    deadline = time.monotonic() + _CLOSE_SECONDS
    _write(pipe, backlog)
    while backlog and time.monotonic() < deadline:
        time.sleep(0.01)
        _write(pipe, backlog)
    os.close(pipe)
    if relay is None:
        return
    if not is_awaited:  # after an error or Ctrl-C nobody should wait; the relay ends by itself
        threading.Thread(target=relay.__exit__, args=(None, None, None), daemon=True).start()
        return
    with relay:
        try:
            relay.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            relay.kill()
            relay.wait()
            if not _was_told(relay):
                tell(f"did not take the last points within {_CLOSE_SECONDS:g} s")
            return
    if relay.returncode:
        tell(f"the process that shows the training has ended with status {relay.returncode}")


def _was_told(relay: "subprocess.Popen[bytes]") -> bool:
    if relay.stdout is None:
        return False
    os.set_blocking(relay.stdout.fileno(), False)  # a child of the relay may have it open
    return TOLD in (relay.stdout.read() or b"")
