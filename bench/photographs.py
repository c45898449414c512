"""The photographs that a bench runs on: VOC's archive, its extracted folder, or the miniature."""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.originals import archive, miniature, voc
from pipeline.splits import Sample, checked_sample
from pipeline.voc import CLASSES

# Names a folder of real archives, as for the tests.
_VARIABLE = "DEEPLAB_REALDATA"
_ARCHIVE = "VOCtrainval_11-May-2012.tar"


def voc_archive(given: Path | None, folder: Path) -> Path:
    """The archive to read.

    Args:
        given: a VOC archive, or None for the one in DEEPLAB_REALDATA, else the miniature's.
        folder: where a miniature is written to.
    """
    if given is not None:
        return given
    if os.environ.get(_VARIABLE):
        return Path(os.environ[_VARIABLE]) / _ARCHIVE
    path = folder / "voc2012.tar"
    path.write_bytes(miniature.generate("voc2012", 0))
    return path


def samples(given: Path | None, folder: Path) -> Iterator[Sample]:
    """All images that have a label map.

    Args:
        given: a VOC archive, or a folder VOC2012 that was extracted from one; None as above.
        folder: where a miniature is written to.

    Raises:
        ValueError: no archive of VOC's, or a folder without a labelled image.
    """
    if given is not None and given.is_dir():
        yield from _extracted(given)
        return
    path = voc_archive(given, folder)
    members = archive.index(path)
    yield from voc.samples(path, members, voc.read_lists(path, members)["trainval"], "voc2012")


def _extracted(root: Path) -> Iterator[Sample]:
    labels = sorted(root.glob("SegmentationClass/*.png"))
    if not labels:
        raise ValueError(f"{root}: has no SegmentationClass/*.png: not VOC2012")
    for label in labels:
        image = root / "JPEGImages" / f"{label.stem}.jpg"
        yield checked_sample(label.stem, image.read_bytes(), label.read_bytes(), CLASSES, "voc2012")
