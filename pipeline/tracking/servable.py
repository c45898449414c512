"""The folder that MLflow keeps of a servable model: code, checkpoint, and what they need.

It loads without this repository: it has a copy of the modules of `pipeline` that serve, and names
the Python packages that these import, in the versions that made the model.
"""

import base64
import os
import shutil
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from packaging.version import Version

from pipeline import pixels
from pipeline.serving import images

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints as it is imported
    import mlflow.pyfunc

# Else MLflow copies a lock and pyproject.toml from the working folder, and draws progress bars.
os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

# The modules of `pipeline` that serve, and no others: each file is a request to the store.
CODE = (
    "__init__.py",
    "classes.py",
    "data",
    "devices.py",
    "files.py",
    "inference",
    "label_map.py",
    "model",
    "parallel.py",
    "params.py",
    "pictures",
    "pixels.py",
    "serving",
    "splits.py",
)

# What these modules import; tests/test_serving.py compares.
PACKAGES = (
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "timm",
    "torch",
)

_MODEL = Path(__file__).with_name("served_model.py")
_PACKAGE = Path(__file__).parents[1]

# Larger pictures are shrunk to this many pixels, as `make predict` does by default.
_MAX_SIDE = 2049


def write(
    folder: Path,
    checkpoint: Path,
    inference: Mapping[str, Any],
    *,
    model_id: str,
    facts: Mapping[str, str],
) -> None:
    """Writes a model of MLflow's flavour "python_function".

    Args:
        folder: does not exist yet; the folder that it is to be in is empty.
        checkpoint: is copied into it.
        inference: the strategy, a row's section of params.yaml.
        model_id: of the LoggedModel that it is for.
        facts: what it is made of, as text.
    """
    model = Model(model_id=model_id)
    code = folder.with_name(_PACKAGE.name)
    _copy_code(code)
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(_MODEL),
        code_paths=[str(code)],
        artifacts={"checkpoint": checkpoint.as_posix()},
        model_config={"inference": dict(inference), "max_side": _MAX_SIDE},
        pip_requirements=requirements(),
        signature=_signature(),
        input_example=(_example(), {"encoding": "png"}),
        metadata=dict(facts),
        mlflow_model=model,
    )
    model.flavors["python_function"]["model_code_path"] = _MODEL.name  # no path of this machine
    model.save(str(folder / "MLmodel"))


def requirements() -> list[str]:
    """The packages in the installed versions, those of requirements.lock, as PyPI names them."""
    return [f"{name}=={Version(metadata.version(name)).public}" for name in PACKAGES]


def _copy_code(folder: Path) -> None:
    folder.mkdir()
    for name in CODE:
        source = _PACKAGE / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copyfile(source, folder / name)


def _signature() -> ModelSignature:
    """What comes in and goes out, with the parameter `encoding`.

    The input has no schema: one that accepts arrays would refuse encoded images, and the reverse.
    """
    labels = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1), "label")])
    encoding = ParamSpec("encoding", DataType.string, images.ENCODINGS[0])
    return ModelSignature(outputs=labels, params=ParamSchema([encoding]))


def _example() -> dict[str, list[str]]:
    """A small picture in the form in which JSON holds it: a grey ramp."""
    image = np.zeros((48, 64, 3), np.uint8)
    image += np.arange(0, 256, 4, dtype=np.uint8)[None, :, None]
    return {images.COLUMN: [base64.b64encode(pixels.png(image)).decode("ascii")]}
