"""Packs Cityscapes with its fine labels into three splits: train, val and test (Sec. 4.5)."""

from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params, splits, summary
from pipeline.cityscapes import CLASSES
from pipeline.originals import cityscapes, zip_archive
from pipeline.originals.config import Cityscapes


def main(
    key: str,
    params_file: Path,
    images: Path,
    labels: Path,
    train: Path,
    val: Path,
    test: Path,
    metrics: Path,
) -> None:
    """Writes each split sorted by image id; the label maps of test are void."""
    config = params.load(params_file, f"cityscapes.{key}", Cityscapes)
    image_members, label_members = zip_archive.index(images), zip_archive.index(labels)
    frames = cityscapes.find_frames(
        images,
        image_members,
        labels,
        label_members,
        kind="gtFine",
        expected_images=config.expected_images.model_dump(),
    )
    outs = {"train": train, "val": val, "test": test}
    for split, out in outs.items():
        with tqdm(total=len(frames[split]), desc=split, unit=" images") as bar:
            samples = cityscapes.samples(
                images,
                image_members,
                labels,
                label_members,
                frames[split],
                split=split,
                storage=config.storage,
                source=config.labels,
                advance=bar.update,
            )
            splits.write(out, samples, CLASSES)
    files.write_json(metrics, {split: summary.summarise(out) for split, out in outs.items()})


if __name__ == "__main__":
    command.run(main)
