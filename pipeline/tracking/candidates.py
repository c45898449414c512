"""Which rows are served: of each checkpoint the best, all compared on the same data."""

from collections import Counter
from collections.abc import Sequence

from pipeline.tracking import identity
from pipeline.tracking.provenance import File
from pipeline.tracking.runs import Run

_SCORE = "score/miou"


def miou(row: Run) -> float:
    """In [0, 1]; not a number where nothing was scored."""
    return row.curves[_SCORE][0]


def compared(rows: Sequence[Run]) -> File:
    """The split that most rows are evaluated on; of several with equally many, the first."""
    return Counter(row.files["data"] for row in rows).most_common(1)[0][0]


def best(rows: Sequence[Run], data: File) -> list[Run]:
    """Of each checkpoint the row with the highest mIoU, on the compared split if it has one."""
    found: dict[str, Run] = {}
    for row in rows:
        key = row.files["checkpoint"].md5
        if key not in found or _rank(row, data) > _rank(found[key], data):
            found[key] = row
    return list(found.values())


def facts(row: Run) -> dict[str, str]:
    """What a served model is, by name.

    Its identity hashes the checkpoint, the strategy and the mIoU. If the mIoU alone differs, it was
    computed by other code, of which a model holds a copy, or on other data: it is another model.
    """
    md5 = row.files["checkpoint"].md5
    served = identity.flatten({"inference": row.inference}) | {"miou": repr(miou(row))}
    return {
        identity.TAG: identity.identity("served", "", served, {"checkpoint": md5}),
        "model": trained(row).key,
        "row": row.key,
        "data": row.files["data"].path,
        "data.md5": row.files["data"].md5,
        "checkpoint.md5": md5,
    }


def trained(row: Run) -> Run:
    """The run of the row's checkpoint."""
    if row.trained is None:
        raise ValueError(f"{row.name}: is no row of a trained model")
    return row.trained


def _rank(row: Run, data: File) -> tuple[bool, float]:
    return row.files["data"] == data, miou(row)
