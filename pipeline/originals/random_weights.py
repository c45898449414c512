"""Random weights in the form of published ones: a timm state dict as safetensors.

With them a model starts where one without pre-training starts, yet through the same code.
"""

import difflib

import safetensors.torch
import timm
import torch


def generate(backbone: str, seed: int) -> bytes:
    """Initialises a whole timm model, classifier included; the same seed gives the same bytes.

    Raises:
        ValueError: timm has no such model.
    """
    if not timm.is_model(backbone):
        similar = difflib.get_close_matches(backbone, timm.list_models(), n=3)
        hint = f"; similar are {', '.join(similar)}" if similar else ""
        raise ValueError(f"timm {timm.__version__} has no model {backbone!r}{hint}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = timm.create_model(backbone, pretrained=False)
        except RuntimeError as error:  # the part behind the dot is none of its weights
            raise ValueError(str(error)) from error
    # Clones: safetensors refuses tensors that share memory.
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return bytes(safetensors.torch.save(tensors, metadata={"format": "pt"}))
