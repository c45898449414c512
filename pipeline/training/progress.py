"""What a person sees of a training: a bar, and a line at the end."""

import resource
import sys
import time
from types import TracebackType
from typing import Self

import torch
from tqdm import tqdm

from pipeline.model.deeplab import DeepLab
from pipeline.training import throughput
from pipeline.training.config import Training
from pipeline.training.team import Team

_GIB = 1 << 30
# ru_maxrss is in KiB on Linux and in bytes on macOS.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Progress:
    """The bar of one training; shown by the leader alone."""

    def __init__(self, key: str, training: Training, team: Team) -> None:
        """`key` names the training."""
        self._training = training
        self._team = team
        self._iterations = 0
        self._bar = tqdm(
            total=training.max_iterations,
            desc=key,
            unit="it",
            smoothing=0.05,
            disable=not team.is_leader,
        )
        self._started = time.perf_counter()
        self._seconds = 0.0

    def __enter__(self) -> Self:
        """Starts the clock."""
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the bar as it is."""
        self._bar.close()

    def say(self, line: str) -> None:
        """Writes a line above the bar."""
        if self._team.is_leader:
            tqdm.write(f"{self._bar.desc}: {line}", file=sys.stderr)

    def update(self, iteration: int, loss: float, learning_rate: float) -> None:
        """Shows that an iteration is done."""
        if not self._iterations:  # where an interrupted training goes on
            self._bar.initial = self._bar.n = iteration
        self._iterations += 1
        self._bar.update()
        self._seconds = time.perf_counter() - self._started
        images_per_second = self._iterations * self._training.batch_size / self._seconds
        self._bar.set_postfix_str(
            f"loss {loss:.3f}, rate {learning_rate:.2g}, {images_per_second:.1f} images/s, "
            f"{self._memory() / _GIB:.1f} GiB",
            refresh=False,
        )

    def finish(self, model: DeepLab) -> None:
        """Says how fast it was."""
        if not self._team.is_leader or not self._iterations:
            return
        try:
            summary = throughput.summary(
                model,
                self._training,
                iterations=self._iterations,
                seconds=self._seconds,
                devices=self._team.size,
            )
        except RuntimeError as error:  # a device without room for it, a backbone it cannot count
            summary = f"how fast it was is not known: {' '.join(str(error).split())}"
        self.say(summary)

    def _memory(self) -> int:
        """Bytes at the most: of the GPU, or of this process on a CPU."""
        if self._team.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._team.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
