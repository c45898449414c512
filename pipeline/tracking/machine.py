"""How busy the machine is while it trains: processors, memory and GPUs, as MLflow calls them.

MLflow's own monitor counts its samples as steps and makes requests of its own. Here the step is
the iteration, as in every other curve, and the values travel in the relay's batches.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable

# MLflow's pages show metrics with this prefix apart, under "System metrics".
PREFIX = "system/"

# Called with the latest iteration; returns metrics by name, none while the last sample is recent.
Watch = Callable[[int], dict[str, float]]

_SECONDS = 10.0  # between two samples
_PATIENCE_SECONDS = 5.0  # with a driver that hangs
_MEGABYTE, _MEBIBYTE = 10**6, 1 << 20

_QUERY = "--query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw"


def watch() -> Watch:
    """Begins to watch this machine: the first sample is over the time since then."""
    processors = _processors()
    sampled_at, sampled = float("-inf"), -1

    def sample(iteration: int) -> dict[str, float]:
        nonlocal sampled_at, sampled
        now = time.monotonic()
        if iteration <= sampled or now - sampled_at < _SECONDS:
            return {}
        sampled_at, sampled = now, iteration
        return {f"{PREFIX}{name}": value for name, value in (processors() | _gpus()).items()}

    return sample


def _processors() -> Callable[[], dict[str, float]]:
    """What psutil knows; nothing where it is not installed."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return dict

    psutil.cpu_percent()  # each call is over the time since the last

    def sample() -> dict[str, float]:
        memory = psutil.virtual_memory()
        return {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": memory.percent,
        }

    return sample


def _gpus() -> dict[str, float]:
    """What NVIDIA's driver says of the GPUs that this process may use; nothing without one."""
    program = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if program is None or visible == "":
        return {}
    command = [program, _QUERY, "--format=csv,noheader,nounits"]
    command += [f"--id={visible}"] if visible else []
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_PATIENCE_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == _QUERY.count(",") + 1:
            found |= _gpu(*values)
    return found


def _gpu(index: str, busy: str, used: str, total: str, power: str) -> dict[str, float]:
    """Metrics of a line of nvidia-smi (percent, MiB, W); what a GPU does not report is left out."""
    found = {}
    with contextlib.suppress(ValueError):
        found["utilization_percentage"] = float(busy)
    with contextlib.suppress(ValueError):
        found["power_usage_watts"] = float(power)
    with contextlib.suppress(ValueError):
        found["memory_usage_megabytes"] = float(used) * _MEBIBYTE / _MEGABYTE
        found["memory_usage_percentage"] = 100 * float(used) / float(total)
    return {f"gpu_{index}_{name}": value for name, value in found.items()}
