"""Starting a process for each GPU that the batch can be split over, by torchrun's own launcher.

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

from pipeline.model.config import Network
from pipeline.parallel import num_cores
from pipeline.training.config import Training, part_mistake
from pipeline.training.interruption import starter_watched

# A request to end is looked at between iterations and after a validation; until then a process that
# is to keep the state must not be killed.
_SHUTDOWN_VARIABLE, _SHUTDOWN_SECONDS = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600"


def num_processes(network: Network, training: Training) -> int:
    """How many processes this one should start: 1 where it should train itself.

    As many as there are GPUs, or the most that the batch can be split over. Says so if it is less,
    and where batch normalisation is of fewer images than it would be on one GPU.
    """
    num_gpus = 1 if "RANK" in os.environ else torch.cuda.device_count()
    mistakes = {n: part_mistake(network, training, num_devices=n) for n in range(1, num_gpus + 1)}
    usable = max((n for n, mistake in mistakes.items() if mistake is None), default=1)
    if usable < num_gpus:
        print(f"training on {usable} of {num_gpus} GPUs: {mistakes[num_gpus]}", file=sys.stderr)
    if usable > 1 and training.batch_norm == "trained":
        images = training.batch_size // usable // training.accumulation_steps
        print(
            f"training on {usable} GPUs: batch normalisation is of the {images} images of each; "
            "batch_norm: synchronised makes it that of all",
            file=sys.stderr,
        )
    return usable


def run(module: str, arguments: list[str], processes: int) -> None:
    """Runs a module in so many processes, a GPU each, and waits for them.

    Raises:
        ChildProcessError: one has failed; it has said why, and the others were ended.
        SystemExit: this process was told to end, or whoever started it is gone. The others were
            told so, and have kept the training's state.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // processes)))
    os.environ.setdefault(_SHUTDOWN_VARIABLE, _SHUTDOWN_SECONDS)
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
