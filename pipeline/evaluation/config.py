"""The `evaluation` section of a row."""

from typing import Annotated

from pydantic import Field

from pipeline.params import Config

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Evaluation(Config):
    """How label maps are scored.

    Attributes:
        max_trimap_width: the trimap curve's last width, pixels; the authors swept 1..40.
        warn_predicted_share: a class that is predicted for at least this share of the pixels is
            warned of,
        warn_label_share: unless it has at least this share of the labels.
    """

    max_trimap_width: Annotated[int, Field(ge=1, le=255)]
    warn_predicted_share: Share
    warn_label_share: Share
