"""Packs Cityscapes' extra images with coarse labels, for the test server's model (Sec. 4.5)."""

from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params, splits, summary
from pipeline.cityscapes import CLASSES
from pipeline.originals import cityscapes, zip_archive
from pipeline.originals.config import CityscapesCoarse

_SPLIT = "train_extra"


def main(key: str, params_file: Path, images: Path, labels: Path, out: Path, metrics: Path) -> None:
    """Writes train_extra alone: the other images of gtCoarse have fine labels too."""
    config = params.load(params_file, f"cityscapes_coarse.{key}", CityscapesCoarse)
    image_members, label_members = zip_archive.index(images), zip_archive.index(labels)
    frames = cityscapes.find_frames(
        images,
        image_members,
        labels,
        label_members,
        kind="gtCoarse",
        expected_images={_SPLIT: config.expected_images},
    )[_SPLIT]
    with tqdm(total=len(frames), desc="coarse", unit=" images") as bar:
        samples = cityscapes.samples(
            images,
            image_members,
            labels,
            label_members,
            frames,
            split=_SPLIT,
            storage=config.storage,
            source=config.labels,
            advance=bar.update,
        )
        splits.write(out, samples, CLASSES)
    files.write_json(metrics, {"coarse": summary.summarise(out)})


if __name__ == "__main__":
    command.run(main)
