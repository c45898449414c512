"""Reading a TensorFlow 1 checkpoint, out of an archive of the authors' model zoo or from a folder.

TensorFlow itself reads it: the format has checksums, compression and slices that are not ours to
write anew. It is imported here alone, and only when something is read, so that everything else
runs without it.

Source: tensorflow/models research/deeplab, g3doc/model_zoo.md: an archive is one folder with
model.ckpt.index, model.ckpt.data-00000-of-00001 and often frozen_inference_graph.pb.
"""

import importlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.originals import archive

Variables = dict[str, NDArray[Any]]

_INDEX = ".index"
_DATA = ".data-00000-of-00001"
_PART = re.compile(f"(?P<prefix>.*)(?P<kind>{re.escape(_INDEX)}|{re.escape(_DATA)})", re.DOTALL)


def read(path: Path) -> Variables:
    """Reads all variables of a checkpoint.

    Args:
        path: a tar or tar.gz that holds one checkpoint; or of a checkpoint in a folder what comes
            before ".index", e.g. train/model.ckpt-30000.

    Returns:
        Variables by name, in TensorFlow's layout and type.

    Raises:
        ValueError: no checkpoint, more than one, or a damaged one; or there is no TensorFlow.
    """
    tensorflow = _import_tensorflow()
    prefix = path.with_suffix("") if path.suffix == _INDEX else path
    if Path(f"{prefix}{_INDEX}").is_file():
        return _load(tensorflow, prefix, path)
    with tempfile.TemporaryDirectory() as folder:
        return _load(tensorflow, extract(path, Path(folder)), path)


def extract(path: Path, folder: Path) -> Path:
    """Unpacks the one checkpoint in an archive, under names of our own.

    No name of the archive reaches the disk, and links are passed over: nothing leads out of the
    folder.

    Args:
        path: a tar or tar.gz.
        folder: empty.

    Returns:
        What the names of the unpacked files begin with.

    Raises:
        ValueError: no archive, a damaged one, or one that does not hold one checkpoint.
    """
    kinds: dict[str, set[str]] = {}
    for name, content in archive.stream(path, lambda name: _PART.fullmatch(name) is not None):
        prefix, kind = _PART.fullmatch(name).group("prefix", "kind")  # type: ignore[union-attr]
        kinds.setdefault(prefix, set()).add(kind)
        number = list(kinds).index(prefix)
        (folder / f"{number}{kind}").write_bytes(content)
    whole = [prefix for prefix, found in kinds.items() if found == {_INDEX, _DATA}]
    if not whole:
        raise ValueError(
            f"{path}: holds no TensorFlow checkpoint, which would be NAME{_INDEX} and NAME{_DATA}"
        )
    if len(whole) > 1:
        raise ValueError(
            f"{path}: holds {len(whole)} checkpoints ({', '.join(sorted(whole))}); unpack it and "
            f"name one"
        )
    return folder / str(list(kinds).index(whole[0]))


def global_step(variables: Variables) -> int:
    """How many updates a checkpoint's network has had; 0 where it does not say so."""
    return int(variables["global_step"]) if "global_step" in variables else 0


def _import_tensorflow() -> Any:  # so that types are checked alike where it is not installed
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # nothing is computed; it only says so
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise ValueError(
            f"a TensorFlow checkpoint is read by TensorFlow, and that cannot be imported ({error}):"
            " `make setup-tensorflow` installs it"
        ) from error


def _load(tensorflow: Any, prefix: Path, path: Path) -> Variables:
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        names = sorted(reader.get_variable_to_shape_map())
        return {name: np.asarray(reader.get_tensor(name)) for name in names}
    # What it raises on bad bytes: its own errors, and IndexError where a file is too short.
    except (tensorflow.errors.OpError, LookupError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).replace(str(prefix), path.name).split())
        raise ValueError(f"{path}: not a readable TensorFlow checkpoint: {reason}") from error
