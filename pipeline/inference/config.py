"""The `inference` section of a row: how a trained network is turned into label maps."""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.model.config import OutputStride
from pipeline.params import Config

Size = Annotated[int, Field(ge=1)]


def exact(scale: float) -> Fraction:
    """A scale as it is written: the float nearest to 0.7 is not 7/10, and sides come out odd."""
    return Fraction(str(scale))


def scaled_side(side: int, scale: float) -> int:
    """Pixels of a side of that many after scaling, corners aligned, a part of one left out."""
    return int((side - 1) * exact(scale)) + 1


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

    @model_validator(mode="after")
    def _fits_at_every_scale(self) -> Self:
        stride = self.output_stride
        for side, size in (("height", self.height), ("width", self.width)):
            for scale in self.scales:
                scaled = (size - 1) * exact(scale) + 1
                if scaled % stride != 1 or scaled <= stride:
                    raise ValueError(
                        f"{side}: {size} at scale {scale} gives {float(scaled):g}, which is not "
                        f"k * {stride} + 1 with k >= 1, as output_stride {stride} needs"
                    )
        return self
