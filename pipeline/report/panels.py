"""Qualitative panels: image, label and prediction in the classes' colours (Fig. 6)."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from pipeline import label_map, splits
from pipeline.classes import Classes
from pipeline.label_map import LabelMap
from pipeline.report import figures
from pipeline.splits import Split

# Inches.
_COLUMN, _GAP, _MARGIN = 2.06, 0.08, 0.05
_TITLE, _CAPTION, _LEGEND_LINE = 0.26, 0.24, 0.22
_LEGEND_COLUMNS = 4
_ID_LENGTH, _NAME_LENGTH = 80, 18  # characters


@dataclass(frozen=True)
class Panel:
    """One image with what is true of it and what was predicted.

    Attributes:
        image_id: its id.
        image: (H, W, 3) RGB, uint8.
        label: (H, W) true classes, ignore_index where void.
        prediction: (H, W) predicted classes.
    """

    image_id: str
    image: NDArray[np.uint8]
    label: LabelMap
    prediction: LabelMap


def read(split: Split, predictions: Path, num_panels: int) -> list[Panel]:
    """Reads the chosen images of a split and their predicted label maps.

    Raises:
        ValueError: a prediction is no label map, or not one of its image's size; names the file.
    """
    return [_read_one(split, index, predictions) for index in splits.spread(len(split), num_panels)]


def read_images(split: Split, predictions: Path, image_ids: Sequence[str]) -> list[Panel]:
    """Reads these images of a split and their predicted label maps, in this order."""
    places = {image_id: index for index, image_id in enumerate(split.image_ids)}
    return [_read_one(split, places[image_id], predictions) for image_id in image_ids]


def draw_folder(split: Split, predictions: Path, path: Path) -> None:
    """Draws the images of a split that a folder has predictions of, in the split's order."""
    predicted = {file.stem for file in predictions.glob("*.png")}
    chosen = [i for i, image_id in enumerate(split.image_ids) if image_id in predicted]
    draw([_read_one(split, index, predictions) for index in chosen], split.classes, path)


def draw(panels: Sequence[Panel], classes: Classes, path: Path) -> None:
    """Draws the panels, if any, one below the other, and the colours of the classes they hold."""
    if not panels:
        return
    heights = [min(_COLUMN, _COLUMN * p.label.shape[0] / p.label.shape[1]) for p in panels]
    entries = _legend_entries(panels, classes)
    legend_height = _LEGEND_LINE * -(-len(entries) // _LEGEND_COLUMNS) + 0.15
    height = _TITLE + sum(heights) + _CAPTION * len(panels) + legend_height
    with figures.figure(path, _left(3), height) as drawn:
        for column, title in enumerate(("image", "label", "prediction")):
            _write(drawn, title, _left(column), _TITLE - 0.09, weight="bold")
        top = _TITLE
        for panel, panel_height in zip(panels, heights, strict=True):
            label = label_map.colourise(panel.label, classes)
            prediction = label_map.colourise(panel.prediction, classes)
            for column, picture in enumerate((panel.image, label, prediction)):
                axes = figures.place(drawn, _left(column), top, _COLUMN, panel_height)
                axes.imshow(picture)
                axes.set_anchor("W")
                axes.set_axis_off()
            name = figures.shorten(panel.image_id, _ID_LENGTH)
            _write(drawn, name, _left(0), top + panel_height + 0.14, fontsize=7.5, color="#57606a")
            top += panel_height + _CAPTION
        drawn.legend(
            handles=entries,
            loc="lower left",
            ncols=_LEGEND_COLUMNS,
            fontsize=9,
            borderaxespad=0.2,
            handlelength=1.2,
        )


def _read_one(split: Split, index: int, predictions: Path) -> Panel:
    sample = split[index]
    file = predictions / f"{sample.image_id}.png"
    with Image.open(io.BytesIO(sample.image)) as opened:
        image = np.asarray(opened.convert("RGB"))
    label = label_map.decode(sample.label)
    try:
        prediction = label_map.decode(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if prediction.shape != label.shape:
        raise ValueError(
            f"{file}: prediction has shape {prediction.shape}, its label {label.shape}"
        )
    return Panel(sample.image_id, image, label, prediction)


def _legend_entries(panels: Sequence[Panel], classes: Classes) -> list[Patch]:
    """A patch for each class that occurs in the panels, and for void where that does."""
    maps = [plane for panel in panels for plane in (panel.label, panel.prediction)]
    counts = sum(np.bincount(plane.ravel(), minlength=256) for plane in maps)
    names = {**dict(enumerate(classes.names)), classes.ignore_index: "void, not scored"}
    colours = label_map.colourise(np.arange(256, dtype=np.uint8), classes) / 255
    return [
        Patch(
            facecolor=tuple(colours[value]),
            edgecolor="#8c959f",
            linewidth=0.5,
            label=figures.escaped(figures.shorten(names[value], _NAME_LENGTH)),
        )
        for value in np.flatnonzero(counts).tolist()
        if value in names
    ]


def _write(drawn: Figure, text: str, left: float, bottom: float, **look: Any) -> None:
    across, down = drawn.get_size_inches()
    drawn.text(left / across, 1 - bottom / down, text, **look)


def _left(column: int) -> float:
    return _MARGIN + column * (_COLUMN + _GAP)
