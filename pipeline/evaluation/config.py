"""The `evaluation` section of a row."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pipeline.params import Config

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Band = Literal["square", "euclidean"]


class Evaluation(Config):
    """How label maps are scored.

    Attributes:
        trimap_band: how void is dilated to a trimap: by a square, as the authors do, or by a disc.
        max_trimap_width: the trimap curve's last width, pixels; the authors swept 1..40.
        resamples: of the images, for the 95 % intervals of the bootstrap.
        resampling_seed: of them; rows of one data set with the same number and seed are resampled
            alike.
        worst_images: how many of the images with the lowest mIoU are listed.
        warn_predicted_share: a class that is predicted for at least this share of the pixels is
            warned of,
        warn_label_share: unless it has at least this share of the labels.
    """

    trimap_band: Band
    max_trimap_width: Annotated[int, Field(ge=1, le=255)]
    resamples: Annotated[int, Field(ge=100, le=100_000)]
    resampling_seed: Annotated[int, Field(ge=0)]
    worst_images: Annotated[int, Field(ge=0)]
    warn_predicted_share: Share
    warn_label_share: Share


class ScoredRow(Config):
    """What a comparison with another row depends on, of an entry of `rows`.

    Attributes:
        data: the split it was scored on.
        evaluation: how.
    """

    model_config = ConfigDict(extra="ignore")

    data: str
    evaluation: Evaluation
