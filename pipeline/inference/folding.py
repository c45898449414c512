"""Batch normalisation folded into the convolutions before it, for inference on a CPU.

In evaluation mode batch normalisation is a multiplication and an addition per channel, which the
convolution before it can do with other weights and a bias: a pass over each map less. Weights are
folded in double precision, so that labels move by float32's rounding alone.

Which batch normalisation follows which convolution is not read off names, of which every network
of timm has its own, but off one pass of a small image: it takes the very tensor that the
convolution gave. What was folded is then held to what it was before.
"""

import torch
from torch import nn

from pipeline.model.deeplab import DeepLab

# Of the largest logit; a fold that is wrong is off by far more, rounding by far less.
_MAX_DIFFERENCE = 1e-3


@torch.inference_mode()
def fold_batch_norm(model: DeepLab) -> int:
    """Folds in place every batch normalisation that directly follows a convolution.

    Args:
        model: in evaluation mode, float32, on the CPU.

    Returns:
        How many were folded; 0, and the model as it was, where the result was not the same.
    """
    probe = torch.rand(1, 3, 65, 65, generator=torch.Generator().manual_seed(0)) * 4 - 2
    probe = probe.contiguous(memory_format=torch.channels_last)
    pairs, expected = _pairs(model, probe)
    kept = [(c, c.weight, c.bias) for c, _ in pairs]
    places = _places(model, {batch_norm for _, batch_norm in pairs})
    for convolution, batch_norm in pairs:
        _fold(convolution, batch_norm)
        for parent, name in places[batch_norm]:
            setattr(parent, name, _remainder(batch_norm))
    found = model.coarse_logits(probe)
    if (found - expected).abs().max() <= _MAX_DIFFERENCE * expected.abs().max():
        return len(pairs)
    for convolution, weight, bias in kept:
        convolution.weight, convolution.bias = weight, bias
    for batch_norm, owners in places.items():
        for parent, name in owners:
            setattr(parent, name, batch_norm)
    return 0


def _pairs(
    model: DeepLab, probe: torch.Tensor
) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], torch.Tensor]:
    """Convolutions and what normalises their result, each used once; and the probe's logits."""
    # Tensors are held until the end: an address that is free again could be another's.
    given: list[tuple[nn.Conv2d, torch.Tensor]] = []
    taken: list[tuple[nn.BatchNorm2d, torch.Tensor]] = []

    def after(module: nn.Module, _: tuple[torch.Tensor, ...], result: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            given.append((module, result))

    def before(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, nn.BatchNorm2d):
            taken.append((module, arguments[0]))

    hooks = [
        handle
        for module in model.modules()
        for handle in (
            module.register_forward_hook(after),
            module.register_forward_pre_hook(before),
        )
    ]
    try:
        logits = model.coarse_logits(probe)
    finally:
        for hook in hooks:
            hook.remove()
    convolutions, batch_norms = ([m for m, _ in calls] for calls in (given, taken))
    by_result = {id(result): convolution for convolution, result in given}
    return [
        (convolution, batch_norm)
        for batch_norm, tensor in taken
        if (convolution := by_result.get(id(tensor))) is not None
        and convolutions.count(convolution) == batch_norms.count(batch_norm) == 1
        and sum(tensor is other for _, other in taken) == 1
    ], logits


def _places(
    model: nn.Module, modules: set[nn.BatchNorm2d]
) -> dict[nn.BatchNorm2d, list[tuple[nn.Module, str]]]:
    """Where each of these modules stands: its owners and the name it has there."""
    places: dict[nn.BatchNorm2d, list[tuple[nn.Module, str]]] = {m: [] for m in modules}
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and child in places:
                places[child].append((parent, name))
    return places


def _fold(convolution: nn.Conv2d, batch_norm: nn.BatchNorm2d) -> None:
    if batch_norm.running_mean is None or batch_norm.running_var is None:
        raise ValueError("batch normalisation without running statistics cannot be folded")
    scale = (batch_norm.running_var.double() + batch_norm.eps).rsqrt() * batch_norm.weight.double()
    shift = batch_norm.bias.double() - batch_norm.running_mean.double() * scale
    if convolution.bias is not None:
        shift += convolution.bias.double() * scale
    weight = convolution.weight.double() * scale[:, None, None, None]
    folded = weight.float().contiguous(memory_format=torch.channels_last)
    convolution.weight = nn.Parameter(folded, requires_grad=False)
    convolution.bias = nn.Parameter(shift.float(), requires_grad=False)


def _remainder(batch_norm: nn.BatchNorm2d) -> nn.Module:
    """What is left of batch normalisation: nothing, or what timm's does after it."""
    act = getattr(batch_norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()
