"""The most memory that this process has held."""

import resource
import sys
from pathlib import Path


def peak_bytes(device: str) -> int:
    """Peak of the resident memory, or of the GPU's where `device` is "cuda"."""
    if device == "cuda":
        import torch  # takes some hundred megabytes, which a process without it does not have

        return torch.cuda.max_memory_allocated()
    # What `getrusage` says also counts the parent's memory at the time of the fork.
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) << 10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
