"""The `inference` section of a row: how a trained network is turned into label maps."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.model.config import OutputStride
from pipeline.params import Config

Size = Annotated[int, Field(ge=1)]


class Inference(Config):
    """An inference strategy (Tables 3 and 5).

    Attributes:
        output_stride: of this evaluation; the weights may have been trained at another.
        height: nominal height that every image is padded to, k * output_stride + 1 pixels.
        width: nominal width, likewise.
        scales: of the padded image; probabilities are averaged.
        flip: whether each scale is also evaluated mirrored.
        batch_size: images at a time; matters to memory, and to rounding alone.
        precision: of the forward pass.
    """

    output_stride: OutputStride
    height: Size
    width: Size
    scales: Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=1)]
    flip: bool
    batch_size: Size
    precision: Literal["float32", "bfloat16"]
