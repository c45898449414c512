"""States of a training on disk, and its history beside them.

A state is a safetensors file with weights, momentum and the number of updates. It is written
under another name and flushed before it takes its own, which holds the digest of its bytes: a
state that is there by name was written whole, and one that a disk has spoilt since is recognised.
The last two are kept, so that there is one to fall back on.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from pipeline import files
from pipeline.training.pace import Machine

_NAME = re.compile(r"state-(\d{9})-([0-9a-f]{32})\.safetensors")
_METADATA = "state"  # the file's one entry: safetensors writes several in random order
_PLACE = ("iteration", "seconds", "computed_on")
_KEPT = 2


@dataclass(frozen=True, slots=True)
class State:
    """A training between two iterations.

    Attributes:
        iteration: number of updates made.
        seconds: that these took.
        computed_on: what the last of them was computed on.
        tensors: of network and optimiser, by name.
    """

    iteration: int
    seconds: float
    computed_on: Machine
    tensors: dict[str, torch.Tensor]


def save(folder: Path, state: State) -> None:
    """Writes a state; the one before stays, whatever becomes of this one.

    Raises:
        OSError: the disk is full, or read-only.
    """
    metadata = {name: getattr(state, name) for name in _PLACE}
    content = safetensors.torch.save(state.tensors, {_METADATA: json.dumps(metadata)})
    name = f"state-{state.iteration:09d}-{_digest(content)}.safetensors"
    with files.atomic_file(folder / name) as partial:
        partial.write_bytes(content)
    keep(folder, _KEPT)


def keep(folder: Path, number: int) -> None:
    """Removes all states but the newest so many."""
    for old in _newest_first(folder)[number:]:
        old.unlink()


def latest(folder: Path, say: Callable[[str], None]) -> State | None:
    """Reads the newest state that is whole, or returns None where there is none.

    Args:
        folder: of the training.
        say: is told of a state that is damaged.
    """
    for path in _newest_first(folder):
        try:
            return _read(path)
        except (ValueError, OSError, safetensors.SafetensorError) as error:
            say(f"{path}: damaged ({error}); going on from the state before it")
    return None


def clear_partial(folder: Path) -> None:
    """Removes what a save that was killed has left."""
    for path in folder.glob(".*.partial"):
        path.unlink()


def capture(model: nn.Module, optimiser: torch.optim.SGD) -> dict[str, torch.Tensor]:
    """Weights and momentum by name, on the CPU."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter in optimiser.state:
            tensors[f"momentum.{name}"] = optimiser.state[parameter]["momentum_buffer"]
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def restore(tensors: dict[str, torch.Tensor], model: nn.Module, optimiser: torch.optim.SGD) -> None:
    """Gives weights and momentum back, each to the device and memory layout that it came from."""
    model.load_state_dict(
        {
            name.removeprefix("model."): tensor
            for name, tensor in tensors.items()
            if name.startswith("model.")
        }
    )
    for name, parameter in model.named_parameters():
        if f"momentum.{name}" in tensors:
            buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
            optimiser.state[parameter]["momentum_buffer"] = buffer


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def _read(path: Path) -> State:
    match = _NAME.fullmatch(path.name)
    content = path.read_bytes()
    if match is None or _digest(content) != match[2]:
        raise ValueError("its bytes are not those that were written")
    with safetensors.safe_open(path, framework="pt") as file:
        names = list(file.keys())  # an open file is no mapping: it cannot be iterated
        place = json.loads(file.metadata()[_METADATA])
        tensors = {name: file.get_tensor(name) for name in names}
    return State(**place, tensors=tensors)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
