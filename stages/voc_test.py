"""Packs the images of PASCAL VOC 2012 test, whose labels its server alone knows (Table 6)."""

from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, splits, summary
from pipeline.originals import archive, voc
from pipeline.voc import CLASSES


def main(key: str, archive_file: Path, test: Path, metrics: Path) -> None:
    """Image bytes are copied, never re-encoded; every label map is void."""
    members = archive.index(archive_file)
    image_ids = voc.read_test_list(archive_file, members)
    samples = voc.unlabelled_samples(archive_file, members, image_ids, key)
    splits.write(test, tqdm(samples, desc="test", total=len(image_ids), unit=" images"), CLASSES)
    files.write_json(metrics, {"test": summary.summarise(test)})


if __name__ == "__main__":
    command.run(main)
