"""Batches for training and for inference, made by threads ahead of the device.

The sample and every random choice of iteration i, position k are pure functions of (seed, i, k).
Order and augmentation therefore do not depend on the number of threads, on how a batch is split
over devices, or on where an interrupted training was resumed.

All threads share one memory-mapped split.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data import augmentation, images
from pipeline.parallel import Item, Result, map_ahead
from pipeline.splits import Split

_BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """N images of equal size.

    Attributes:
        image_ids: N ids.
        images: (N, H, W, 3) uint8 RGB; padding holds arbitrary pixels.
        boxes: (N, 4) int64, (top, left, bottom, right) of what is not padding.
    """

    image_ids: list[str]
    images: torch.Tensor
    boxes: torch.Tensor


@dataclass(frozen=True, slots=True)
class LabelledBatch(Batch):
    """N images with their labels.

    Attributes:
        labels: (N, H, W) uint8, ignore_index where padded.
    """

    labels: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Item:
    image_id: str
    image: NDArray[np.uint8]
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _LabelledItem(_Item):
    label: NDArray[np.uint8]


def training_batches(
    split: Split,
    *,
    iterations: range,
    positions: range,
    seed: int,
    batch_size: int,
    crop_size: int,
    scales: list[float],
    flip_probability: float,
) -> Iterator[LabelledBatch]:
    """Yields one batch per iteration; each image occurs once before any occurs again.

    Args:
        split: the images.
        iterations: to make batches for.
        positions: of the batch that are wanted here, all or one device's share.
        seed: of order and augmentation.
        batch_size: of the whole batch, over all devices.
        crop_size: side of the crops.
        scales: of which one is drawn for each image.
        flip_probability: of a left-right flip.

    Raises:
        ValueError: a damaged image.
        TimeoutError: an image was not read within a minute.
    """

    def load(place: tuple[int, int]) -> _LabelledItem:
        iteration, position = place
        index = sample_index(seed, iteration * batch_size + position, len(split))
        random = np.random.default_rng((seed, iteration, position))
        sample = split[index]
        image, label = images.decode_image(sample), images.decode_label(sample)
        view = augmentation.draw_view(
            random,
            height=sample.height,
            width=sample.width,
            crop_size=crop_size,
            scales=scales,
            flip_probability=flip_probability,
        )
        ignore_index = split.classes.ignore_index
        rendered = augmentation.render(
            image, label, view, crop_size=crop_size, ignore_index=ignore_index
        )
        return _LabelledItem(sample.image_id, rendered[0], rendered[2], rendered[1])

    places = ((i, k) for i in iterations for k in positions)
    for items in _grouped(load, places, len(positions)):
        yield _collate_labelled(items)


def image_ids(split: Split, iteration: int, *, seed: int, batch_size: int) -> list[str]:
    """Ids of the images in the whole batch of an iteration, by their position in it."""
    indices = (
        sample_index(seed, iteration * batch_size + position, len(split))
        for position in range(batch_size)
    )
    return [split.image_ids[index] for index in indices]


def inference_batches(
    split: Split, *, indices: range, height: int, width: int, batch_size: int
) -> Iterator[Batch]:
    """Yields each of these images once, padded at the bottom and the right to (height, width).

    Source: tensorflow/models research/deeplab, input_preprocess.py: each image is padded to the
    nominal size with the mean pixel. The last batch may be smaller.

    Raises:
        ValueError: an image of the split is larger than (height, width), or damaged.
        TimeoutError: an image was not read within a minute.
    """

    def load(index: int) -> _Item:
        sample = split[index]
        padded = np.zeros((height, width, 3), np.uint8)
        padded[: sample.height, : sample.width] = images.decode_image(sample)
        return _Item(sample.image_id, padded, (0, 0, sample.height, sample.width))

    split.require_within(height, width)
    for items in _grouped(load, indices, batch_size):
        yield _collate(items)


def sample_index(seed: int, position: int, num_images: int) -> int:
    """Index of the image at `position` of the endless, shuffled sequence of all images."""
    pass_, place = divmod(position, num_images)
    return int(_permutation(seed, pass_, num_images)[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, pass_: int, num_images: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, pass_)).permutation(num_images)


def _grouped(
    load: Callable[[Item], Result], items: Iterable[Item], batch_size: int
) -> Iterator[list[Result]]:
    loaded: list[Result] = []
    for item in map_ahead(load, items, batch_size * _BATCHES_AHEAD):
        loaded.append(item)
        if len(loaded) == batch_size:
            yield loaded
            loaded = []
    if loaded:
        yield loaded


def _collate(items: Sequence[_Item]) -> Batch:
    return Batch(
        image_ids=[item.image_id for item in items],
        images=torch.from_numpy(np.stack([item.image for item in items])),
        boxes=torch.tensor([item.box for item in items]),
    )


def _collate_labelled(items: list[_LabelledItem]) -> LabelledBatch:
    batch = _collate(items)
    labels = torch.from_numpy(np.stack([item.label for item in items]))
    return LabelledBatch(batch.image_ids, batch.images, batch.boxes, labels)
