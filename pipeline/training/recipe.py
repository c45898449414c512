"""Loss, optimiser and learning-rate schedule of DeepLab v3 (Sec. 4.1), which v3+ follows.

Source: tensorflow/models research/deeplab, train.py and utils/train_utils.py (March 2018).
"""

import numpy as np
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.model import depthwise
from pipeline.model.deeplab import DeepLab
from pipeline.training.config import Training

_TINY = torch.finfo(torch.float32).tiny


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    ignore_index: int,
    class_weights: torch.Tensor | None,
    total_weight: torch.Tensor,
) -> torch.Tensor:
    """A part's share of a batch's mean cross-entropy; 0 when no pixel has a weight.

    Args:
        logits: (N, K, H, W) float32, upsampled to the labels' size: ground truth is never
            downsampled (v3 Sec. 4.1).
        labels: (N, H, W) int64.
        ignore_index: of void.
        class_weights: (K,) float32, or None for the paper's mean.
        total_weight: of the whole batch, from `total_weight`.
    """
    total = F.cross_entropy(
        logits, labels, weight=class_weights, ignore_index=ignore_index, reduction="sum"
    )
    return total / total_weight.clamp(min=1 if class_weights is None else _TINY)


def total_weight(
    labels: torch.Tensor, ignore_index: int, class_weights: torch.Tensor | None
) -> torch.Tensor:
    """What a batch's sum of losses is divided by: the pixels that are not void, or their weights.

    With weights the loss is torch's own weighted mean: weights of 2 for all classes are weights
    of 1.
    """
    scored = labels != ignore_index
    if class_weights is None:
        return scored.sum()
    return (class_weights[labels.where(scored, 0)] * scored).sum()


def prepare(model: DeepLab, training: Training, device: torch.device) -> DeepLab:
    """Readies a network for training on a device.

    Raises:
        ValueError: this device cannot train it in bfloat16.
    """
    model = model.to(device)
    if device.type == "cpu":
        depthwise.replace(model)
        if training.precision == "bfloat16":
            depthwise.require_right_gradients(model)
    if training.batch_norm == "synchronised":
        # timm's, as its layers of batch normalisation and ReLU in one would lose the ReLU.
        model = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if training.batch_norm == "frozen":
        for layer in _batch_norms(model):
            layer.requires_grad_(requires_grad=False)
    set_mode(model, training)
    return model


def set_mode(model: DeepLab, training: Training) -> None:
    """Puts a network into training mode, save for batch normalisation that is frozen."""
    model.train()
    if training.batch_norm in ("frozen_statistics", "frozen"):
        for layer in _batch_norms(model):
            layer.eval()


def set_dropout(model: DeepLab, training: Training, iteration: int, positions: range) -> None:
    """Makes dropout a pure function of seed, iteration and each image's position in the batch."""
    if model.aspp is not None:
        model.aspp.dropout.seeds = [
            int(np.random.SeedSequence((training.seed, iteration, k)).generate_state(1)[0])
            for k in positions
        ]


def is_finite(model: DeepLab) -> bool:
    """Whether all weights and statistics are finite numbers."""
    tensors = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def learning_rate(iteration: int, training: Training) -> float:
    """Poly schedule: base_learning_rate at iteration 0, falling to zero at max_iterations."""
    remaining = 1.0 - iteration / training.max_iterations
    return float(training.base_learning_rate * remaining**training.power)


def build_optimiser(model: DeepLab, training: Training) -> torch.optim.SGD:
    """SGD with momentum, not Nesterov's, one group per learning-rate multiplier and weight decay.

    Weight decay falls on dense and pointwise kernels alone; depthwise kernels, batch normalisation
    and biases have none. Each group keeps its multiplier under "multiplier".
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for part_name, part in model.named_children():
        in_backbone = part_name == "backbone"
        part_multiplier = training.backbone_learning_rate_multiplier if in_backbone else 1.0
        for layer in part.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                multiplier, weight_decay = part_multiplier, 0.0
                if isinstance(layer, nn.Conv2d) and name == "bias":
                    multiplier *= training.bias_learning_rate_multiplier
                elif isinstance(layer, nn.Conv2d) and not _is_depthwise(layer):
                    weight_decay = training.weight_decay
                groups.setdefault((multiplier, weight_decay), []).append(parameter)
    return torch.optim.SGD(
        [
            {"params": parameters, "multiplier": multiplier, "weight_decay": weight_decay}
            for (multiplier, weight_decay), parameters in groups.items()
        ],
        lr=training.base_learning_rate,
        momentum=training.momentum,
        nesterov=False,
        fused=True,
    )


def _batch_norms(model: DeepLab) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]


def _is_depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups > 1 and layer.groups == layer.in_channels


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets each group's learning rate to `rate` times its multiplier."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiplier"]
