"""The `training` section of a model: the recipe, to the last number."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params import Config

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]


class Training(Config):
    """How a network is trained (DeepLab v3 Sec. 4.1, which v3+ follows).

    Attributes:
        seed: of the new layers, the order of images and their augmentation.
        max_iterations: number of updates.
        batch_size: images per update; with trainable batch norm one image would leave the
            image-pooling branch a single value per channel, which has no variance.
        crop_size: side of the square training crop, k * output_stride + 1 pixels.
        scales: factors of which one is drawn for each image.
        flip_probability: of a left-right flip.
        base_learning_rate: at iteration 0.
        backbone_learning_rate_multiplier: for the backbone; the paper's is 1.
        bias_learning_rate_multiplier: for biases, i.e. of the logits; the authors' is 2.
        power: of the poly schedule.
        momentum: of SGD, not Nesterov's.
        weight_decay: on dense and pointwise kernels alone.
        class_weights: of each class in the loss, see `recipe.class_weights`: "none", as in the
            paper; "frequency", the rarer the heavier; or a number for each class, in their order.
        precision: of the forward and backward pass; weights stay float32.
    """

    seed: Annotated[int, Field(ge=0)]
    max_iterations: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
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
