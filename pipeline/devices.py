"""Where a network computes when nobody says: on the GPU if there is one."""

import torch


def default() -> torch.device:
    """The GPU, or the CPU where there is none; float32 means the same on both.

    cuDNN would otherwise multiply float32 with the 10 bits of TF32, so that a score would be of the
    rounding too, and not of the weights alone.
    """
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
