"""Milliseconds per image, from JPEG to collated training batch: ours beside two usual pipelines.

All draw one of the same scales, crop to the same size and flip as often; all start from the same
encoded bytes, and have the same number of cores: ours as many threads, the peers as many worker
processes of torch's DataLoader, or none for a single core. The peers' bytes are in memory, which
spares them the opening of two files per image; ours are in the split's mapped file. Each has a
process of its own; ours keeps freed memory, as training does on a CPU.

Ours hands out 8-bit pixels, which are normalised on the device. On a CPU that is work of the same
cores, so that there is a row with it, too.
"""

import argparse
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from bench import apart, photographs, timing
from bench.apart import Make
from bench.command import count, run
from bench.timing import Goal, Times
from pipeline import splits
from pipeline.data import batches
from pipeline.data.images import normalise
from pipeline.splits import Sample, Split
from pipeline.training import memory as allocator
from pipeline.voc import CLASSES

_SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]  # of presets/voc.yaml
_FLIP_PROBABILITY = 0.5
_MEAN = [123.675, 116.28, 103.53]
_STD = [58.395, 57.12, 57.375]

_OURS, _RAW, _NORMALISED = "ours", "ours, storage: raw", "ours, normalised on the same cores"
_ALBUMENTATIONS, _MMSEGMENTATION = "albumentations", "mmsegmentation's steps"

# (H, W, 3) image and (H, W) label map -> (3, crop, crop) float32 and (crop, crop) int64.
_Transform = Callable[[NDArray[np.uint8], NDArray[np.uint8]], tuple[torch.Tensor, torch.Tensor]]
_Drawn = tuple[torch.Tensor, torch.Tensor]


def main() -> int:
    """Measures all, prints a table and whether the goals hold."""
    options = _options()
    cores = sorted(os.sched_getaffinity(0))[-options.cores :]
    os.sched_setaffinity(0, cores)
    options.cores = len(cores)
    print(timing.machine("albumentations", "opencv-python-headless", "torch", "pillow"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = list(itertools.islice(photographs.samples(options.images, folder), options.limit))
        if len(samples) < options.batch_size:
            raise ValueError(f"{len(samples)} labelled images are no batch of {options.batch_size}")
        print(_describe(samples, options))
        makes = _contenders(samples, folder, options)
        times, _ = apart.measure(makes, options.repetitions, device="cpu")
    print(timing.table(["contender", "ms/image", "times ours"], _rows(times)))
    print()
    return timing.conclude(_goals(times), judged=not options.quick)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--images",
        type=Path,
        help="VOC's archive or its extracted VOC2012; else $DEEPLAB_REALDATA's, or the miniature",
    )
    parser.add_argument("--limit", type=count, default=224, help="so many images, 16 to a batch")
    parser.add_argument("--crop-size", type=count, default=513)
    parser.add_argument("--cores", type=count, default=1)
    parser.add_argument("--repetitions", type=count, default=9)
    parser.add_argument("--quick", action="store_true", help="a few small crops, not judged")
    options = parser.parse_args()
    options.batch_size = 16
    if options.quick:
        options.limit, options.crop_size, options.repetitions, options.batch_size = 4, 33, 1, 2
    return options


def _describe(samples: Sequence[Sample], options: argparse.Namespace) -> str:
    pixels = sum(sample.height * sample.width for sample in samples) / len(samples)
    size = sum(len(sample.image) for sample in samples) / len(samples)
    return (
        f"{len(samples)} images of {pixels / 1e3:.0f} thousand pixels and {size / 1e3:.0f} kB on "
        f"average, crop {options.crop_size}, batches of {options.batch_size}, {options.cores} "
        f"cores, {options.repetitions} repetitions\n"
    )


def _contenders(
    samples: list[Sample], folder: Path, options: argparse.Namespace
) -> dict[str, Make]:
    encoded, raw = folder / "encoded.arrow", folder / "raw.arrow"
    splits.write(encoded, samples, CLASSES)
    splits.write(raw, tqdm(map(splits.raw, samples), desc="raw", leave=False), CLASSES)
    shape = {
        "crop_size": options.crop_size,
        "batch_size": options.batch_size,
        "number": len(samples) // options.batch_size,
    }
    peer = partial(_peer_turns, encoded, **shape, num_cores=options.cores)
    return {
        _OURS: partial(_our_turns, encoded, normalised=False, **shape),
        _NORMALISED: partial(_our_turns, encoded, normalised=True, **shape),
        _RAW: partial(_our_turns, raw, normalised=False, **shape),
        _ALBUMENTATIONS: partial(peer, _albumentations),
        _MMSEGMENTATION: partial(peer, _mmsegmentation),
    }


def _use_one_thread() -> None:
    """Threads and workers share the cores among images, not within one."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


# ---- ours


def _our_turns(
    path: Path, *, crop_size: int, batch_size: int, number: int, normalised: bool
) -> Callable[[], float]:
    """Each call makes the next `number` batches; returns its seconds per image."""
    _use_one_thread()
    allocator.keep_freed_pages()  # as training does on a CPU
    split = Split(path)
    starts = itertools.count(0, number)

    def turn() -> float:
        start = next(starts)
        begin = time.perf_counter()
        for batch in batches.training_batches(
            split,
            iterations=range(start, start + number),
            positions=range(batch_size),
            seed=0,
            batch_size=batch_size,
            crop_size=crop_size,
            scales=_SCALES,
            flip_probability=_FLIP_PROBABILITY,
        ):
            if normalised:
                normalise(batch.images, batch.boxes, _MEAN, _STD)
        return (time.perf_counter() - begin) / (number * batch_size)

    return turn


# ---- the peers


@dataclass(frozen=True)
class _Images(Dataset[_Drawn]):
    """Encoded images and label maps, decoded as tutorials do: OpenCV and Pillow."""

    samples: list[Sample]
    transform: _Transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> _Drawn:
        sample = self.samples[index]
        image = cv2.imdecode(np.frombuffer(sample.image, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{sample.image_id}: not an image")
        label = np.array(Image.open(io.BytesIO(sample.label)))
        return self.transform(image.astype(np.uint8, copy=False), label)


def _peer_turns(
    path: Path,
    make: Callable[[int], _Transform],
    *,
    crop_size: int,
    batch_size: int,
    number: int,
    num_cores: int,
) -> Callable[[], float]:
    """Each call reads all images once; returns its seconds per image."""
    _use_one_thread()
    samples = [
        replace(sample, image=bytes(sample.image), label=bytes(sample.label))
        for sample in Split(path)
    ]
    workers = num_cores if num_cores > 1 else 0
    loader = DataLoader(
        _Images(samples, make(crop_size)),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def turn() -> float:
        begin = time.perf_counter()
        for _ in loader:
            pass
        return (time.perf_counter() - begin) / (number * batch_size)

    return turn


def _albumentations(crop_size: int) -> _Transform:
    """Scale, pad, crop, flip, normalise, to a tensor."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or it asks the network when imported
    import albumentations

    compose: Any = albumentations.Compose(
        [
            albumentations.OneOf(
                [albumentations.RandomScale((scale - 1, scale - 1), p=1.0) for scale in _SCALES],
                p=1.0,
            ),
            albumentations.PadIfNeeded(
                crop_size,
                crop_size,
                position="top_left",
                border_mode=cv2.BORDER_CONSTANT,
                fill=_MEAN,
                fill_mask=CLASSES.ignore_index,
            ),
            albumentations.RandomCrop(crop_size, crop_size),
            albumentations.HorizontalFlip(p=_FLIP_PROBABILITY),
            albumentations.Normalize(
                mean=_MEAN, std=_STD, max_pixel_value=1.0, normalization="standard"
            ),
            albumentations.ToTensorV2(),
        ]
    )
    return partial(_composed, compose)


def _composed(compose: Any, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> _Drawn:
    drawn = compose(image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB), mask=label)
    return drawn["image"], drawn["mask"].long()


def _mmsegmentation(crop_size: int) -> _Transform:
    """The steps of mmsegmentation's training pipelines, without their photometric distortion."""
    return partial(_stepwise, crop_size)


def _stepwise(crop_size: int, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> _Drawn:
    """Resizes the whole image, crops, flips, normalises, pads, transposes.

    Source: mmsegmentation, configs/_base_/datasets/pascal_voc12.py (version 0.30); mmcv,
    image/photometric.py for the order in which pixels are normalised.
    """
    scale = _SCALES[np.random.randint(len(_SCALES))]
    size = int(image.shape[1] * scale), int(image.shape[0] * scale)
    pixels = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    values = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
    top = np.random.randint(max(size[1] - crop_size, 0) + 1)
    left = np.random.randint(max(size[0] - crop_size, 0) + 1)
    crop = np.s_[top : top + crop_size, left : left + crop_size]
    pixels, values = pixels[crop], values[crop]
    if np.random.random() < _FLIP_PROBABILITY:
        pixels, values = np.flip(pixels, 1), np.flip(values, 1)
    normalised = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_BGR2RGB)
    cv2.subtract(normalised, np.array([_MEAN]), normalised)
    cv2.multiply(normalised, 1 / np.array([_STD]), normalised)
    below, beside = crop_size - values.shape[0], crop_size - values.shape[1]
    border = (0, below, 0, beside, cv2.BORDER_CONSTANT)
    padded = cv2.copyMakeBorder(normalised, *border, value=[0, 0, 0])
    void = CLASSES.ignore_index
    padded_values = cv2.copyMakeBorder(np.ascontiguousarray(values), *border, value=[void])
    channels = np.ascontiguousarray(padded.transpose(2, 0, 1))
    return torch.from_numpy(channels), torch.from_numpy(padded_values.astype(np.int64))


# ---- what came out


def _rows(times: Times) -> list[list[str]]:
    return [
        [name, timing.milliseconds(seconds), str(timing.ratio(times, _OURS, name))]
        for name, seconds in times.items()
    ]


def _goals(times: Times) -> list[Goal]:
    best = timing.fastest(times, [_ALBUMENTATIONS, _MMSEGMENTATION])
    return [
        Goal(_ALBUMENTATIONS, timing.ratio(times, _OURS, _ALBUMENTATIONS).of_medians, 2.5),
        Goal(_MMSEGMENTATION, timing.ratio(times, _OURS, _MMSEGMENTATION).of_medians, 8.0),
        Goal(f"{best}, from raw", timing.ratio(times, _RAW, best).of_medians, 6.0),
    ]


if __name__ == "__main__":
    run(main)
