"""The `training` and `validation` sections of a model: the recipe, to the last number."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.model.config import Network
from pipeline.params import Config

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class Training(Config):
    """How a network is trained (DeepLab v3 Sec. 4.1, which v3+ follows).

    Attributes:
        seed: of the new layers, the order of images and their augmentation.
        max_iterations: number of updates.
        batch_size: images per update, over all devices.
        accumulation_steps: parts that a device's share of a batch is computed in, one after the
            other, for devices of little memory. The gradient is that of the whole batch; batch
            normalisation that is trained sees a part at a time, as if the batch were smaller.
        batch_norm: what becomes of batch normalisation. "trained": statistics of the images of
            one device, as the authors' released code has them. "synchronised": of all devices.
            "frozen_statistics": those of the start weights, while gamma and beta are trained (the
            authors' fine_tune_batch_norm=False). "frozen": gamma and beta stay too (v3+ Sec. 4.3).
        crop_size: side of the square training crop, k * output_stride + 1 pixels.
        scales: factors of which one is drawn for each image.
        flip_probability: of a left-right flip.
        base_learning_rate: at iteration 0.
        backbone_learning_rate_multiplier: for the backbone; the paper's is 1.
        bias_learning_rate_multiplier: for biases, i.e. of the logits; the authors' is 2.
        power: of the poly schedule.
        momentum: of SGD, not Nesterov's.
        weight_decay: on dense and pointwise kernels alone.
        class_weights: of each class in the loss, see `class_weights.resolve`: "none", as in the
            paper; "frequency", the rarer the heavier; or a number for each class, in their order.
        precision: of the forward and backward pass; weights stay float32.
    """

    seed: Annotated[int, Field(ge=0)]
    max_iterations: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    accumulation_steps: Annotated[int, Field(ge=1)]
    batch_norm: Literal["trained", "synchronised", "frozen_statistics", "frozen"]
    crop_size: Annotated[int, Field(ge=1)]
    scales: Annotated[list[Positive], Field(min_length=1)]
    flip_probability: Annotated[float, Field(ge=0.0, le=1.0)]
    base_learning_rate: Positive
    backbone_learning_rate_multiplier: Annotated[float, Field(ge=0.0)]
    bias_learning_rate_multiplier: Annotated[float, Field(ge=0.0)]
    power: Positive
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    class_weights: Literal["none", "frequency"] | Annotated[list[NotNegative], Field(min_length=1)]
    precision: Literal["float32", "bfloat16"]


class Validation(Config):
    """How a network is watched while it is trained. No weight depends on it.

    Attributes:
        data: the split that mIoU is computed over.
        every_iterations: how often; 0 is never.
        height: nominal height that every image is padded to, k * output_stride + 1 pixels.
        width: nominal width, likewise.
        panels: number of images, spread over the split, that are shown with their prediction.
    """

    data: str
    every_iterations: Annotated[int, Field(ge=0)]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    panels: Annotated[int, Field(ge=0)]


def size_mistakes(network: Network, training: Training, validation: Validation) -> list[str]:
    """What is wrong with the sizes of crops and validation images; begins with their keys."""
    stride = network.output_stride
    sizes = {
        "training.crop_size": training.crop_size,
        "validation.height": validation.height,
        "validation.width": validation.width,
    }
    return [
        f"{name}: {size} is not k * {stride} + 1 with k >= 1, as output_stride {stride} needs; "
        f"nearest: {max(1, round((size - 1) / stride)) * stride + 1}"
        for name, size in sizes.items()
        if size % stride != 1 or size <= stride
    ]


def part_mistake(network: Network, training: Training, *, num_devices: int) -> str | None:
    """What is wrong with the parts that a batch is computed in, or None.

    The image-level branch of ASPP has one value for each image and channel: of a single image the
    batch normalisation after it has no variance.
    """
    parts = num_devices * training.accumulation_steps
    if training.batch_size % parts:
        return (
            f"batch_size: {training.batch_size} images cannot be split into {parts} equal parts "
            f"(accumulation_steps: {training.accumulation_steps}, on {num_devices} devices; "
            "CUDA_VISIBLE_DEVICES says which are used)"
        )
    seen = training.batch_size // parts
    if training.batch_norm == "synchronised":
        seen *= num_devices
    is_trained = training.batch_norm in ("trained", "synchronised")
    if seen == 1 and is_trained and network.aspp is not None and network.aspp.image_pooling:
        return (
            f"batch_size: {training.batch_size} in {parts} parts leaves batch normalisation one "
            "image at a time, of which image pooling gives one value per channel: enlarge "
            "batch_size, take fewer accumulation_steps or devices, set batch_norm to synchronised "
            "(several devices) or frozen, or network.aspp.image_pooling to false"
        )
    return None
