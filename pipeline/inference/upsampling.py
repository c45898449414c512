"""From coarse logits to the labels of all pixels, without computing all logits of all pixels.

Between four coarse logits with aligned corners, each class's logit is a weighted mean of its four:
a class that is the likeliest at all four corners of a cell is so in all of the cell. Label maps are
regions, so that most cells are of this kind, and the others alone are upsampled.

Rounding keeps the order of two means of the same weights, or makes them equal: the labels are those
of upsampling and argmax but where two logits differ by the last bit.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.model.layers import resize

# Share of the pixels beyond which upsampling all of them is faster.
_MAX_SHARE = 0.5


def labels(logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear upsampling with aligned corners, then the class of the highest logit.

    Args:
        logits: (N, K, h, w) float32, K <= 256.
        height: of the labels, H.
        width: of the labels, W.

    Returns:
        (N, H, W) uint8, the first of classes with equal logits.
    """
    factor = _factor(logits.shape[2], height)
    if logits.device.type == "cpu" and factor and factor == _factor(logits.shape[3], width):
        return torch.cat([_labels_by_cells(one, factor) for one in torch.split(logits, 1)])
    return likeliest(resize(logits, height, width))


def likeliest(scores: torch.Tensor) -> torch.Tensor:
    """(N, K, H, W) -> (N, H, W) uint8, the class of the highest score, the first of equal ones.

    On a CPU torch's own argmax takes four times as long over planes of classes, and half as long
    again as NumPy's over classes that stand together, as they do in what comes here.
    """
    if scores.device.type != "cpu":
        return scores.argmax(dim=1).to(torch.uint8)
    together = scores.permute(0, 2, 3, 1).contiguous()
    return torch.from_numpy(together.numpy().argmax(axis=-1).astype(np.uint8))


def _factor(coarse: int, fine: int) -> int:
    """How many fine pixels there are to a coarse one, 0 if not a whole number of them."""
    if coarse < 2 or (fine - 1) % (coarse - 1):
        return 0
    return (fine - 1) // (coarse - 1)


def _labels_by_cells(logits: torch.Tensor, factor: int) -> torch.Tensor:
    """(1, K, h, w) -> (1, (h - 1) * factor + 1, (w - 1) * factor + 1) uint8."""
    together = logits[0].permute(1, 2, 0).contiguous().numpy()
    best = together.argmax(axis=-1).astype(np.uint8)
    first = best[:-1, :-1]
    is_mixed = (first != best[:-1, 1:]) | (first != best[1:, :-1]) | (first != best[1:, 1:])
    rows, columns = np.nonzero(is_mixed)
    # A cell has the pixels on all of its edges, which neighbours compute alike.
    height, width = ((side - 1) * factor + 1 for side in best.shape)
    if len(rows) * (factor + 1) ** 2 > _MAX_SHARE * height * width:
        return likeliest(resize(logits, height, width))
    found = np.empty((height, width), np.uint8)
    found[...] = best.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]
    steps = np.arange(factor + 1)
    within = _mixed(together, rows, columns, factor)
    y = (rows * factor)[None, None] + steps[:, None, None]
    x = (columns * factor)[None, None] + steps[:, None]
    found[y, x] = within
    return torch.from_numpy(found[None])


def _mixed(
    logits: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    factor: int,
) -> NDArray[np.uint8]:
    """(h, w, K) logits and M cells -> (factor + 1, factor + 1, M) labels of their pixels."""
    corners = [logits[rows + down, columns + right] for down in (0, 1) for right in (0, 1)]
    share = np.arange(factor + 1, dtype=np.float32) / np.float32(factor)
    across = np.stack([1 - share, share])
    weights = np.einsum("ai,bj->ijab", across, across).reshape(-1, 4)
    means = weights @ np.stack(corners).reshape(4, -1)
    by_pixel = means.reshape(factor + 1, factor + 1, len(rows), logits.shape[2])
    found: NDArray[np.uint8] = by_pixel.argmax(axis=-1).astype(np.uint8)
    return found
