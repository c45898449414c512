"""The `evaluation` section of a row."""

from typing import Annotated

from pydantic import Field

from pipeline.params import Config


class Evaluation(Config):
    """How label maps are scored.

    Attributes:
        max_trimap_width: the trimap curve's last width, pixels; the authors swept 1..40.
    """

    max_trimap_width: Annotated[int, Field(ge=1, le=255)]
