"""Contenders in processes of their own, which wait while the others take their turn.

Memory is then each one's own, and no switch of one (an allocator's, a number of threads) leaks into
another.
"""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection

from bench import memory, timing
from bench.timing import Contender, Times

# Prepares a contender in its process; what it returns does a repetition, see `Contender.run`.
Make = Callable[[], Callable[[], float]]


def measure(
    makes: dict[str, Make], repetitions: int, *, device: str
) -> tuple[Times, dict[str, int]]:
    """Lets all contenders take turns.

    Args:
        makes: by name; what they are made of must be picklable.
        repetitions: of each.
        device: "cpu" or "cuda": whose memory is looked at.

    Returns:
        Their seconds, and the bytes of memory that each has held at most.

    Raises:
        ValueError: a process has ended; it has told why.
    """
    with contextlib.ExitStack() as stack:
        try:
            pipes = {n: stack.enter_context(_process(m, device)) for n, m in makes.items()}
            contenders: Sequence[Contender] = [
                Contender(name, partial(_turn, pipe)) for name, pipe in pipes.items()
            ]
            times = timing.interleave(contenders, repetitions)
            return times, {name: _end(pipe) for name, pipe in pipes.items()}
        except (EOFError, ConnectionError) as error:
            raise ValueError("a contender's process has ended, see above") from error


@contextlib.contextmanager
def _process(make: Make, device: str) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, device))
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    try:
        ours.recv()  # one starts after the other, or all would read the libraries at once
        yield ours
    finally:
        ours.close()
        process.join(timeout=10)
        process.kill()


def _serve(pipe: Connection, make: Make, device: str) -> None:
    """Answers each request with the seconds of a repetition, the last with memory."""
    run = make()
    pipe.send(None)
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # the asking process has ended
        while pipe.recv():
            pipe.send(run())
        pipe.send(memory.peak_bytes(device))


def _turn(pipe: Connection) -> float:
    pipe.send(True)
    return float(pipe.recv())


def _end(pipe: Connection) -> int:
    pipe.send(False)
    return int(pipe.recv())
