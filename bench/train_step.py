"""Seconds and memory of a training step: ours beside segmentation-models-pytorch and torchvision.

A step is what pipeline/training/loop.py does in an iteration with a batch that is already there:
forward pass, logits upsampled to the whole crop, cross-entropy, backward pass, update. Peers run as
shipped (float32, contiguous, torch's default SGD) and with every switch that ours has: bfloat16
autocast, channels_last, fused SGD and, on a CPU, the allocator of `training.memory`.

Each contender lives in a process of its own, which waits while the others take their turn, so that
memory is its own and no switch leaks. segmentation-models-pytorch refuses sides of k * 16 + 1
pixels and gets 528, whose deepest feature map is the 33 x 33 of 513: the multiply-adds are alike,
and it is also compared by the pixel. torchvision has DeepLab v3 alone, without a decoder, at
output_stride 8: it is compared by the multiply-add.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bench import apart, timing
from bench.apart import Make
from bench.command import count, run
from bench.timing import Goal
from pipeline import params
from pipeline.cost import multiply_adds
from pipeline.data.images import normalise
from pipeline.model import deeplab
from pipeline.model.config import Network
from pipeline.model.deeplab import DeepLab
from pipeline.training import loop, recipe, throughput
from pipeline.training import memory as allocator
from pipeline.training.config import Training

_PRESET = Path(__file__).parent.parent / "presets" / "voc.yaml"
_MODELS = {"resnet101": "resnet101_os16-decoder", "xception65": "xception65_os16-decoder"}
_NUM_CLASSES = 21
_IGNORE_INDEX = 255
_OUTPUT_STRIDE = 16
_STEPS_PER_TURN = {"cpu": 1, "cuda": 20}
_BATCH_SIZE = {"cpu": 2, "cuda": 16}
# Images a second that one GPU of the H200 kind should reach, ResNet-101, batch of 16.
_IMAGES_PER_SECOND = 450.0

Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender's description, small enough to be sent to its process.

    Attributes:
        library: "ours", "smp" or "torchvision".
        variant: of ours the head, "peer" (that of segmentation-models-pytorch: separable, one
            convolution in the decoder) or "paper"; of a peer "shipped" or "switches".
        backbone: "resnet101" or "xception65".
        side: of the square images, pixels.
        batch_size: images in a step.
        device: "cpu" or "cuda".
        threads: of a CPU's operators.
    """

    library: str
    variant: str
    backbone: str
    side: int
    batch_size: int
    device: str
    threads: int

    @property
    def name(self) -> str:
        """As the table prints it."""
        variants = {
            "peer": "smp's head",
            "paper": "the paper's head",
            "shipped": "as shipped",
            "switches": "same switches",
        }
        return f"{self.library}, {variants[self.variant]}"

    @property
    def pixels(self) -> int:
        """Of a batch."""
        return self.batch_size * self.side**2

    @property
    def is_bfloat16(self) -> bool:
        """Whether its feature maps have 16 bits."""
        return self.variant != "shipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a contender.

    Attributes:
        seconds: of a step, one for each turn.
        peak_bytes: of its process's memory, or of the device's.
        multiply_adds: of the forward pass of one image.
        flops: a second, that a large matrix product reaches in this precision.
    """

    seconds: list[float]
    peak_bytes: int
    multiply_adds: int
    flops: float


def main() -> int:
    """Measures one backbone's contenders, prints a table and whether the goals hold."""
    options = _options()
    entries = _entries(options)
    print(timing.machine("torch", "torchvision", "timm", "segmentation-models-pytorch"))
    print(
        f"{options.backbone}, {_NUM_CLASSES} classes, batch of {entries[0].batch_size}, "
        f"{options.device}, {options.threads} threads, {options.repetitions} repetitions\n"
    )
    outcomes = _measure(entries, options.repetitions)
    print(timing.table(_HEADER, [_row(entry, outcomes[entry.name]) for entry in entries]))
    print()
    return timing.conclude(_goals(entries, outcomes), judged=not options.quick)


_HEADER = [
    "contender",
    "side",
    "G multiply-adds/image",
    "s/step",
    "images/s",
    "ns/pixel",
    "peak GB",
    "of a matrix product",
]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", choices=list(_MODELS), default="resnet101")
    parser.add_argument("--repetitions", type=count, default=5)
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument(
        "--without-torchvision", action="store_true", help="whose step takes four times as long"
    )
    parser.add_argument("--quick", action="store_true", help="one small step each, not judged")
    options = parser.parse_args()
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.quick:
        options.repetitions = 1
    return options


def _entries(options: argparse.Namespace) -> list[Entry]:
    side, even_side = (65, 96) if options.quick else (513, 528)
    batch_size = 2 if options.quick else _BATCH_SIZE[options.device]
    entry = partial(
        Entry,
        backbone=options.backbone,
        batch_size=batch_size,
        device=options.device,
        threads=options.threads,
    )
    entries = [entry("ours", head, side=side) for head in ("peer", "paper")]
    entries += [entry("smp", variant, side=even_side) for variant in ("shipped", "switches")]
    if options.backbone == "resnet101" and not options.without_torchvision:
        entries += [entry("torchvision", v, side=side) for v in ("shipped", "switches")]
    return entries


# ---- the contenders' networks and steps


def _network(entry: Entry) -> Network:
    """The preset's network; timm's ResNet-101 begins with one 7x7 convolution, as the peers' do."""
    network = params.load(_PRESET, f"models.{_MODELS[entry.backbone]}.network", Network)
    network = network.model_copy(update={"backbone": entry.backbone})
    if entry.variant == "paper" or network.decoder is None:
        return network
    decoder = network.decoder.model_copy(update={"convolutions": 1})
    return network.model_copy(update={"separable": True, "decoder": decoder})


def _our_network(entry: Entry) -> DeepLab:
    network = _network(entry)
    return deeplab.build(network, num_classes=_NUM_CLASSES, output_stride=_OUTPUT_STRIDE, seed=0)


def _peer_network(entry: Entry) -> nn.Module:
    if entry.library == "smp":
        import segmentation_models_pytorch as smp

        encoder = entry.backbone if entry.backbone == "resnet101" else f"tu-{entry.backbone}"
        model: nn.Module = smp.DeepLabV3Plus(
            encoder,
            encoder_weights=None,
            encoder_output_stride=_OUTPUT_STRIDE,
            classes=_NUM_CLASSES,
        )
        return model
    from torchvision.models import segmentation

    network: nn.Module = segmentation.deeplabv3_resnet101(
        weights=None, weights_backbone=None, num_classes=_NUM_CLASSES
    )
    return network


def _our_step(entry: Entry) -> Step:
    """An iteration of pipeline/training/loop.py, of a batch in one part on one device."""
    device = torch.device(entry.device)
    network = _network(entry)
    training = params.load(_PRESET, f"models.{_MODELS[entry.backbone]}.training", Training)
    loop.configure_torch(device)
    model = recipe.prepare(_our_network(entry), training, device)
    optimiser = recipe.build_optimiser(model, training)
    pixels = torch.randint(256, (entry.batch_size, entry.side, entry.side, 3), dtype=torch.uint8)
    boxes = torch.tensor([[0, 0, entry.side, entry.side]] * entry.batch_size)
    pixels, boxes, labels = pixels.to(device), boxes.to(device), _labels(entry)

    def step() -> None:
        recipe.set_learning_rate(optimiser, recipe.learning_rate(0, training))
        images = normalise(pixels, boxes, network.mean, network.std)
        total_weight = recipe.total_weight(labels, _IGNORE_INDEX, None)
        recipe.set_dropout(model, training, 0, range(entry.batch_size))
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(images)
        loss = recipe.cross_entropy(logits, labels, _IGNORE_INDEX, None, total_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def _peer_step(entry: Entry) -> Step:
    device = torch.device(entry.device)
    has_switches = entry.variant == "switches"
    if has_switches and device.type == "cpu":
        allocator.keep_freed_pages()
    model = _peer_network(entry).to(device).train()
    images = torch.rand(entry.batch_size, 3, entry.side, entry.side, device=device)
    if has_switches:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=0.007,
        momentum=0.9,
        weight_decay=0.0001,
        fused=True if has_switches else None,
    )
    labels = _labels(entry)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, has_switches):
            output: Any = model(images)
        logits = output["out"] if isinstance(output, dict) else output
        loss = F.cross_entropy(logits.float(), labels, ignore_index=_IGNORE_INDEX)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def _labels(entry: Entry) -> torch.Tensor:
    shape = (entry.batch_size, entry.side, entry.side)
    return torch.randint(_NUM_CLASSES, shape, device=entry.device)


def _multiply_adds(entry: Entry) -> int:
    """Of a forward pass of one image."""
    shape = (1, 3, entry.side, entry.side)
    with torch.device("meta"):
        if entry.library == "ours":
            forward = _our_network(entry).eval().coarse_logits
        else:
            forward = _peer_network(entry).eval()
    return multiply_adds.count(forward, shape).multiply_adds


# ---- measuring


def _make(entry: Entry) -> Callable[[], float]:
    """Prepares a contender in its process."""
    torch.set_num_threads(entry.threads)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    step = _our_step(entry) if entry.library == "ours" else _peer_step(entry)
    steps = _STEPS_PER_TURN[entry.device]

    def turn() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        if entry.device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps

    return turn


def _measure(entries: Sequence[Entry], repetitions: int) -> dict[str, Outcome]:
    makes: dict[str, Make] = {entry.name: partial(_make, entry) for entry in entries}
    times, peaks = apart.measure(makes, repetitions, device=entries[0].device)
    return {
        entry.name: Outcome(
            times[entry.name], peaks[entry.name], _multiply_adds(entry), _matrix_flops(entry)
        )
        for entry in entries
    }


def _matrix_flops(entry: Entry) -> float:
    torch.set_num_threads(entry.threads)
    training = params.load(_PRESET, f"models.{_MODELS[entry.backbone]}.training", Training)
    precision = "bfloat16" if entry.is_bfloat16 else "float32"
    return throughput.peak_flops(
        torch.device(entry.device), training.model_copy(update={"precision": precision})
    )


# ---- what came out


def _row(entry: Entry, outcome: Outcome) -> list[str]:
    seconds = statistics.median(outcome.seconds)
    flops = 2 * throughput.PASSES_PER_STEP * outcome.multiply_adds * entry.batch_size / seconds
    return [
        entry.name,
        str(entry.side),
        f"{outcome.multiply_adds / 1e9:.1f}",
        timing.spread(outcome.seconds),
        f"{entry.batch_size / seconds:.3g}",
        f"{1e9 * seconds / entry.pixels:.0f}",
        f"{outcome.peak_bytes / 1e9:.2f}",
        f"{flops / outcome.flops:.0%}",
    ]


def _goals(entries: Sequence[Entry], outcomes: dict[str, Outcome]) -> list[Goal]:
    """Ours with the head of segmentation-models-pytorch against the peers."""
    by_name = {entry.name: entry for entry in entries}

    def per(name: str, unit: Callable[[Entry], float]) -> float:
        return statistics.median(outcomes[name].seconds) / unit(by_name[name])

    def pixels(entry: Entry) -> float:
        return entry.pixels

    def work(entry: Entry) -> float:
        return outcomes[entry.name].multiply_adds * entry.batch_size

    ours, shipped, switched = "ours, smp's head", "smp, as shipped", "smp, same switches"
    peak = outcomes[ours].peak_bytes / outcomes[shipped].peak_bytes
    by_pixel = per(switched, pixels) / per(ours, pixels)
    goals = [
        Goal(f"{shipped}, per pixel", per(shipped, pixels) / per(ours, pixels), 1.6),
        Goal(f"{switched}, per pixel", by_pixel, 0.98),
        Goal(f"{switched}, per multiply-add", per(switched, work) / per(ours, work), 0.98),
        Goal(f"the peak memory of {shipped}", peak, 1.0, at_most=True),
    ]
    if entries[0].device == "cuda":
        goals[1] = Goal(f"{switched}, per pixel", by_pixel, 1.25)
        if entries[0].backbone == "resnet101":
            images = entries[0].batch_size / statistics.median(outcomes[ours].seconds)
            what = f"{_IMAGES_PER_SECOND:g} images/s"
            goals.append(Goal(what, images / _IMAGES_PER_SECOND, 1.0))
    if "torchvision, same switches" in outcomes:
        other = "torchvision, same switches"
        goals.append(Goal(f"{other}, per multiply-add", per(other, work) / per(ours, work), 0.98))
    return goals


if __name__ == "__main__":
    run(main)
