"""Makes of a checkpoint the start of a training on other classes.

Usage: python -m pipeline.drop_classifier CHECKPOINT OUT
"""

from pathlib import Path

from pipeline import command
from pipeline.model import checkpoints


def main(checkpoint: Path, out: Path) -> None:
    """Writes the weights without the classifier; never over a file."""
    if out.exists():
        raise ValueError(f"{out}: exists already; remove it or name another file")
    checkpoints.drop_classifier(checkpoint, out)
    print(f"written: {out}")


if __name__ == "__main__":
    command.run(main)
