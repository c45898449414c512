"""Starting one process for each GPU of this machine, by torchrun's own launcher.

Several machines are not ours to start: there a scheduler runs torchrun, whose variables say that
this process is one of many already.
"""

import os
import signal
import sys

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipeline.training.interruption import starter_watched


def is_wanted() -> bool:
    """Whether this process should start others, and not train itself."""
    return "RANK" not in os.environ and torch.cuda.device_count() > 1


def run(module: str, arguments: list[str]) -> None:
    """Runs a module in a process for each GPU, and waits for them.

    Raises:
        ChildProcessError: one has failed; it has said why, and the others were ended.
        SystemExit: this process was told to end, or whoever started it is gone. The others were
            told so, and have kept the training's state.
    """
    processes = torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        with starter_watched(lambda: os.kill(os.getpid(), signal.SIGTERM)):
            elastic_launch(config, sys.executable)("-m", module, *arguments)
    except SignalException as error:
        raise SystemExit(128 + error.sigval) from error
    except ChildFailedError as error:
        ranks = ", ".join(str(rank) for rank in error.failures)
        raise ChildProcessError(f"the training ended in the process of rank {ranks}") from error
