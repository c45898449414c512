import hashlib
import os
import subprocess
import sys
from pathlib import Path

import packing
import pytest
import yaml

from pipeline.originals import archive
from pipeline.splits import Split
from stages import fetch, trainaug, voc

REALDATA = os.environ.get("DEEPLAB_REALDATA")


@pytest.fixture
def params_file(tmp_path):
    path = tmp_path / "params.yaml"
    document = {
        "archives": {
            "voc2012": {"url": "miniature:voc2012?seed=0"},
            "sbd": {"url": "miniature:sbd?seed=0"},
        },
        "trainaug": {"sbd": {"expected_images": 128}, "small": {"expected_images": 3}},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def pack_voc(folder, archive_file):
    """Runs the stage; returns the paths of train, val and trainval. Metrics go to voc.json."""
    outs = [folder / f"{name}.arrow" for name in ("train", "val", "trainval")]
    voc.main("voc2012", archive_file, *outs, folder / "voc.json")
    return outs


def new(folder, name):
    """Paths of a split and of its metrics."""
    return folder / f"{name}.arrow", folder / f"{name}.json"


def stored(path, content):
    path.write_bytes(content)
    return path


def sources(split):
    return [sample.source for sample in split]


def test_miniatures_become_the_four_splits(params_file, tmp_path):
    for key in ("voc2012", "sbd"):
        fetch.main(key, params_file, tmp_path / key)
    train, val, trainval = pack_voc(tmp_path, tmp_path / "voc2012")
    out = tmp_path / "trainaug.arrow"
    trainaug.main("sbd", params_file, tmp_path / "sbd", train, val, out, tmp_path / "t.json")
    assert [len(Split(path)) for path in (train, val, trainval, out)] == [48, 32, 80, 128]
    assert sources(Split(out)) == ["voc2012"] * 48 + ["sbd"] * 80
    assert not set(Split(out).image_ids) & set(Split(val).image_ids)


def test_trainaug_is_voc_train_then_what_only_sbd_has_in_its_archives_order(params_file, tmp_path):
    voc_file = stored(tmp_path / "voc2012", packing.tar(packing.voc_files(["b", "a"], ["v"])))
    sbd_file = stored(tmp_path / "sbd", packing.tgz(packing.sbd_files(["v", "z"], ["a"])))
    train, val, _ = pack_voc(tmp_path, voc_file)
    out = tmp_path / "trainaug.arrow"
    trainaug.main("small", params_file, sbd_file, train, val, out, tmp_path / "t.json")
    split = Split(out)
    assert split.image_ids == ["b", "a", "z"]
    assert list(split)[:2] == list(Split(train))
    assert (split[2].source, split[2].classes) == ("small", [15])


def test_trainaug_of_another_size_is_an_error_before_any_image_is_read(params_file, tmp_path):
    files = packing.sbd_files(["x"], ["y", "z"]) | {f"{packing.SBD}/img/x.jpg": b"broken"}
    voc_file = stored(tmp_path / "voc2012", packing.tar(packing.voc_files(["a"], ["v"])))
    train, val, _ = pack_voc(tmp_path, voc_file)
    out = tmp_path / "trainaug.arrow"
    sbd_file = stored(tmp_path / "sbd", packing.tgz(files))
    with pytest.raises(ValueError, match="expected_images is 3, but there are 4: VOC train 1"):
        trainaug.main("small", params_file, sbd_file, train, val, out, tmp_path / "t.json")
    assert not out.exists()


def test_an_archive_cut_short_leaves_no_split(params_file, tmp_path):
    content = packing.tgz(packing.sbd_files(["x"], ["y"]))
    voc_file = stored(tmp_path / "voc2012", packing.tar(packing.voc_files(["a"], ["v"])))
    train, val, _ = pack_voc(tmp_path, voc_file)
    before = sorted(tmp_path.iterdir())
    sbd_file = stored(tmp_path / "sbd", content[:-9])
    with pytest.raises(ValueError, match="sbd: not a tar archive, or a damaged one"):
        trainaug.main("small", params_file, sbd_file, train, val, *new(tmp_path, "trainaug"))
    assert sorted(tmp_path.iterdir()) == sorted([*before, sbd_file])


def test_the_same_archive_gives_the_same_bytes(tmp_path):
    voc_file = stored(tmp_path / "voc2012", packing.tar(packing.voc_files(["b", "a"], ["v"])))
    first = [path.read_bytes() for path in pack_voc(tmp_path / "first", voc_file)]
    assert [path.read_bytes() for path in pack_voc(tmp_path / "second", voc_file)] == first


def test_a_mistake_ends_the_command_with_one_line_and_status_1(tmp_path):
    params_file = stored(tmp_path / "params.yaml", b"archives: {}")
    command = [sys.executable, "-m", "stages.fetch", "voc2012", params_file, tmp_path / "out"]
    root = Path(__file__).parents[1]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"error: {params_file}: archives.voc2012 is missing\n"


@pytest.mark.skipif(REALDATA is None, reason="DEEPLAB_REALDATA names no folder of real archives")
def test_real_photographs_are_packed_untouched(tmp_path):
    original = Path(REALDATA) / "VOCtrainval_11-May-2012.tar"
    train, *_ = pack_voc(tmp_path, original)
    members = archive.index(original)
    for sample in Split(train):
        name = f"VOCdevkit/VOC2012/JPEGImages/{sample.image_id}.jpg"
        expected = hashlib.md5(archive.read(original, members[name])).digest()
        assert hashlib.md5(sample.image).digest() == expected


@pytest.mark.skipif(REALDATA is None, reason="DEEPLAB_REALDATA names no folder of real archives")
def test_real_archives_add_up_to_trainaug_without_any_image_of_val(tmp_path):
    params_file = stored(tmp_path / "params.yaml", b"trainaug: {sbd: {expected_images: 210}}")
    train, val, _ = pack_voc(tmp_path, Path(REALDATA) / "VOCtrainval_11-May-2012.tar")
    out = tmp_path / "trainaug.arrow"
    metrics = tmp_path / "trainaug.json"
    trainaug.main("sbd", params_file, Path(REALDATA) / "benchmark.tgz", train, val, out, metrics)
    assert sources(Split(out)) == ["voc2012"] * 140 + ["sbd"] * 70
    assert not set(Split(out).image_ids) & set(Split(val).image_ids)
