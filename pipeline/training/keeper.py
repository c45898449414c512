"""The memory of a training: its history line by line, and its state every so often.

The leader of a team keeps both; the others are told where to go on. A state is saved only after
the losses up to it have been read and found finite, so the last one is always a good one.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline import files, scratch
from pipeline.training import pace, states
from pipeline.training.states import State
from pipeline.training.team import Team

# Seconds between two states; what a sudden death costs at most. The variable is for whoever wants
# it otherwise; no number depends on it.
_SAVE_SECONDS = 300.0
_VARIABLE = "DEEPLAB_SAVE_SECONDS"
# In a history, what tells a validation from an iteration.
_VALIDATION = "validation_miou"
_PANELS = "panels"
# Says on what the validations in a history are.
_VALIDATED_ON = "validated_on"


class Keeper:
    """What is kept of a training in its folder; the leader alone has one.

    Attributes:
        seconds: that the training took up to its last state, over all interruptions.
        computed_on: what that state was computed on, here or before an interruption.
    """

    def __init__(self, team: Team, folder: Path | None, say: Callable[[str], None]) -> None:
        """`folder` is from `scratch`, or None; `say` is told where the training goes on."""
        self._team = team
        self._folder = folder
        self._say = say
        self._seconds = float(os.environ.get(_VARIABLE, _SAVE_SECONDS))
        self._saved_at = self._resumed_at = time.monotonic()
        self._seconds_before = 0.0
        self.seconds = 0.0
        self.computed_on = self._here = pace.machine(team.device, team.size)

    def validate_on(self, what: object) -> None:
        """Leaves validations out of the history that are of anything else.

        They belong to another result: their numbers would stand beside those of other images. The
        weights that they were made with are gone, so they cannot be made again. What is shown of
        the training is another run from here on.

        Args:
            what: says on what is validated, and can be written as JSON.
        """
        if not self._folder:
            return
        file, digest = self._folder / _VALIDATED_ON, files.digest_of_json(what)
        if file.exists() and file.read_text(encoding="utf-8") != digest:
            self._keep_records(lambda record: _VALIDATION not in record)
            shutil.rmtree(self._folder / _PANELS, ignore_errors=True)
            scratch.renew_identity(self._folder)
        files.write_text(file, digest)

    def restore(self, model: nn.Module, optimiser: torch.optim.SGD) -> int:
        """Gives back the latest state, in every process; returns the iteration to go on with."""
        state = None
        if self._folder:
            states.clear_partial(self._folder)
            state = states.latest(self._folder, self._say)
            num_done = state.iteration if state else 0
            self._keep_records(lambda record: _is_of(record, num_done))
        if state:
            states.restore(state.tensors, model, optimiser)
            self._say(f"going on after iteration {state.iteration} ({self._folder})")
            self.seconds = self._seconds_before = state.seconds
            self.computed_on = state.computed_on
        first = self._team.maximum(state.iteration if state else 0)
        if first and self._team.size > 1:
            self._share(model, optimiser)
        self._resumed_at = time.monotonic()
        return first

    def record(self, record: dict[str, Any]) -> None:
        """Adds a line to the history."""
        if self._folder:
            with self._history.open("a", encoding="utf-8") as history:
                history.write(json.dumps(record) + "\n")

    def record_validation(self, num_done: int, miou: float) -> None:
        """Adds the mIoU after so many updates to the history."""
        self.record({"iteration": num_done, _VALIDATION: miou})

    def best_miou(self) -> float:
        """The largest mIoU of all validations in the history, 0 where there is none."""
        return max((record.get(_VALIDATION, 0.0) for record in self._records()), default=0.0)

    def lacks_validation(self, num_done: int) -> bool:
        """Whether there is a history, and no validation after so many updates in it."""
        return self._folder is not None and not any(
            record["iteration"] == num_done for record in self._records() if _VALIDATION in record
        )

    def panels(self, iteration: int) -> Path | None:
        """The leader's folder for predictions that people look at while the training runs."""
        if not self._folder:
            return None
        folder = self._folder / _PANELS / f"{iteration:09d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def is_due(self) -> bool:
        """Whether the last state is old enough for another."""
        return time.monotonic() - self._saved_at >= self._seconds

    def save(self, iteration: int, model: nn.Module, optimiser: torch.optim.SGD) -> None:
        """Keeps the state after so many updates, and the history up to it.

        Raises:
            OSError: the disk is full, or read-only; the state before is untouched.
        """
        if self._folder:
            files.flush_to_disk(self._history)
            self.seconds = self._seconds_before + time.monotonic() - self._resumed_at
            self.computed_on = self._here
            tensors = states.capture(model, optimiser)
            state = State(iteration, self.seconds, self.computed_on, tensors)
            states.save(self._folder, state)
        self._saved_at = time.monotonic()

    def say_ended_early(self, iteration: int) -> None:
        """Says that the training ends before its time, and how it goes on."""
        self._say(
            f"ended by a signal after iteration {iteration}; the same command goes on from there"
        )

    def hand_over(self, history: Path) -> None:
        """Writes the history to where it belongs, and lets all states but the last go."""
        with files.atomic_file(history) as partial:
            shutil.copyfile(self._history, partial)
        if self._folder:
            states.keep(self._folder, 1)

    def _records(self) -> list[dict[str, Any]]:
        """The lines of the history up to one that is damaged.

        What stands behind a state is on the disk; lines after it may be torn where a program was
        killed, and anything where the machine lost its power.
        """
        if not self._folder or not self._history.exists():
            return []
        *lines, _ = self._history.read_bytes().split(b"\n")
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def _keep_records(self, is_kept: Callable[[dict[str, Any]], bool]) -> None:
        lines = [json.dumps(record) + "\n" for record in self._records() if is_kept(record)]
        files.write_text(self._history, "".join(lines))

    @property
    def _history(self) -> Path:
        return (self._folder or Path()) / "history.jsonl"

    def _share(self, model: nn.Module, optimiser: torch.optim.SGD) -> None:
        """Momentum comes from the leader; weights do when the network is made parallel."""
        for parameter in model.parameters():
            if parameter.requires_grad:
                buffer = optimiser.state[parameter].setdefault(
                    "momentum_buffer", torch.zeros_like(parameter)
                )
                self._team.from_leader(buffer)


def _is_of(record: dict[str, Any], num_done: int) -> bool:
    """Whether a line of the history is of the first so many updates, or of a validation of them."""
    if _VALIDATION in record:
        return bool(record["iteration"] <= num_done)
    return bool(record["iteration"] < num_done)
