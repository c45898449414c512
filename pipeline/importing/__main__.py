"""Turns a TensorFlow checkpoint of the authors into a checkpoint here, without a pipeline.

Usage: python -m pipeline.importing ARCHIVE OUT keep|drop

What network it is of is found out and printed, as a `network` section of params.yaml. "drop" leaves
the logits out, for a training on other classes.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from pipeline import command
from pipeline.classes import Classes
from pipeline.importing import classes, convert, names, networks, tensorflow_file
from pipeline.model.config import Network


class Logits(enum.StrEnum):
    """What becomes of the logits layer."""

    KEEP = "keep"
    DROP = "drop"


def main(archive: Path, out: Path, logits: Logits) -> None:
    """Reads an archive of the model zoo, or model.ckpt of a folder; never writes over a file."""
    if out.exists():
        raise ValueError(f"{out}: exists already; remove it or name another file")
    variables = tensorflow_file.read(archive)
    found = networks.infer(archive, convert.shapes_of(variables))
    ignored = dict(names.IGNORED)
    if found.network is None:
        description = f"weights of {found.backbone} alone, for the start of a training"
        convert.save_backbone(archive, variables, found.backbone, out)
    else:
        table = None
        if logits is Logits.KEEP:
            table = classes.guessed(archive, found.num_classes)
        else:
            ignored |= names.LOGITS
        description = _describe(found.network, table)
        convert.save_network(archive, variables, found.network, table, out)
    print(f"{archive}: {len(variables)} variables")
    print(description)
    print(f"ignored: {_count(variables, ignored)}")
    print(f"written: {out}")


def _describe(network: Network, table: Classes | None) -> str:
    section = yaml.safe_dump(network.model_dump(), sort_keys=False, default_flow_style=None)
    names_shown = "none, without logits" if table is None else ", ".join(table.names)
    return (
        f"{section}classes: {names_shown}\n"
        "no checkpoint holds output_stride, multi_grid, mean, std, atrous_rates, dropout and batch "
        "normalisation: those are the authors' code's"
    )


def _count(variables: Iterable[str], ignored: Mapping[str, str]) -> str:
    kinds = Counter(names.kind_of(name, ignored) for name in variables)
    counts = (f"{count} of {kind}" for kind, count in kinds.items() if kind is not None)
    return ", ".join(counts) or "nothing"


if __name__ == "__main__":
    command.run(main)
