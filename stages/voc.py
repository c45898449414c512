"""Packs PASCAL VOC 2012 into three splits: train, val and trainval (Sec. 4)."""

from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, splits, summary
from pipeline.originals import archive, voc
from pipeline.voc import CLASSES


def main(
    key: str, archive_file: Path, train: Path, val: Path, trainval: Path, metrics: Path
) -> None:
    """Reads the archive once per split; image and label bytes are copied, never re-encoded."""
    members = archive.index(archive_file)
    lists = voc.read_lists(archive_file, members)
    outs = {"train": train, "val": val, "trainval": trainval}
    for split, out in outs.items():
        samples = voc.samples(archive_file, members, lists[split], key)
        bar = tqdm(samples, desc=split, total=len(lists[split]), unit=" images")
        splits.write(out, bar, CLASSES)
    files.write_json(metrics, {split: summary.summarise(out) for split, out in outs.items()})


if __name__ == "__main__":
    command.run(main)
