"""The class tables that a checkpoint's logits may stand for: it holds their number alone."""

from pathlib import Path

from pipeline import voc
from pipeline.classes import Classes
from pipeline.importing.config import TABLES

_VOID = 255


def named(path: Path, name: str, num_classes: int | None) -> Classes:
    """The table of a name that `imports` may have.

    Args:
        path: of the checkpoint, for errors.
        name: "voc" or "cityscapes", or "generic" for mere numbers.
        num_classes: K of the checkpoint's logits, None where it has none.

    Raises:
        ValueError: the checkpoint has logits of another number of classes, or none.
    """
    classes = TABLES.get(name) or generic(_require(path, num_classes))
    if classes.num_classes != _require(path, num_classes):
        raise ValueError(
            f"{path}: has logits of {num_classes} classes, {name} has {classes.num_classes}"
        )
    return classes


def guessed(path: Path, num_classes: int | None) -> Classes:
    """The known table of as many classes, or a generic one.

    Raises:
        ValueError: the checkpoint has no logits.
    """
    count = _require(path, num_classes)
    fitting = (table for table in TABLES.values() if table.num_classes == count)
    return next(fitting, None) or generic(count)


def generic(num_classes: int) -> Classes:
    """Classes that are mere numbers, in VOC's colours."""
    return Classes(
        names=tuple(f"class {label}" for label in range(num_classes)),
        colours=tuple(voc.colour(label) for label in range(num_classes)),
        ignore_index=_VOID,
    )


def _require(path: Path, num_classes: int | None) -> int:
    if num_classes is None:
        raise ValueError(f"{path}: has no logits layer, which can only be dropped")
    if not 1 <= num_classes <= _VOID:
        raise ValueError(f"{path}: has logits of {num_classes} classes; 1 to {_VOID} are possible")
    return num_classes
