"""A checkpoint of the authors as a file of ours: a whole network, or its backbone alone.

Every variable becomes a tensor or is of a kind that is ignored on purpose; anything else, and
anything that is missing, is an error. A network that is almost the right one would still give label
maps, only worse ones.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pipeline.classes import Classes
from pipeline.files import atomic_file
from pipeline.importing import classes, names, networks
from pipeline.importing.config import Import
from pipeline.importing.names import Targets
from pipeline.importing.tensorflow_file import Variables
from pipeline.model import checkpoints, deeplab
from pipeline.model.backbone import Backbone
from pipeline.model.config import Network

_COUNTER = "num_batches_tracked"  # of torch alone; nothing here reads it


def declared(path: Path, variables: Variables, config: Import, out: Path) -> None:
    """Converts a checkpoint to what was declared of it.

    Args:
        path: of the checkpoint, for errors.
        variables: its content.
        config: what it is to become.
        out: written atomically.

    Raises:
        ValueError: the checkpoint is of something else.
    """
    found = networks.infer(path, shapes_of(variables))
    if config.network is None:
        save_backbone(path, variables, found.backbone, out)
        return
    networks.require_equal(path, config.network, found)
    table = None
    if config.classes is not None:
        table = classes.named(path, config.classes, found.num_classes)
    save_network(path, variables, config.network, table, out)


def save_network(
    path: Path, variables: Variables, network: Network, table: Classes | None, out: Path
) -> None:
    """Writes a whole network as a checkpoint.

    Args:
        path: of the authors' checkpoint, for errors.
        variables: its content.
        network: what it is of.
        table: of the logits' classes; None leaves the logits out.
        out: written atomically.

    Raises:
        ValueError: the variables are not those of this network.
    """
    model = deeplab.build(
        network,
        num_classes=1 if table is None else table.num_classes,
        output_stride=network.output_stride,
        seed=0,
    )
    state = model.state_dict()
    targets = names.of_network(network, logits=table is not None)
    ignored = names.IGNORED | ({} if table else names.LOGITS)
    converted = tensors(path, variables, targets, _shapes(state), ignored)
    model.load_state_dict(state | converted)
    checkpoints.save(out, model, network, table)


def save_backbone(path: Path, variables: Variables, backbone: str, out: Path) -> None:
    """Writes the weights of a backbone under timm's names, as a training starts from.

    Args:
        path: of the authors' checkpoint, for errors.
        variables: its content; the head of a whole network is left out.
        backbone: its name, as in a network's description.
        out: written atomically.

    Raises:
        ValueError: the variables are not those of this backbone.
    """
    with torch.device("meta"):  # for the shapes alone
        encoder = Backbone(backbone, 16, multi_grid=None, low_level_strides=[]).encoder
    state = encoder.state_dict()
    targets = names.of_backbone(backbone)
    ignored = names.IGNORED | names.HEAD
    converted = tensors(path, variables, targets, _shapes(state), ignored)
    counters = {name: torch.tensor(0) for name in state if name.endswith(_COUNTER)}
    with atomic_file(out) as partial:
        save_file(converted | counters, partial, {"format": "pt"})


def tensors(
    path: Path,
    variables: Variables,
    targets: Targets,
    shapes: Mapping[str, tuple[int, ...]],
    ignored: Mapping[str, str],
) -> dict[str, torch.Tensor]:
    """Variables in TensorFlow's names and layout -> tensors in ours.

    Args:
        path: of the checkpoint, for errors.
        variables: its content.
        targets: what becomes of which variable.
        shapes: of our tensors by name.
        ignored: kinds of variables that become none.

    Returns:
        Contiguous float32 tensors, one of each target.

    Raises:
        ValueError: variables are missing, left over, of another shape or type, or not finite;
            one message names them all.
    """
    left_over = variables.keys() - targets.keys()
    mistakes = {
        "missing": targets.keys() - variables.keys(),
        "left over": {name for name in left_over if names.kind_of(name, ignored) is None},
        "of other shape": set(),
        "not float32": set(),
        "not finite": set(),
    }
    converted = {}
    for variable in targets.keys() & variables.keys():
        array, target = variables[variable], targets[variable]
        expected = _their_shape(shapes[target.name], target.axes)
        if array.shape != expected:
            mistakes["of other shape"].add(f"{variable} {array.shape} instead of {expected}")
        elif array.dtype != np.float32:
            mistakes["not float32"].add(f"{variable} {array.dtype}")
        elif not np.isfinite(array).all():
            mistakes["not finite"].add(variable)
        else:
            ours = np.ascontiguousarray(array.transpose(target.axes))
            converted[target.name] = torch.from_numpy(ours)
    told = [
        f"{len(found)} {what} ({checkpoints.shown(sorted(found))})"
        for what, found in mistakes.items()
        if found
    ]
    if told:
        raise ValueError(f"{path}: variables do not fit the network: {'; '.join(told)}")
    return converted


def shapes_of(variables: Variables) -> dict[str, tuple[int, ...]]:
    """Shapes by name, in TensorFlow's layout."""
    return {name: array.shape for name, array in variables.items()}


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _their_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the variable that becomes a tensor of this shape."""
    return tuple(shape[axes.index(axis)] for axis in range(len(axes)))
