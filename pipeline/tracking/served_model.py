"""The model that MLflow loads and serves; MLflow keeps a copy of this file and runs it.

    model = mlflow.pyfunc.load_model("models:/NAME@champion")
    label = model.predict(image)

`predict` takes what `pipeline.serving.images.read` does: an (H, W, 3) uint8 array, encoded bytes,
or several of these. It returns an (H, W) uint8 array of classes, or a list of them; with
params={"encoding": "png"} palette PNGs in base64. Nothing here is a pickle: the weights are a
checkpoint in safetensors beside this file, the strategy is the model's config.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from pipeline.serving import images


class ServedModel(PythonModel):
    """A trained network under a row's inference strategy."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the network; imports torch here alone, as `publish` runs this file without it."""
        from pipeline.inference.config import Inference
        from pipeline.serving import network

        config: Any = context.model_config
        self.served = network.load(
            Path(context.artifacts["checkpoint"]),
            Inference.model_validate(config["inference"]),
            max_side=config["max_side"],
        )

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,  # or anything else; MLflow warns of types that it does not know
        params: dict[str, Any] | None = None,
    ) -> Any:
        """Labels each picture; a mistake in the request is answered with status 400."""
        from pipeline.serving import network

        encoding = (params or {}).get("encoding", images.ENCODINGS[0])
        try:
            images.check_encoding(encoding)
            pictures, is_one = images.read(model_input)
        except ValueError as error:
            raise _BadRequest(str(error)) from None
        found: list[Any] = [network.label(self.served, picture) for picture in pictures]
        if encoding == "png":
            found = [network.png(self.served, label) for label in found]
        return found[0] if is_one else found


class _BadRequest(MlflowException):
    """A mistake of the caller; MLflow would answer with the whole request before the message."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)  # status 400
        self.said = message

    def serialize_as_json(self) -> str:
        """What the server answers."""
        return json.dumps({"error_code": self.error_code, "message": self.said})


set_model(ServedModel())
