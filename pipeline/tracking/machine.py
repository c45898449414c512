"""What the machine does while a network is trained on it: processors, memory, GPUs."""

import contextlib
from collections.abc import Callable
from typing import Protocol, cast

from mlflow.system_metrics.metrics import cpu_monitor, gpu_monitor

# MLflow's pages show what begins so on a page of its own.
PREFIX = "system/"


class _Monitor(Protocol):
    """MLflow's monitors, which say nothing of their types."""

    def collect_metrics(self) -> None: ...

    def aggregate_metrics(self) -> dict[str, float]: ...

    def clear_metrics(self) -> None: ...


def watch() -> Callable[[], dict[str, float]]:
    """Begins to watch; returns what gives the metrics of this moment, by name.

    The names are MLflow's own: system/cpu_utilization_percentage, of all processors together,
    system/system_memory_usage_megabytes, system/gpu_0_utilization_percentage and so on.
    """
    kinds = [cpu_monitor.CPUMonitor, gpu_monitor.GPUMonitor]
    monitors = []
    for kind in cast(list[Callable[[], _Monitor]], kinds):
        with contextlib.suppress(ImportError, RuntimeError):  # no GPU, or one that tells nothing
            monitors.append(kind())

    def sample() -> dict[str, float]:
        metrics: dict[str, float] = {}
        for monitor in monitors:
            monitor.clear_metrics()
            monitor.collect_metrics()
            found = monitor.aggregate_metrics()
            metrics |= {PREFIX + name: float(value) for name, value in found.items()}
        return metrics

    sample()  # processors tell what they did since they were asked last
    return sample
