"""What it costs a training to be shown in MLflow: ours beside the usual calls, on a real server.

First the client's time per 1000 iterations of five metrics each: seconds that the training's thread
spends in calls and at the end, and seconds of processor in the threads and the process beside it.
Iterations come at a steady pace, as those of a training do. Then the time of an iteration that
computes, beside a store that is well, slow, broken or away. A training is shown and not shown in
turns of some seconds: while it is not, it logs nothing and the process beside it is stopped. The
start of that process, which takes some seconds of processor once, is in the client's time alone.
"""

import argparse
import contextlib
import multiprocessing
import os
import resource
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import mlflow
import psutil  # type: ignore[import-untyped]
import torch
import yaml
from torch import nn
from tqdm import tqdm

from bench import servers, timing
from bench.command import count, run
from bench.timing import Contender, Goal, Times
from pipeline.tracking import live, store

_OURS = "ours: live_run"
_CALLS, _THREADS = "mlflow.log_metrics", "mlflow.log_metrics, asynchronous"
_SHOWN, _HIDDEN = "shown", "not shown"

_METRICS = ("train/loss", "train/learning_rate", "train/miou", "train/norm", "train/seconds")
_MODEL = "v3plus"
_SLOW_SECONDS = 3.0  # per call of the slow store
_START_SECONDS = 10.0  # until the process beside a training has started, and more


def main() -> int:
    """Measures both, prints a table of each and whether the goals hold."""
    options = _options()
    print(timing.machine("mlflow", "torch"))
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, port = Path(name), servers.free_port()
        stack.enter_context(servers.mlflow_server(folder, port))
        address = f"http://127.0.0.1:{port}"
        costs = _Costs(folder / "client", address, options)
        clients = timing.interleave(costs.contenders(), options.repetitions)
        print(costs.describe())
        print(timing.table(["client", "s per 1000 iterations", "times ours"], _rows(clients)))
        stores = stack.enter_context(_stores(port))
        trainings = {
            name: _in_a_process(_training, folder / str(k), address, options)
            for k, (name, address) in enumerate(tqdm(stores.items(), desc="stores", leave=False))
        }
    print(f"\nAn iteration that computes, in {options.pairs} pairs of {options.seconds} s:\n")
    print(timing.table(["store", "ms shown", "ms not shown", "ratio"], _iterations(trainings)))
    print()
    return timing.conclude(_goals(clients, trainings), judged=not options.quick)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=count, default=30_000, help="shown by ours, a turn")
    parser.add_argument("--peer-iterations", type=count, default=1_000, help="shown by a peer")
    parser.add_argument("--pace", type=count, default=250, help="iterations per second")
    parser.add_argument("--repetitions", type=count, default=3, help="turns of each client")
    parser.add_argument("--pairs", type=count, default=12, help="of turns shown and not shown")
    parser.add_argument("--seconds", type=count, default=5, help="of each of these turns")
    parser.add_argument("--quick", action="store_true", help="a few iterations, not judged")
    options = parser.parse_args()
    if options.quick:
        options.iterations, options.peer_iterations = 50, 20
        options.repetitions, options.pairs, options.seconds = 1, 1, 1
    return options


# ---- the client's time


class _Costs:
    """Contenders that show iterations, and where the time of ours went."""

    def __init__(self, folder: Path, address: str, options: argparse.Namespace) -> None:
        self._project = _Project(folder)
        self._iterations: int = options.iterations
        self._peer_iterations: int = options.peer_iterations
        self._pace: int = options.pace
        self._parts: list[tuple[float, float, float]] = []
        os.environ["MLFLOW_TRACKING_URI"] = address
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        mlflow.set_experiment("bench")

    def contenders(self) -> list[Contender]:
        """Ours and two usual ways, in seconds per 1000 iterations."""
        return [
            Contender(_OURS, self._ours),
            Contender(_CALLS, partial(self._peer, synchronous=True)),
            Contender(_THREADS, partial(self._peer, synchronous=False)),
        ]

    def describe(self) -> str:
        """Sizes, and the parts of our time."""
        parts = [1000 * statistics.median(part) for part in zip(*self._parts, strict=True)]
        calls, end, beside = parts
        return (
            f"{self._iterations} iterations of {len(_METRICS)} metrics at {self._pace} per second "
            f"({self._peer_iterations} of a peer).\nOurs per 1000 iterations: {calls:.1f} ms in "
            f"calls, {end:.1f} ms at the end, {beside:.1f} ms of processor in the process beside.\n"
        )

    def _ours(self) -> float:
        before = _processor_seconds_of_children()
        with self._project.shown() as log:
            calls = _pace_through(self._iterations, self._pace, log)
            end = time.perf_counter()
        end = time.perf_counter() - end
        beside = _processor_seconds_of_children() - before
        self._require_whole()
        thousands = self._iterations / 1000
        self._parts.append((calls / thousands, end / thousands, beside / thousands))
        return (calls + end + beside) / thousands

    def _require_whole(self) -> None:
        client = store.open_client()
        experiment_id = store.open_experiment(client, _Project.EXPERIMENT)
        newest = store.find(client, experiment_id, "")[-1]
        for name in _METRICS:
            logged = len(client.get_metric_history(newest.info.run_id, name))
            if logged != self._iterations:
                raise ValueError(f"{name}: {logged} of {self._iterations} iterations were shown")

    def _peer(self, *, synchronous: bool) -> float:
        def log(iteration: int, metrics: dict[str, float]) -> None:
            mlflow.log_metrics(metrics, step=iteration, synchronous=synchronous)

        others = time.process_time() - time.thread_time()
        with mlflow.start_run():
            calls = _pace_through(self._peer_iterations, self._pace, log)
            end = time.perf_counter()
            if not synchronous:
                mlflow.flush_async_logging()
            end = time.perf_counter() - end
        beside = time.process_time() - time.thread_time() - others
        return (calls + end + beside) / (self._peer_iterations / 1000)


def _pace_through(
    iterations: int, per_second: int, log: Callable[[int, dict[str, float]], object]
) -> float:
    """Logs iterations at a steady pace, late ones at once; returns the seconds spent in calls."""
    begin = time.perf_counter()
    seconds = 0.0
    for iteration in range(iterations):
        time.sleep(max(0.0, begin + iteration / per_second - time.perf_counter()))
        metrics = {name: 1 / (k + iteration + 1) for k, name in enumerate(_METRICS)}
        start = time.perf_counter()
        log(iteration, metrics)
        seconds += time.perf_counter() - start
    return seconds


def _processor_seconds_of_children() -> float:
    """Of those that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class _Project:
    """What `live_run` reads: params of one model, and results that differ from turn to turn."""

    EXPERIMENT = "ours"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = 0
        (folder / "scratch").mkdir(parents=True)
        entry = {
            "network": {"backbone": "resnet18", "output_stride": 16, "decoder": None},
            "training": {"base_learning_rate": 0.05},
            "validation": {"data": "data/val.arrow"},
        }
        document = {"models": {_MODEL: entry}, "mlflow": {"experiment": self.EXPERIMENT}}
        (folder / "params.yaml").write_text(yaml.safe_dump(document))

    def shown(self) -> contextlib.AbstractContextManager[live.Log]:
        """A training that has never been before."""
        self._turn += 1
        training = self._folder / "scratch" / f"{_MODEL}-{self._turn}"
        training.mkdir()
        made = self._folder / "made"
        made.write_text(f"{self._folder} {self._turn}")
        params = self._folder / "params.yaml"
        return live.live_run(params, _MODEL, training, checkpoint=made, history=made)


def _rows(times: Times) -> list[list[str]]:
    return [
        [name, timing.spread(seconds), str(timing.ratio(times, _OURS, name))]
        for name, seconds in times.items()
    ]


# ---- the time of an iteration


@contextlib.contextmanager
def _stores(port: int) -> Iterator[dict[str, str | None]]:
    """Addresses of stores in all states, by what they are; none shows how equals differ."""

    def slow(handler: servers.Handler) -> None:
        time.sleep(_SLOW_SECONDS)

    def broken(handler: servers.Handler) -> bool:
        handler.send_error(500)
        return True

    with servers.proxy(port, slow) as slow_address, servers.proxy(port, broken) as broken_address:
        yield {
            "none": None,
            "well": f"http://127.0.0.1:{port}",
            f"{_SLOW_SECONDS:g} s per call": slow_address,
            "answers 500": broken_address,
            "away": f"http://127.0.0.1:{servers.free_port()}",
        }


def _in_a_process(work: Callable[..., Times], *arguments: object) -> Times:
    """Apart from the servers' threads, which would take turns with the training's."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(work, *arguments).result()


def _training(folder: Path, address: str | None, options: argparse.Namespace) -> Times:
    """Trains in pairs of turns, shown and not; returns the mean seconds per iteration of each."""
    project = _Project(folder)
    os.environ["MLFLOW_TRACKING_URI"] = address or ""
    shown = project.shown() if address else contextlib.nullcontext(live.show_nothing)
    times: Times = {_SHOWN: [], _HIDDEN: []}
    iterate = _iterate()
    with _without_messages(), shown as log:
        iteration = iterate(0, _START_SECONDS if address else options.seconds, log)[0]
        for pair in range(options.pairs):
            for name in (_SHOWN, _HIDDEN)[:: -1 if pair % 2 else 1]:
                with _others_stopped() if name == _HIDDEN else contextlib.nullcontext():
                    function = live.show_nothing if name == _HIDDEN else log
                    iteration, seconds = iterate(iteration, options.seconds, function)
                times[name].append(seconds)
    return times


def _iterate() -> Callable[[int, float, live.Log], tuple[int, float]]:
    """A small training that can go on; from an iteration, for so many seconds, shown by a log."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 64, 3), nn.ReLU(), nn.Conv2d(64, 16, 3))
    images = torch.randn(8, 16, 129, 129)

    def go_on(first: int, seconds: float, log: live.Log) -> tuple[int, float]:
        start, iteration = time.perf_counter(), first
        while iteration == first or time.perf_counter() - start < seconds:
            loss = network(images).square().mean()
            loss.backward()
            log(iteration, dict.fromkeys(_METRICS, float(loss)))
            iteration += 1
        return iteration, (time.perf_counter() - start) / (iteration - first)

    return go_on


@contextlib.contextmanager
def _others_stopped() -> Iterator[None]:
    """Stops the processes that this one has started, and lets them go on."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        child.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for child in children:
            child.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """What is told of a store in trouble is no news here; the relay inherits this."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _iterations(trainings: Mapping[str, Times]) -> list[list[str]]:
    return [
        [
            name,
            timing.milliseconds(times[_SHOWN]),
            timing.milliseconds(times[_HIDDEN]),
            str(timing.ratio(times, _HIDDEN, _SHOWN)),
        ]
        for name, times in trainings.items()
    ]


# ---- what came out


def _goals(clients: Times, trainings: Mapping[str, Times]) -> list[Goal]:
    ours = statistics.median(clients[_OURS])
    goals = [Goal("client time per 1000 iterations", ours, 1.0, at_most=True, unit=" s")]
    return goals + [
        Goal(f"an iteration, store: {name}", ratio.of_medians, 1.02, at_most=True)
        for name, times in trainings.items()
        for ratio in [timing.ratio(times, _HIDDEN, _SHOWN)]
    ]


if __name__ == "__main__":
    run(main)
