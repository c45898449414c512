"""Ending a training in order: at a signal, and when whoever started it is gone.

DVC that is killed leaves its stages running. A trainer that nobody waits for would go on for days,
and its outs would be nobody's.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_SECONDS = 1.0
_SHELLS = {"sh", "bash", "dash", "zsh", "ash"}

# The number of the signal that asked for an end, 0 while none did.
Requested = Callable[[], int]


@contextlib.contextmanager
def awaited() -> Iterator[Requested]:
    """Yields a function that says whether the training was asked to end.

    The first SIGTERM or Ctrl-C asks; a second Ctrl-C does not wait for the answer. In a stage that
    DVC has started, the end of DVC asks too.
    """
    received = [0]

    def remember(number: int, _: FrameType | None) -> None:
        received[0] = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop() -> None:
        received[0] = signal.SIGTERM

    before = {number: signal.signal(number, remember) for number in _SIGNALS}
    try:
        with starter_watched(stop):
            yield lambda: received[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def starter_watched(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop`, in a thread, if DVC has started this process and ends before the block does."""
    ended = threading.Event()
    if "DVC_ROOT" in os.environ:
        threading.Thread(target=_watch, args=(_starters(), ended, stop), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(starters: list[int], ended: threading.Event, stop: Callable[[], None]) -> None:
    while all(_is_there(pid) for pid in starters):
        if ended.wait(_POLL_SECONDS):
            return
    stop()


def _starters() -> list[int]:
    """The parent, and beyond a shell between whoever started that."""
    pids = [os.getppid()]
    while (status := _status(pids[-1])) and status[0] in _SHELLS:
        pids.append(status[1])
    return [pid for pid in pids if pid > 1]


def _status(pid: int) -> tuple[str, int] | None:
    """Name and parent of a process, where the system tells them."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, rest = text.partition("(")[2].rpartition(")")[::2]
    return name, int(rest.split()[1])


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
