"""From logits to scores: ours beside the peers and beside the plain way.

Four tables: confusion matrices of label maps of VOC's size; the trimap curve of 40 widths; logits
to labels; inference at batch 1 on the CPU, from normalised image to labels. Label maps are VOC's,
predictions are the same a few pixels off. segmentation-models-pytorch refuses 513 pixels and gets
them padded to 528, as in bench.train_step: the deepest map of both is 33 x 33.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from bench import photographs, timing
from bench.command import count, run
from bench.timing import Contender, Goal, Times
from pipeline import label_map
from pipeline.evaluation import trimap
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.inference import predict, upsampling
from pipeline.inference.config import Inference
from pipeline.model import deeplab
from pipeline.model.config import Aspp, BatchNorm, Decoder, Network

_NUM_CLASSES, _VOID = 21, 255
_WIDTHS = 40
_OURS = "ours"
_CITYSCAPES, _TORCHMETRICS = "cityscapesscripts' NumPy path", "torchmetrics"

_Pairs = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def main() -> int:
    """Measures all four, prints the tables and whether the goals hold."""
    options = _options()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    print(timing.machine("torch", "torchmetrics", "cityscapesscripts", "opencv-python-headless"))
    print(f"{options.threads} threads, {options.repetitions} repetitions\n")
    pairs = _pairs(options)
    goals = [
        *_confusion(pairs, options.repetitions),
        *_trimaps(pairs, options.repetitions),
        _labels(pairs[0][1], options),
        *_inference(options),
    ]
    return timing.conclude(goals, judged=not options.quick)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=count, default=9)
    parser.add_argument(
        "--images", type=Path, help="VOC's archive; else $DEEPLAB_REALDATA's, or the miniature's"
    )
    parser.add_argument("--pairs", type=count, default=64, help="so many label maps")
    parser.add_argument("--quick", action="store_true", help="small sizes, not judged")
    options = parser.parse_args()
    options.side, options.backbone = 513, "resnet101"
    if options.quick:
        options.pairs, options.side = 1, 65
        options.repetitions, options.backbone = 1, "resnet18"
    return options


def _pairs(options: argparse.Namespace) -> _Pairs:
    """Label maps, each with a prediction: void filled with what is near, all a few pixels off."""
    with tempfile.TemporaryDirectory() as folder:
        samples = itertools.islice(photographs.samples(options.images, Path(folder)), options.pairs)
        labels = [np.array(label_map.decode(sample.label)) for sample in samples]
    return [(label, np.roll(_without_void(label), (2, 3), (0, 1))) for label in labels]


def _without_void(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    filled = np.where(label == _VOID, np.uint8(0), label).astype(np.uint8)
    grown = cv2.dilate(filled, np.ones((5, 5), np.uint8))
    return np.where(label == _VOID, grown, label).astype(np.uint8)


def _measure(
    title: str, work: dict[str, Callable[[], object]], number: int, repetitions: int
) -> Times:
    """Lets contenders take turns and prints a table; each does `number` units of work a turn."""

    def timed(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        function()
        return (time.perf_counter() - start) / number

    contenders = [
        Contender(name, lambda function=function: timed(function))  # type: ignore[misc]
        for name, function in work.items()
    ]
    times = timing.interleave(contenders, repetitions)
    rows = [
        [
            name,
            timing.milliseconds(seconds),
            "" if name == _OURS else str(timing.ratio(times, _OURS, name)),
        ]
        for name, seconds in times.items()
    ]
    print(timing.table([title, "ms", "times ours"], rows) + "\n")
    return times


def _goal(times: Times, other: str, what: str, limit: float) -> Goal:
    return Goal(what, timing.ratio(times, _OURS, other).of_medians, limit)


# ---- counting


def _confusion(pairs: _Pairs, repetitions: int) -> list[Goal]:
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    tensors = [tuple(torch.from_numpy(plane) for plane in pair) for pair in pairs]

    def torchmetrics(prediction: torch.Tensor, label: torch.Tensor) -> NDArray[np.int64]:
        counted = multiclass_confusion_matrix(
            prediction, label, num_classes=_NUM_CLASSES, ignore_index=_VOID, validate_args=False
        )
        return np.asarray(counted)

    for (label, prediction), (true, predicted) in zip(pairs, tensors, strict=True):
        expected = _ours(label, prediction)
        for found in (
            torchmetrics(predicted, true),
            _cityscapes(label, prediction),
            _bincount(label, prediction),
        ):
            _require_equal(found, expected)
    times = _measure(
        "confusion matrix",
        {
            _OURS: lambda: [_ours(*pair) for pair in pairs],
            _CITYSCAPES: lambda: [_cityscapes(*pair) for pair in pairs],
            "numpy.bincount": lambda: [_bincount(*pair) for pair in pairs],
            _TORCHMETRICS: lambda: [torchmetrics(p, t) for t, p in tensors],
        },
        len(pairs),
        repetitions,
    )
    return [
        _goal(times, _CITYSCAPES, "cityscapesscripts' confusion matrix", 2),
        _goal(times, _TORCHMETRICS, "torchmetrics'", 40),
    ]


def _ours(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.int64]:
    return confusion_matrix(label, prediction, num_classes=_NUM_CLASSES, ignore_index=_VOID)


def _cityscapes(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The steps of evalPixelLevelSemanticLabeling without its compiled part: `numpy.unique`."""
    base = int(max(label.max(), prediction.max())) + 1
    values, numbers = np.unique(label.astype(np.int32) * base + prediction, return_counts=True)
    counts = np.zeros((256, 256), np.int64)
    for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
        counts[value // base, value % base] += number
    return counts[:_NUM_CLASSES, :_NUM_CLASSES]


def _bincount(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What most repositories do."""
    scored = label < _NUM_CLASSES
    places = _NUM_CLASSES * label[scored].astype(int) + prediction[scored]
    counts: NDArray[np.int64] = np.bincount(places, minlength=_NUM_CLASSES**2)
    return counts.reshape(_NUM_CLASSES, _NUM_CLASSES)


def _trimaps(pairs: _Pairs, repetitions: int) -> list[Goal]:
    def ours(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> NDArray[np.int64]:
        counts = trimap.counts_by_trimap(
            label,
            prediction,
            num_classes=_NUM_CLASSES,
            ignore_index=_VOID,
            band="square",
            max_trimap_width=_WIDTHS,
        )
        return trimap.per_width(counts)

    for pair in pairs:
        expected = ours(*pair)
        _require_equal(np.array(_dilations(*pair)), expected)
        _require_equal(np.array(_masks(*pair)), expected)
    dilations, masks = "40 dilations", "one distance transform, 40 masks"
    times = _measure(
        "trimap, 40 widths",
        {
            _OURS: lambda: [ours(*pair) for pair in pairs],
            masks: lambda: [_masks(*pair) for pair in pairs],
            dilations: lambda: [_dilations(*pair) for pair in pairs],
        },
        len(pairs),
        repetitions,
    )
    return [_goal(times, dilations, dilations, 50), _goal(times, masks, masks, 4)]


def _dilations(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    void = (label == _VOID).astype(np.uint8)
    counts = []
    for width in range(1, _WIDTHS + 1):
        band = cv2.dilate(void, np.ones((2 * width + 1, 2 * width + 1), np.uint8)) > 0
        counts.append(_bincount(np.where(band, label, np.uint8(_VOID)), prediction))
    return counts


def _masks(label: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    distance = cv2.distanceTransform((label != _VOID).astype(np.uint8), cv2.DIST_C, 3)
    return [
        _bincount(np.where(distance <= width, label, np.uint8(_VOID)), prediction)
        for width in range(1, _WIDTHS + 1)
    ]


# ---- labels


def _labels(regions_of: NDArray[np.uint8], options: argparse.Namespace) -> Goal:
    side, coarse = options.side, (options.side - 1) // 4 + 1
    label = cv2.resize(regions_of, (coarse, coarse), interpolation=cv2.INTER_NEAREST)
    regions = F.one_hot(torch.from_numpy(label).long(), _NUM_CLASSES).float()
    noise = torch.randn(regions.shape, generator=_generator())
    together = (5 * regions + noise)[None].permute(0, 3, 1, 2)  # as our classifier gives them
    logits = together.contiguous()

    def plain() -> torch.Tensor:
        return _interpolated(logits, side).argmax(dim=1)

    def ours() -> torch.Tensor:
        return upsampling.labels(together, side, side)

    with torch.inference_mode():
        _require_equal(ours().numpy(), plain().numpy())
        name = "interpolate + argmax"
        times = _measure(
            f"{side} px, labels of regions", {_OURS: ours, name: plain}, 1, options.repetitions
        )
        noise_alone = noise[None].permute(0, 3, 1, 2)
        _measure(
            f"{side} px, labels of noise",
            {
                _OURS: lambda: upsampling.labels(noise_alone, side, side),
                name: lambda: _interpolated(noise_alone.contiguous(), side).argmax(dim=1),
            },
            1,
            options.repetitions,
        )
    return _goal(times, name, name, 5)


def _interpolated(logits: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(logits, (side, side), mode="bilinear", align_corners=True)


# ---- inference


def _inference(options: argparse.Namespace) -> list[Goal]:
    import segmentation_models_pytorch as smp

    side = options.side
    peer = smp.DeepLabV3Plus(options.backbone, encoder_weights=None, classes=_NUM_CLASSES).eval()
    fast = smp.DeepLabV3Plus(options.backbone, encoder_weights=None, classes=_NUM_CLASSES).eval()
    fast.to(memory_format=torch.channels_last)
    model, network = _network(options.backbone)
    images = torch.randn(1, 3, side, side, generator=_generator())
    ours_images = images.contiguous(memory_format=torch.channels_last)
    more = -side % 16
    padded = F.pad(images, (0, more, 0, more))
    last = padded.contiguous(memory_format=torch.channels_last)

    def ours_in(precision: str) -> Callable[[], torch.Tensor]:
        inference = _strategy(network, side, precision)
        ready = predict.prepared(model, inference, torch.device("cpu"))
        return lambda: predict.predict(ready, ours_images, inference)

    def as_shipped() -> torch.Tensor:
        labels: torch.Tensor = peer(padded).argmax(dim=1)
        return labels[:, :side, :side]

    def with_switches() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            labels: torch.Tensor = fast(last).argmax(dim=1)
        return labels[:, :side, :side]

    ours, single = ours_in("bfloat16"), ours_in("float32")
    with torch.inference_mode():
        plain = predict.predict(model, ours_images, _strategy(network, side, "float32"))
        for name, found in (("float32", single()), ("bfloat16", ours())):
            share = (found != plain).float().mean().item()
            print(f"labels that preparation changes in {name}: {100 * share:.3g} %")
        shipped, switched = "smp as shipped", "smp, bf16 and channels_last"
        times = _measure(
            f"{options.backbone}, {side} px, image to labels",
            {_OURS: ours, "ours, float32": single, shipped: as_shipped, switched: with_switches},
            1,
            options.repetitions,
        )
    return [_goal(times, shipped, shipped, 2.3), _goal(times, switched, switched, 1.25)]


def _network(backbone: str) -> tuple[deeplab.DeepLab, Network]:
    """What smp's network is, near enough: separable ASPP and decoder, one convolution in it."""
    batch_norm = BatchNorm(eps=1e-5, momentum=0.1)
    network = Network(
        backbone=backbone,
        output_stride=16,
        multi_grid=None,
        mean=[127.5] * 3,
        std=[127.5] * 3,
        separable=True,
        aspp=Aspp(atrous_rates=[12, 24, 36], channels=256, image_pooling=True, dropout=0.5),
        decoder=Decoder(
            low_level_strides=[4],
            low_level_channels=48,
            kernel_size=3,
            channels=256,
            convolutions=1,
        ),
        backbone_batch_norm=batch_norm,
        head_batch_norm=batch_norm,
    )
    model = deeplab.build(network, num_classes=_NUM_CLASSES, output_stride=16, seed=0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
    return model.eval(), network


def _strategy(network: Network, side: int, precision: str) -> Inference:
    return Inference.model_validate(
        {
            "output_stride": network.output_stride,
            "height": side,
            "width": side,
            "scales": [1.0],
            "flip": False,
            "batch_size": 1,
            "precision": precision,
        }
    )


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _require_equal(found: NDArray[np.integer], expected: NDArray[np.integer]) -> None:
    if not np.array_equal(found, expected):
        raise ValueError("contenders do not agree: nothing to compare")


if __name__ == "__main__":
    run(main)
