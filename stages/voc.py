"""Packs PASCAL VOC 2012 into three splits: train, val and trainval (Sec. 4)."""

from pathlib import Path

from tqdm import tqdm

from pipeline import command, splits
from pipeline.originals import archive, voc
from pipeline.voc import CLASSES


def main(source: str, archive_file: Path, train: Path, val: Path, trainval: Path) -> None:
    """Reads the archive once per split; image and label bytes are copied, never re-encoded."""
    members = archive.index(archive_file)
    lists = voc.read_lists(archive_file, members)
    for split, out in (("train", train), ("val", val), ("trainval", trainval)):
        samples = voc.samples(archive_file, members, lists[split], source)
        bar = tqdm(samples, desc=split, total=len(lists[split]), unit=" images")
        splits.write(out, bar, CLASSES)


if __name__ == "__main__":
    command.run(main)
