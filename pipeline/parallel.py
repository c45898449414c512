"""Work on many items in threads, in order and in bounded memory.

Threads are enough: decoding, encoding and resampling run in OpenCV, Pillow and zlib, which release
Python's global lock.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2

_MAX_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_ahead: int
) -> Iterator[Result]:
    """Like map(function, items), in order, with up to num_ahead results prepared in threads."""
    cv2.setNumThreads(1)  # one image per thread scales better than several threads per image
    pending: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), _MAX_THREADS))
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > num_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
