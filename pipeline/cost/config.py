"""What the cost of a row depends on, out of the sections `models`, `imports` and `rows`.

That each section is whole, and that nothing else stands in it, is checked before anything runs.
"""

from pydantic import ConfigDict

from pipeline.inference.config import Inference
from pipeline.model.config import Network
from pipeline.params import Config


class Described(Config):
    """An entry of `models` or `imports`: what a row's network can come from.

    Attributes:
        network: its description; null where an import is of backbone weights alone.
    """

    model_config = ConfigDict(extra="ignore")

    network: Network | None


class Row(Config):
    """An entry of `rows`.

    Attributes:
        model: key of a model or an import.
        data: the split it is evaluated on; says how many classes there are.
        paper: keys of the rows of paper.yaml that it answers.
        inference: the strategy.
    """

    model_config = ConfigDict(extra="ignore")

    model: str
    data: str
    paper: list[str]
    inference: Inference
