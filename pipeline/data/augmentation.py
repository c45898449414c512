"""Random scale, crop and flip, rendered in one resampling of the pixels the crop shows.

A view is drawn first and rendered afterwards, so that drawing is testable without pixels and the
image and its label cannot get different draws.

Source: DeepLab v3 Sec. 4.1; tensorflow/models research/deeplab, input_preprocess.py and
preprocess_utils.py: the scale is one of a list, both sides of the scaled image are padded at the
bottom and the right up to crop_size, the crop is uniform, the flip comes last, and resizing aligns
corners (bilinear for the image, nearest for the label).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.data.images import Image
from pipeline.label_map import LabelMap


@dataclass(frozen=True, slots=True)
class View:
    """What a training crop shows.

    Attributes:
        height: of the whole scaled image, pixels.
        width: of the whole scaled image, pixels.
        top: first row of the crop in the scaled image.
        left: first column of the crop in the scaled image.
        flip: whether the crop is mirrored left to right.
    """

    height: int
    width: int
    top: int
    left: int
    flip: bool


def draw_view(
    random: np.random.Generator,
    *,
    height: int,
    width: int,
    crop_size: int,
    scales: Sequence[float],
    flip_probability: float,
) -> View:
    """Draws a view of a (height, width) image."""
    scale = scales[int(random.integers(len(scales)))]
    scaled_height, scaled_width = max(1, int(height * scale)), max(1, int(width * scale))
    top = int(random.integers(max(scaled_height - crop_size, 0) + 1))
    left = int(random.integers(max(scaled_width - crop_size, 0) + 1))
    flip = bool(random.random() < flip_probability)
    return View(scaled_height, scaled_width, top, left, flip)


def render(
    image: Image, label: LabelMap, view: View, *, crop_size: int, ignore_index: int
) -> tuple[Image, LabelMap, tuple[int, int, int, int]]:
    """Renders a view.

    Args:
        image: (H, W, 3) uint8.
        label: (H, W) uint8.
        view: what to show.
        crop_size: side of the result.
        ignore_index: label of the padding.

    Returns:
        The (crop_size, crop_size, 3) image, whose padding is 0; the
        (crop_size, crop_size) label, whose padding is ignore_index; and the (top, left, bottom,
        right) box of what is not padding.
    """
    bottom = min(view.height - view.top, crop_size)
    right = min(view.width - view.left, crop_size)
    box = (0, crop_size - right, bottom, crop_size) if view.flip else (0, 0, bottom, right)
    pixels = np.zeros((crop_size, crop_size, 3), np.uint8)
    _resample(image, view, pixels[box[0] : box[2], box[1] : box[3]])
    rows = _nearest(label.shape[0], view.height)[view.top :][:bottom]
    columns = _nearest(label.shape[1], view.width)[view.left :][:right]
    values = label[rows][:, columns[::-1] if view.flip else columns]
    padded = np.full((crop_size, crop_size), ignore_index, np.uint8)
    padded[box[0] : box[2], box[1] : box[3]] = values
    return pixels, padded, box


def _resample(image: Image, view: View, shown: Image) -> None:
    """Writes a view of an image into `shown`, its (h, w, 3) part that is not padding."""
    height, width = shown.shape[:2]
    if image.shape[:2] == (view.height, view.width):  # at scale 1 nothing lies between pixels
        crop = image[view.top : view.top + height, view.left : view.left + width]
        shown[:] = crop[:, ::-1] if view.flip else crop
        return
    cv2.warpAffine(
        image,
        _affine_map(image.shape[0], image.shape[1], view, width),
        (width, height),
        dst=shown,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _nearest(length: int, scaled: int) -> NDArray[np.int64]:
    """(scaled,) nearest source positions, corners aligned, halves rounded up, in whole numbers.

    OpenCV rounds halves to even, and floating-point noise decides what is a half.
    """
    last = max(scaled - 1, 1)
    return (2 * np.arange(scaled) * (length - 1) + last) // (2 * last)


def _affine_map(height: int, width: int, view: View, shown: int) -> NDArray[np.float64]:
    """(2, 3) matrix from (x, y) of what is shown, so many pixels wide, to (x, y) of the source."""
    ratio_x = (width - 1) / max(view.width - 1, 1)
    ratio_y = (height - 1) / max(view.height - 1, 1)
    step = -1.0 if view.flip else 1.0
    first = view.left + (shown - 1 if view.flip else 0)
    return np.array([[step * ratio_x, 0.0, first * ratio_x], [0.0, ratio_y, view.top * ratio_y]])
