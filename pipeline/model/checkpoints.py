"""Checkpoints: safetensors that carry what rebuilds their network, and nothing else.

No time, host or commit: equal trainings give equal bytes. Never a pickle. One without a classifier
has no table of classes either: it starts a training on any.
"""

import json
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline import params
from pipeline.classes import Classes
from pipeline.files import atomic_file
from pipeline.model import backbone, deeplab
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab

_DESCRIPTION = "deeplab"  # name of the file's one entry of metadata
_CLASSIFIER = {"classifier.weight", "classifier.bias"}
_MAX_NAMES_SHOWN = 5


def save(path: Path, model: DeepLab, network: Network, classes: Classes | None) -> None:
    """Writes weights, network description and class table, atomically.

    Args:
        path: of the checkpoint.
        model: the weights.
        network: its description.
        classes: those that it distinguishes, or None to leave the classifier out.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    if classes is None:
        tensors = {name: tensor for name, tensor in tensors.items() if name not in _CLASSIFIER}
    table = None if classes is None else json.loads(classes.to_json())
    description = {"network": network.model_dump(), "classes": table}
    with atomic_file(path) as partial:
        # One entry: safetensors writes several in random order.
        save_file(tensors, partial, {_DESCRIPTION: json.dumps(description)})


def load(path: Path, *, output_stride: int | None) -> tuple[DeepLab, Network, Classes]:
    """Loads a checkpoint as a network in evaluation mode, on the CPU.

    Args:
        path: written by `save`: trained here, or imported.
        output_stride: 8, 16 or 32, to evaluate at; None for the one it was trained at.

    Returns:
        The network, which takes `data.images.normalise`d images; its description; its classes.

    Raises:
        ValueError: not a checkpoint of ours, its tensors are not its network's, or it has no
            classifier.
    """
    tensors, metadata = _read(path)
    network, classes = _description(path, metadata)
    if classes is None:
        raise ValueError(
            f"{path}: has no classifier; it can start a training, but cannot be evaluated"
        )
    model = deeplab.build(
        network,
        num_classes=classes.num_classes,
        output_stride=output_stride or network.output_stride,
        seed=0,
    )
    _fill(model, tensors, path, unused=set())
    return model.eval(), network, classes


def start(model: DeepLab, path: Path, backbone_name: str, classes: Classes) -> None:
    """Fills a network before training, from a checkpoint of ours or from backbone weights.

    Args:
        model: to be filled; keeps its own classifier where the checkpoint has none.
        path: of the weights.
        backbone_name: as in the network's description.
        classes: of the data that `model` is to be trained on.

    Raises:
        ValueError: the weights do not fit, the message names the tensors; or a checkpoint is of
            other classes.
    """
    tensors, metadata = _read(path)
    if _DESCRIPTION in metadata:
        trained_on = _description(path, metadata)[1]
        if trained_on is None:
            tensors |= {name: model.state_dict()[name] for name in _CLASSIFIER}
        else:
            _require_equal(trained_on, classes, path)
        _fill(model, tensors, path, unused=set())
    else:
        encoder = model.backbone.encoder
        unused = backbone.unused_names(backbone_name)
        _fill(encoder, _with_counters(tensors, encoder), path, unused=unused)


def drop_classifier(path: Path, out: Path) -> None:
    """Writes a checkpoint's weights without its classifier, for a training on other classes.

    Raises:
        ValueError: not a checkpoint of ours, or it has no classifier.
    """
    model, network, _ = load(path, output_stride=None)
    save(out, model, network, None)


def _require_equal(trained_on: Classes, classes: Classes, path: Path) -> None:
    try:
        trained_on.require_equal(classes, str(path), "the data to train on")
    except ValueError as error:
        raise ValueError(f"{error}; make drop-classifier writes it without its classes") from None


def _description(path: Path, metadata: dict[str, str]) -> tuple[Network, Classes | None]:
    if _DESCRIPTION not in metadata:
        raise ValueError(f"{path}: holds weights but no network description")
    description = json.loads(metadata[_DESCRIPTION])
    network = params.validate(path, description["network"], Network, "network")
    if description["classes"] is None:
        return network, None
    return network, Classes.from_json(json.dumps(description["classes"]))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())  # an open file is no mapping: it cannot be iterated
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from error


def _with_counters(tensors: dict[str, torch.Tensor], module: nn.Module) -> dict[str, torch.Tensor]:
    """Weights with the counters of batches that old or converted files lack, as torch adds them.

    Nothing reads them: batch normalisation here has a momentum.
    """
    counters = [name for name in module.state_dict() if name.endswith(".num_batches_tracked")]
    return {name: torch.tensor(0) for name in counters} | tensors


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
        f"{len(names)} {what} ({shown(names)})"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (unequal, "of other shape"))
        if names
    ]
    if mistakes:
        raise ValueError(f"{path}: weights do not fit the network: " + "; ".join(mistakes))
    module.load_state_dict({name: tensors[name] for name in wanted})


def shown(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _MAX_NAMES_SHOWN
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
