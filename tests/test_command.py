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
    ("error", "reason"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.\nGPU 0 has"),
            "CUDA out of memory. Tried to allocate 2.50 GiB.",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)",
        ),
        (MemoryError("Unable to allocate 9.31 GiB"), "Unable to allocate 9.31 GiB"),
        (MemoryError(), "no more to be had"),
    ],
)
def test_memory_that_does_not_do_is_one_line_that_says_what_needs_less(error, reason, monkeypatch):
    line = ends_with(error, monkeypatch)
    assert line.startswith(f"error: out of memory ({reason}): less is needed with")
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
