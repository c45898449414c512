"""The `report` section of params.yaml."""

from typing import Annotated

from pydantic import Field

from pipeline.params import Config


class Report(Config):
    """What the report shows.

    Attributes:
        title: of the page.
        note: one sentence that says what these numbers are and are not.
        panels: number of images shown beside their labels and predictions.
    """

    title: Annotated[str, Field(min_length=1)]
    note: str
    panels: Annotated[int, Field(ge=0)]
