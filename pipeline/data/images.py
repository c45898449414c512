"""From encoded bytes to pixels, and from 8-bit pixels to what the network takes.

Pixels travel to the device as uint8 and are normalised there: a quarter of the bytes, and the
padding can be exactly zero afterwards, which no 8-bit colour equal to the mean pixel could be.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import label_map
from pipeline.label_map import LabelMap
from pipeline.pixels import decode
from pipeline.splits import Sample

Image = NDArray[np.uint8]


def decode_image(sample: Sample) -> Image:
    """Decodes a sample's image to (H, W, 3) RGB; a raw one is a view, which cannot be written to.

    Raises:
        ValueError: the image is damaged, or not of the size its header gave when it was packed.
    """
    place = f"{sample.source}: {sample.image_id}: image does not decode to"
    try:
        image = decode(sample.image)
    except ValueError as error:
        raise ValueError(f"{place} {sample.height}x{sample.width} pixels: {error}") from error
    if image.shape[:2] != (sample.height, sample.width):
        height, width = image.shape[:2]
        raise ValueError(
            f"{place} {sample.height}x{sample.width} pixels but to {height}x{width}: damaged"
        )
    return image


def decode_label(sample: Sample) -> LabelMap:
    """Decodes a sample's (H, W) label map.

    Raises:
        ValueError: the label map is damaged.
    """
    try:
        return label_map.decode(sample.label)
    except ValueError as error:
        raise ValueError(f"{sample.source}: {sample.image_id}: {error}") from error


def normalise(
    images: torch.Tensor, boxes: torch.Tensor, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Subtracts the mean pixel and divides by std; padding becomes exactly 0.

    Args:
        images: (N, H, W, 3) uint8 RGB, already on the device that computes.
        boxes: (N, 4) int64, (top, left, bottom, right) of the pixels that are not padding.
        mean: RGB mean pixel, in 0..255.
        std: RGB divisor, in 0..255.

    Returns:
        (N, 3, H, W) float32 in channels_last memory format.
    """
    height, width = images.shape[1:3]
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    offset = torch.tensor(mean, device=images.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(1, 3, 1, 1)
    top, left, bottom, right = boxes.T[:, :, None]
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    inside_rows = (rows >= top) & (rows < bottom)
    inside_columns = (columns >= left) & (columns < right)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return pixels.sub_(offset).div_(scale).mul_(inside)
