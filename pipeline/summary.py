"""What a split holds, in numbers: images by source and class, pixels by class, sizes.

All of it stands in the split's small columns; no image and no label map is looked at.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.splits import Split

_COLUMNS = ["source", "height", "width", "classes", "pixels_per_class"]


def summarise(path: Path) -> dict[str, Any]:
    """Summarises a split; every class has a number, and void is what no class has."""
    names = Split(path).classes.names
    with pa.memory_map(str(path)) as file:
        columns = pa.ipc.open_file(file, options=_options(file)).read_all()
        images = columns.to_pandas()
    values = images[["classes", "pixels_per_class"]].explode(["classes", "pixels_per_class"])
    values = values.dropna().astype("int64")  # 32 bits hold an image's pixels, not a split's
    per_class = values.groupby("classes")["pixels_per_class"].agg(["count", "sum"])
    per_class = per_class.reindex(range(len(names)), fill_value=0)
    num_pixels = int((images["height"].astype("int64") * images["width"]).sum())
    return {
        "images": len(images),
        "images_per_source": _counts(images["source"].value_counts().sort_index()),
        "images_per_class": _counts(per_class["count"].set_axis(names)),
        "pixels_per_class": _counts(per_class["sum"].set_axis(names)),
        "void_pixels": num_pixels - int(per_class["sum"].sum()),
        "height": _range(images["height"]),
        "width": _range(images["width"]),
    }


def _options(file: pa.MemoryMappedFile) -> pa.ipc.IpcReadOptions:
    """Reads the small columns alone, whatever the images take."""
    names = pa.ipc.open_file(file).schema.names
    return pa.ipc.IpcReadOptions(included_fields=[names.index(name) for name in _COLUMNS])


def _counts(series: "pd.Series[Any]") -> dict[str, int]:
    return {str(name): int(count) for name, count in series.items()}


def _range(series: "pd.Series[int]") -> dict[str, int]:
    return {"min": int(series.min()), "max": int(series.max())}
