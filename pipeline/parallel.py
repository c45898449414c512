"""Work on many items in threads, in order and in bounded memory.

Threads are enough: decoding, encoding and resampling run in OpenCV, Pillow and zlib, which release
Python's global lock.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import cv2

_MAX_THREADS = 8
# A read that takes longer than this hangs.
_READ_SECONDS = 60.0
# How long a thread may take to end its last read.
_END_SECONDS = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Cores that this process may use; of the machine, where the system does not say which."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_ahead: int
) -> Iterator[Result]:
    """Like map(function, items), in order, with up to num_ahead results prepared in threads.

    Raises:
        TimeoutError: an item took longer than a minute.
    """
    cv2.setNumThreads(1)  # one image per thread scales better than several threads per image
    tasks: queue.SimpleQueue[tuple[Future[Result], Item] | None] = queue.SimpleQueue()
    threads = [
        # Daemons: one that hangs in a read must not keep the program from ending.
        threading.Thread(target=_work, args=(function, tasks), daemon=True)
        for _ in range(min(num_cores(), _MAX_THREADS))
    ]
    for thread in threads:
        thread.start()
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(Future())
            tasks.put((pending[-1], item))
            if len(pending) > num_ahead:
                yield _result(pending.popleft())
        while pending:
            yield _result(pending.popleft())
    finally:
        for future in pending:
            future.cancel()
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            thread.join(_END_SECONDS)


def _work(
    function: Callable[[Item], Result],
    tasks: "queue.SimpleQueue[tuple[Future[Result], Item] | None]",
) -> None:
    while (task := tasks.get()) is not None:
        future, item = task
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(function(item))
        except BaseException as error:  # whoever waits for the result shall have it
            future.set_exception(error)


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result(_READ_SECONDS)
    except TimeoutError as error:
        if future.done():
            raise  # the function's own
        raise TimeoutError(
            f"an image was not read within {_READ_SECONDS:g} s: the storage of it hangs"
        ) from error
