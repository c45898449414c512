"""The `imports` section: checkpoints of the authors that are evaluated or trained further."""

from typing import Literal, Self

from pydantic import model_validator

from pipeline import cityscapes, voc
from pipeline.model.config import Network
from pipeline.params import Config

# Class tables that `classes` may name; "generic" has none.
TABLES = {"voc": voc.CLASSES, "cityscapes": cityscapes.CLASSES}


class Import(Config):
    """One checkpoint of the authors; its key is the archive's name.

    Attributes:
        desc: for people; begins with the paper's section or table.
        network: what the checkpoint holds. Its names and shapes must agree with it; what they
            cannot say (atrous rates, normalisation of images) is taken from here. Null takes the
            backbone alone, for the `start` of a training.
        classes: table of the classes that the logits stand for, "generic" for one of mere
            numbers. Null drops the logits, for a training on other classes.
    """

    desc: str
    network: Network | None
    classes: Literal["voc", "cityscapes", "generic"] | None

    @model_validator(mode="after")
    def _a_backbone_has_no_classes(self) -> Self:
        if self.network is None and self.classes is not None:
            raise ValueError(
                f"classes: must be null, not {self.classes}, where network is null: backbone "
                "weights have no logits"
            )
        return self
