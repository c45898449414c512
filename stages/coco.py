"""Packs COCO in VOC's classes, for pre-training (DeepLab v3 Sec. 4.3)."""

from pathlib import Path

from tqdm import tqdm

from pipeline import command, files, params, splits, summary
from pipeline.originals import coco, zip_archive
from pipeline.originals.config import Coco
from pipeline.voc import CLASSES


def main(
    key: str, params_file: Path, images: Path, annotations: Path, out: Path, metrics: Path
) -> None:
    """Writes the images that are kept in the order of their archive."""
    config = params.load(params_file, f"coco.{key}", Coco)
    members = zip_archive.index(images)
    folder = coco.find_folder(images, members)
    photographs = coco.read_photographs(annotations, folder, images, members)
    with tqdm(total=len(photographs), desc=f"coco {key}", unit=" images") as bar:
        samples = coco.samples(
            images,
            members,
            photographs,
            min_annotated_pixels=config.min_annotated_pixels,
            expected_images=config.expected_images,
            storage=config.storage,
            source=config.images,
            advance=bar.update,
        )
        splits.write(out, samples, CLASSES)
    files.write_json(metrics, {key: summary.summarise(out)})


if __name__ == "__main__":
    command.run(main)
