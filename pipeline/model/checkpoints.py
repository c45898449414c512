"""Checkpoints: safetensors that carry what rebuilds their network, and nothing else.

No time, host or commit: equal trainings give equal bytes. Never a pickle.
"""

from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.classes import Classes
from pipeline.files import atomic_file
from pipeline.model import backbone, deeplab
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab

_MAX_NAMES_SHOWN = 5


def save(path: Path, model: DeepLab, network: Network, classes: Classes) -> None:
    """Writes weights, network description and class table, atomically."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    metadata = {"network": network.model_dump_json(), "classes": classes.to_json()}
    with atomic_file(path) as partial:
        save_file(tensors, partial, metadata)


def load(path: Path, *, output_stride: int | None) -> tuple[DeepLab, Network, Classes]:
    """Loads a checkpoint of ours as a network in evaluation mode, on the CPU.

    Args:
        path: written by `save`.
        output_stride: to evaluate at; None for the one it was trained at.

    Raises:
        ValueError: not a checkpoint of ours, or its tensors are not its network's.
    """
    tensors, metadata = _read(path)
    if not {"network", "classes"} <= metadata.keys():
        raise ValueError(f"{path}: holds weights but no network description")
    network = Network.model_validate_json(metadata["network"])
    classes = Classes.from_json(metadata["classes"])
    model = deeplab.build(
        network,
        num_classes=classes.num_classes,
        output_stride=output_stride or network.output_stride,
        seed=0,
    )
    _fill(model, tensors, path, unused=set())
    return model.eval(), network, classes


def start(model: DeepLab, path: Path, backbone_name: str) -> None:
    """Fills a network before training, from a checkpoint of ours or from backbone weights.

    Raises:
        ValueError: the weights do not fit; the message names the tensors.
    """
    tensors, metadata = _read(path)
    if "network" in metadata:
        _fill(model, tensors, path, unused=set())
    else:
        # Published weights also hold the classifier, which has no place here.
        unused = backbone.published_names(backbone_name)
        _fill(model.backbone.encoder, tensors, path, unused=unused)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())  # an open file is no mapping: it cannot be iterated
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error


def _fill(
    module: nn.Module, tensors: dict[str, torch.Tensor], path: Path, *, unused: set[str]
) -> None:
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - wanted.keys() - unused)
    unequal = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    mistakes = [
        f"{len(names)} {what} ({_shown(names)})"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (unequal, "of other shape"))
        if names
    ]
    if mistakes:
        raise ValueError(f"{path}: weights do not fit the network: " + "; ".join(mistakes))
    module.load_state_dict({name: tensors[name] for name in wanted})


def _shown(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES_SHOWN
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
