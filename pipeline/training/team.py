"""The devices that train one network together: one process each, or this process alone.

A process finds its place in the variables that torchrun sets, whoever has set them: the stage
itself on a machine with several GPUs, or a cluster's scheduler. The global batch does not depend on
how many there are.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline import devices

# Longer than the leader ever keeps the others waiting: it digests the split, tens of gigabytes, and
# saves. A process that has died is noticed by torchrun at once, one that hangs after this.
_PATIENCE = datetime.timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Team:
    """This process among those that train together.

    Attributes:
        rank: of this process; 0 is the leader, who alone writes.
        size: number of processes, a device each.
        device: of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_leader(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, num_items: int) -> range:
        """This process's part of so many items, consecutive ones; size divides them."""
        each = num_items // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in each of them."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def maximum(self, number: int) -> int:
        """The largest of all processes' numbers, in each of them."""
        tensor = torch.tensor(number, device=self.device)
        return int(self._reduced(tensor, dist.ReduceOp.MAX))

    def from_leader(self, tensor: torch.Tensor) -> None:
        """Fills a tensor on this device with the leader's, in place."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)

    def parallel(self, model: nn.Module) -> nn.Module:
        """The network, with the gradients of all processes averaged in each; weights as leader."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)

    def _reduced(self, tensor: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        if self.size == 1:
            return tensor
        tensor = tensor.clone()
        dist.all_reduce(tensor, operation)
        return tensor


def accumulating(parallel: nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
    """Keeps a part's gradients in this process until the last part of a batch."""
    if isinstance(parallel, DistributedDataParallel) and not is_last:
        return parallel.no_sync()
    return contextlib.nullcontext()


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """Joins the processes that torchrun's variables tell of; without them this one is alone."""
    ours = devices.default()
    if "RANK" not in os.environ:
        yield Team(0, 1, ours)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if ours.type == "cuda":
        ours = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(ours)
    dist.init_process_group("nccl" if ours.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Team(rank, size, ours)
    finally:
        dist.destroy_process_group()
