"""The report's charts, as PNG files of the same bytes for the same numbers.

Drawn narrow, with letters large beside the chart, so that a phone's width still shows them.
Matplotlib's object interface alone: no pyplot, so no window system and no state between figures.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.results import Result

# Okabe and Ito's colours, told apart by the colour-blind too; yellow is left out on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
_LINES = ("-", "--", ":", "-.")  # once the colours are used up, and then again
_LINE_WIDTHS = (2.0, 1.0)  # once those are used up: a preset has more rows than 28
_HATCHES = ("", "////")  # likewise
_INK = "#1f2328"

_STYLE = {
    "font.size": 10.0,
    "text.parse_math": False,  # a name may hold a dollar sign
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#8c959f",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e1e4e8",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "savefig.dpi": 170.0,
}

_MAX_BANDS = 4
_MAX_BARS = 8  # rows, beyond which IoU per class is a map
_MIN_FONT = 5.0  # points, below which numbers are not written into it
_MAX_WRITTEN = 25  # classes, beyond which a confusion matrix has colours alone

# Inches.
_WIDTH = 6.4
_LEGEND_LINE = 0.21
_KEY_LENGTH, _NAME_LENGTH = 64, 17  # characters


@contextlib.contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yields a figure of that size in inches; it is written to `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with style.context(["default", _STYLE]):
        drawn = Figure(figsize=(width, height))
        yield drawn
        drawn.savefig(path, format="png", metadata={"Software": None})


def place(drawn: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes of that size to a figure, their upper left corner there; inches."""
    across, down = drawn.get_size_inches()
    box = (left / across, 1 - (top + height) / down, width / across, height / down)
    return drawn.add_axes(box)


def trimap_curves(results: Sequence[Result], path: Path) -> None:
    """Draws mIoU over trimap width, a curve for each row that has one (Fig. 5), if any has.

    A few curves have their 95 % intervals behind them; of many these would hide the curves.
    """
    curves = [result for result in results if result.trimap]
    if not curves:
        return
    legend_height = _LEGEND_LINE * len(curves) + 0.2
    with figure(path, _WIDTH, legend_height + 3.6) as drawn:
        axes = place(drawn, 0.7, legend_height, _WIDTH - 0.9, 3.0)
        looks = len(_COLOURS) * len(_LINES)
        for index, result in enumerate(curves):
            axes.plot(
                [point.trimap_width for point in result.trimap],
                [100 * point.miou for point in result.trimap],
                color=_COLOURS[index % len(_COLOURS)],
                linestyle=_LINES[index // len(_COLOURS) % len(_LINES)],
                linewidth=_LINE_WIDTHS[index // looks % len(_LINE_WIDTHS)],
                marker="o" if len(result.trimap) == 1 else "",
            )
            if len(curves) <= _MAX_BANDS:
                axes.fill_between(
                    [point.trimap_width for point in result.trimap],
                    [100 * point.miou_low for point in result.trimap],
                    [100 * point.miou_high for point in result.trimap],
                    color=_COLOURS[index % len(_COLOURS)],
                    alpha=0.15,
                    linewidth=0,
                )
        axes.set_xlim(left=0)
        axes.set_xlabel("trimap width, pixels from void")
        axes.set_ylabel("mIoU, %")
        _legend(drawn, axes.lines, curves)


def iou_per_class(results: Sequence[Result], path: Path) -> None:
    """Draws IoU by class and row, if there is a row: as bars, or of many rows as a map."""
    names = class_names(results)
    if names and len(results) <= _MAX_BARS:
        _iou_bars(results, names, path)
    elif names:
        _iou_map(results, names, path)


def _iou_map(results: Sequence[Result], names: Sequence[str], path: Path) -> None:
    """A line per class and a numbered column per row, whose keys stand above."""
    iou = [[r.scores.iou_per_class.get(name, np.nan) for r in results] for name in names]
    shares = 100 * np.array(iou)
    legend_height = _LEGEND_LINE * len(results) + 0.2
    height, width = 0.2 * len(names), _WIDTH - 1.85
    font = min(9.0, 72 * 0.42 * width / len(results))
    with figure(path, _WIDTH, legend_height + height + 0.9) as drawn:
        axes = place(drawn, 1.65, legend_height + 0.3, width, height)
        axes.set_facecolor("#e1e4e8")  # of a class that a row does not have
        axes.imshow(shares, cmap="viridis", vmin=0, vmax=100, aspect="auto")
        axes.grid(visible=False)
        axes.set_yticks(range(len(names)), [shorten(name, _NAME_LENGTH) for name in names])
        axes.set_xticks(range(len(results)), [str(n + 1) for n in range(len(results))])
        axes.tick_params(axis="x", top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.tick_params(axis="both", length=0)
        for tick in axes.get_xticklabels():
            tick.set_fontsize(font)
        for (line, column), share in np.ndenumerate(shares):
            if font >= _MIN_FONT and not np.isnan(share):
                colour = _INK if share > 60 else "white"
                look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 0.9 * font}
                axes.text(column, line, f"{share:.0f}", color=colour, **look)
        for number, result in enumerate(results):
            height_of_line = 1 - (0.1 + _LEGEND_LINE * (number + 0.5)) / drawn.get_size_inches()[1]
            key = shorten(result.key, _KEY_LENGTH)
            drawn.text(0.3 / _WIDTH, height_of_line, str(number + 1), va="center", ha="right")
            drawn.text(0.4 / _WIDTH, height_of_line, key, va="center")
        axes.set_xlabel("IoU, %; grey: a class that neither label nor prediction has")


def _iou_bars(results: Sequence[Result], names: Sequence[str], path: Path) -> None:
    """A group per class and a bar per row."""
    bar = 0.2 if len(results) < 3 else 0.12
    group = bar * len(results) + 0.1
    legend_height = _LEGEND_LINE * len(results) + 0.2
    height = group * len(names)
    with figure(path, _WIDTH, legend_height + height + 0.7) as drawn:
        axes = place(drawn, 1.65, legend_height, _WIDTH - 2.05, height)
        handles = []
        for index, result in enumerate(results):
            offset = (index - (len(results) - 1) / 2) * bar / group
            iou = result.scores.iou_per_class
            present = [position for position, name in enumerate(names) if name in iou]
            bars = axes.barh(
                [position + offset for position in present],
                [100 * iou[names[position]] for position in present],
                height=0.92 * bar / group,
                color=_COLOURS[index % len(_COLOURS)],
                hatch=_HATCHES[index // len(_COLOURS) % len(_HATCHES)],
                edgecolor="white",
                linewidth=0.0,
            )
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=45 * bar)
            handles.append(bars)
        axes.set_yticks(range(len(names)), [shorten(name, _NAME_LENGTH) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("IoU, %")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        _legend(drawn, handles, results)


def confusion_matrix(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Draws where the pixels of each class went, in percent of its pixels in the label.

    Args:
        table: columns label, prediction and pixels, see `evaluation.scores.confusion_table`.
        names: of the classes that occur, in their order.
        path: of the picture.
    """
    square = table.pivot_table("pixels", "label", "prediction", aggfunc="sum", fill_value=0)
    counts = square.reindex(index=list(names), columns=list(names), fill_value=0).to_numpy(float)
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = min(_WIDTH - 1.8, 0.42 * len(names) + 0.6)
    font = min(9.0, 100 * side / (len(names) + 2))
    with figure(path, _WIDTH, side + 1.5) as drawn:
        axes = place(drawn, 1.65, 0.1, side, side)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axes.grid(visible=False)
        shown = [shorten(name, _NAME_LENGTH) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=font)
        axes.set_yticks(range(len(names)), shown, fontsize=font)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if len(names) <= _MAX_WRITTEN:
            for (row, column), share in np.ndenumerate(shares):
                if share >= 1:  # under one percent is nothing to read
                    colour = "white" if share > 50 else _INK
                    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 0.8 * font}
                    axes.text(column, row, f"{share:.0f}", color=colour, **look)


def class_names(results: Sequence[Result]) -> list[str]:
    """The classes that have an IoU in some row, each once, in the order of the first such row."""
    names: dict[str, None] = {}
    for result in results:
        names |= dict.fromkeys(result.scores.iou_per_class)
    return list(names)


def shorten(text: str, length: int) -> str:
    """The text itself, or its beginning and an ellipsis, `length` characters together."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def escaped(text: str) -> str:
    """The text as a legend's entry: matplotlib would drop one that begins with an underscore."""
    return "\u200b" * text.startswith("_") + text


def _legend(drawn: Figure, handles: Sequence[Any], results: Sequence[Result]) -> None:
    keys = [escaped(shorten(result.key, _KEY_LENGTH)) for result in results]
    drawn.legend(handles, keys, loc="upper left", borderaxespad=0.3)
