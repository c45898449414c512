import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import packing
import pytest
from PIL import Image

from pipeline import export_split, label_map, pixels, splits
from pipeline.originals import archive, voc
from pipeline.splits import Split, checked_sample
from pipeline.voc import CLASSES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def split(tmp_path):
    """One JPEG, one PNG, one of raw pixels."""
    png = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(png, "PNG")
    images = {"a": packing.jpeg(), "b": png.getvalue(), "c": packing.jpeg(grey=99)}
    samples = [
        checked_sample(image_id, image, packing.png(8), CLASSES, "voc2012")
        for image_id, image in images.items()
    ]
    path = tmp_path / "train.arrow"
    splits.write(path, [*samples[:2], splits.raw(samples[2])], CLASSES)
    return path


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_split_becomes_a_folder_like_vocs(split, tmp_path):
    export_split.main(split, tmp_path / "out")
    assert files(tmp_path / "out") == [
        "ImageSets/Segmentation/train.txt",
        "JPEGImages/a.jpg",
        "JPEGImages/b.png",
        "JPEGImages/c.png",
        "SegmentationClass/a.png",
        "SegmentationClass/b.png",
        "SegmentationClass/c.png",
        "classes.csv",
    ]
    listed = tmp_path / "out" / "ImageSets" / "Segmentation" / "train.txt"
    assert listed.read_text() == "a\nb\nc\n"


def test_encoded_bytes_are_copied_and_raw_pixels_are_kept(split, tmp_path):
    export_split.main(split, tmp_path / "out")
    first, second, raw = Split(split)
    assert (tmp_path / "out/JPEGImages/a.jpg").read_bytes() == first.image
    assert (tmp_path / "out/SegmentationClass/b.png").read_bytes() == second.label
    written = pixels.decode((tmp_path / "out/JPEGImages/c.png").read_bytes())
    assert np.array_equal(written, pixels.decode(raw.image))
    label = (tmp_path / "out/SegmentationClass/c.png").read_bytes()
    assert np.array_equal(label_map.decode(label), label_map.decode(raw.label))
    with Image.open(io.BytesIO(label)) as image:
        assert image.mode == "P"


def test_the_table_of_classes_goes_along(split, tmp_path):
    export_split.main(split, tmp_path / "out")
    lines = (tmp_path / "out/classes.csv").read_text().splitlines()
    assert lines[0] == "label,name,red,green,blue"
    assert lines[9] == "8,cat,64,0,0"
    assert lines[-1] == "255,void,224,224,192"


def test_vocs_own_reader_reads_what_was_exported(split, tmp_path):
    export_split.main(split, tmp_path / "out")
    lists = tmp_path / "out" / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text("a\n")
    (lists / "train.txt").write_text("c\n")  # as JPEG it would be another image
    (lists / "trainval.txt").write_text("a\nc\n")
    (tmp_path / "out/JPEGImages/c.png").rename(tmp_path / "out/JPEGImages/c.jpg")
    contents = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    (tmp_path / "voc.tar").write_bytes(packing.tar(contents))
    members = archive.index(tmp_path / "voc.tar")
    ids = voc.read_lists(tmp_path / "voc.tar", members)["trainval"]
    assert len(list(voc.samples(tmp_path / "voc.tar", members, ids, "again"))) == 2


def test_a_folder_that_is_in_use_is_left_alone(split, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ValueError, match="out: is there already; expected a new or an empty fold"):
        export_split.main(split, tmp_path / "out")
    assert files(tmp_path / "out") == ["mine"]


def test_an_empty_folder_is_taken(split, tmp_path):
    (tmp_path / "out").mkdir()
    export_split.main(split, tmp_path / "out")
    assert len(files(tmp_path / "out")) == 8


@pytest.mark.parametrize("image_id", ["../up", "a/b", "/a", "..", "", "."])
def test_an_id_that_leads_out_of_the_folder_is_an_error_and_leaves_nothing(tmp_path, image_id):
    sample = checked_sample(image_id, packing.jpeg(), packing.png(), CLASSES, "voc2012")
    splits.write(tmp_path / "train.arrow", [sample], CLASSES)
    with pytest.raises(ValueError, match=r"train\.arrow: image id '.*' cannot be a file's name"):
        export_split.main(tmp_path / "train.arrow", tmp_path / "out")
    assert files(tmp_path) == ["train.arrow"]


def test_a_mistake_ends_the_command_with_one_line(tmp_path):
    command = [sys.executable, "-m", "pipeline.export_split", "none.arrow", tmp_path / "out"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert "none.arrow" in ended.stderr
