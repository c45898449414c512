"""Loss, optimiser and learning-rate schedule of DeepLab v3 (Sec. 4.1), which v3+ follows.

Source: tensorflow/models research/deeplab, train.py and utils/train_utils.py (March 2018).
"""

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.model.deeplab import DeepLab
from pipeline.training.config import Training


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """Mean cross-entropy over the batch's pixels that are not void; 0 when all are.

    Args:
        logits: (N, K, H, W) float32, upsampled to the labels' size: ground truth is never
            downsampled (v3 Sec. 4.1).
        labels: (N, H, W) int64.
        ignore_index: of void.
    """
    total = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")
    return total / (labels != ignore_index).sum().clamp(min=1)


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


def _is_depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups > 1 and layer.groups == layer.in_channels


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets each group's learning rate to `rate` times its multiplier."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiplier"]
