"""What a program says of an error, and what it ends with."""

import sys

import pytest
import torch

from pipeline import command


def ends_with(error, monkeypatch):
    """What a program that meets an error exits with."""

    def main() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as caught:
        command.run(main)
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.yaml: b: 3 is not a size"), "error: a.yaml: b: 3 is not a size"),
        (FileNotFoundError(2, "No such file", "a.png"), "error: a.png: No such file"),
        (FloatingPointError("the loss is nan"), "error: the loss is nan"),
    ],
)
def test_what_a_user_can_cause_is_one_line(error, line, monkeypatch):
    assert ends_with(error, monkeypatch) == line


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has 1 GiB."),
        RuntimeError("[enforce fail at CPUAllocator] can't allocate memory: 9 bytes. Error 12"),
        MemoryError("Unable to allocate 9 GiB for an array"),
    ],
)
def test_memory_that_does_not_do_is_one_line_that_says_what_needs_less(error, monkeypatch):
    line = ends_with(error, monkeypatch)
    assert line.startswith("error: out of memory (")
    assert "a smaller inference.batch_size; in training with more accumulation_steps" in line
    assert "\n" not in line


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def main() -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        command.run(main)


def test_a_traceback_can_be_asked_for(monkeypatch):
    def main() -> None:
        raise ValueError("what")

    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setenv(command.TRACEBACK_VARIABLE, "1")
    with pytest.raises(ValueError, match="what"):
        command.run(main)
