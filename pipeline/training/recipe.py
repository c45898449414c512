"""Loss, optimiser and learning-rate schedule of DeepLab v3 (Sec. 4.1), which v3+ follows.

Source: tensorflow/models research/deeplab, train.py and utils/train_utils.py (March 2018).
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from pipeline.classes import Classes
from pipeline.label_map import LabelMap
from pipeline.model.deeplab import DeepLab
from pipeline.training.config import Training

# Ours: no class is learned this many times faster or slower than the median class. Without a bound
# one image with ten pixels of a class would give these ten the weight of all others.
_MAX_CLASS_WEIGHT = 10.0


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    ignore_index: int,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy over the batch's pixels that are not void; 0 when all are.

    With class weights it is the weighted mean, as torch's own: divided by the sum of the pixels'
    weights, so that weights of 2 for all classes are weights of 1.

    Args:
        logits: (N, K, H, W) float32, upsampled to the labels' size: ground truth is never
            downsampled (v3 Sec. 4.1).
        labels: (N, H, W) int64.
        ignore_index: of void.
        class_weights: (K,) float32, or None for the paper's mean.
    """
    total = F.cross_entropy(
        logits, labels, weight=class_weights, ignore_index=ignore_index, reduction="sum"
    )
    scored = labels != ignore_index
    if class_weights is None:
        return total / scored.sum().clamp(min=1)
    weight = (class_weights[labels.where(scored, 0)] * scored).sum()
    return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)


def class_weights(
    training: Training, classes: Classes, labels: Iterable[LabelMap]
) -> list[float] | None:
    """The weight of each class in the loss, or None where all pixels weigh the same.

    "frequency" is median-frequency balancing: the median of the classes' frequencies divided by
    the class's own, which is the share of its pixels in the images that have any. It is held
    within 1/10 and 10; a class that does not occur weighs 1, which no pixel ever uses.

    Source: Eigen and Fergus, arXiv 1411.4734, for semantic labels; taken up by SegNet, arXiv
    1511.00561.

    Args:
        training: the recipe.
        classes: of the split.
        labels: (H, W) label maps of the split; read for "frequency" alone.

    Raises:
        ValueError: not a weight for each class, or no weight is positive.
    """
    if training.class_weights == "none":
        return None
    if training.class_weights == "frequency":
        return _median_frequency_weights(classes.num_classes, labels)
    weights = training.class_weights
    if len(weights) != classes.num_classes or not any(weights):
        raise ValueError(
            f"training.class_weights: {weights} is not a weight for each of {classes.num_classes} "
            f"classes ({', '.join(classes.names)}), one of them positive"
        )
    return weights


def _median_frequency_weights(num_classes: int, labels: Iterable[LabelMap]) -> list[float]:
    pixels = np.zeros(num_classes, np.int64)  # of each class
    pixels_around = np.zeros(num_classes, np.int64)  # that are not void, in images that have it
    for label in labels:
        counts: NDArray[np.int64] = np.bincount(label.ravel(), minlength=256)[:num_classes]
        pixels += counts
        pixels_around += np.where(counts > 0, counts.sum(), 0)
    occurs = pixels > 0
    if not occurs.any():
        raise ValueError("training.class_weights: all pixels of all labels are void")
    frequency = pixels[occurs] / pixels_around[occurs]
    weights = np.ones(num_classes)
    weights[occurs] = np.clip(
        np.median(frequency) / frequency, 1 / _MAX_CLASS_WEIGHT, _MAX_CLASS_WEIGHT
    )
    return [float(weight) for weight in weights]


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
