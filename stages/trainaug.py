"""Packs trainaug: VOC train, then what SBD adds to it without touching VOC val (Sec. 4)."""

from itertools import chain
from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params, splits, summary
from pipeline.originals import sbd
from pipeline.originals.config import Trainaug
from pipeline.voc import CLASSES


def main(
    key: str,
    params_file: Path,
    archive_file: Path,
    train: Path,
    val: Path,
    out: Path,
    metrics: Path,
) -> None:
    """Writes VOC train's samples unchanged and in order, then SBD's in its archive's order."""
    config = params.load(params_file, f"trainaug.{key}", Trainaug)
    voc_train, voc_val = splits.Split(train), splits.Split(val)
    lists = sbd.read_lists(archive_file)
    sbd.check_count(config.expected_images, voc_train.image_ids, voc_val.image_ids, lists)
    added = sbd.added_ids(voc_train.image_ids, voc_val.image_ids, lists.train, lists.val)

    read_labels = sbd.read_labels(archive_file, lists.root, added)
    labels = dict(tqdm(read_labels, desc="label maps", total=len(added), unit=" images"))
    samples = chain(voc_train, sbd.samples(archive_file, lists.root, labels, key))
    bar = tqdm(samples, desc="trainaug", total=config.expected_images, unit=" images")
    splits.write(out, bar, CLASSES)
    files.write_json(metrics, {"trainaug": summary.summarise(out)})


if __name__ == "__main__":
    command.run(main)
