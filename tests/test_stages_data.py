import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import packing
import pandas as pd
import pytest
import yaml

from pipeline.data.images import decode_image, decode_label
from pipeline.originals import archive, miniature, sbd
from pipeline.splits import Split
from pipeline.voc import CLASSES as VOC_CLASSES
from stages import cityscapes, cityscapes_coarse, coco, fetch, trainaug, voc, voc_test

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


def test_the_miniature_of_test_becomes_a_split_without_labels(tmp_path):
    packed = stored(tmp_path / "archive", miniature.generate("voc2012test", 0))
    test, metrics = new(tmp_path, "test")
    voc_test.main("voc2012test", packed, test, metrics)
    split = Split(test)
    assert (len(split), sources(split)) == (12, ["voc2012test"] * 12)
    assert {tuple(sample.classes) for sample in split} == {()}
    assert decode_image(split[0]).shape[:2] == decode_label(split[0]).shape
    (voc2012,) = [stored(tmp_path / "v", miniature.generate("voc2012", 0))]
    assert not set(split.image_ids) & {
        image_id for out in pack_voc(tmp_path, voc2012) for image_id in Split(out).image_ids
    }
    assert json.loads(metrics.read_text())["test"]["images"] == 12


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


# COCO and Cityscapes


def fetched(folder, *names):
    """Paths of miniatures, generated once for all tests."""
    for name in names:
        if not (folder / name).exists():
            (folder / name).write_bytes(miniature.generate(name, 0))
    return [folder / name for name in names]


@pytest.fixture(scope="module")
def miniatures(tmp_path_factory):
    return tmp_path_factory.mktemp("miniatures")


@pytest.fixture
def sources_file(tmp_path):
    """A params.yaml of COCO and Cityscapes, in miniature."""
    kept = {"min_annotated_pixels": 1000, "expected_images": 30, "storage": "encoded"}
    two = {"images": "leftImg8bit", "labels": "gt"}
    counts = {"train": 24, "val": 8, "test": 6}
    document = {
        "coco": {"pretrain": {"images": "train2017", "annotations": "annotations"} | kept},
        "cityscapes": {"fine": two | {"expected_images": counts, "storage": "raw"}},
        "cityscapes_coarse": {"coarse": two | {"expected_images": 12, "storage": "encoded"}},
    }
    return stored(tmp_path / "params.yaml", yaml.safe_dump(document).encode())


def test_coco_in_miniature_becomes_a_split_in_vocs_classes(sources_file, miniatures, tmp_path):
    images, annotations = fetched(miniatures, "coco-train2017", "coco-annotations")
    out, metrics = new(tmp_path, "pretrain")
    coco.main("pretrain", sources_file, images, annotations, out, metrics)
    split = Split(out)
    assert (len(split), split.classes) == (30, VOC_CLASSES)
    assert set(sources(split)) == {"train2017"}
    for sample in split:
        label = decode_label(sample)
        assert np.count_nonzero((label > 0) & (label < 21)) > 1000
    told = json.loads(metrics.read_text())["pretrain"]
    assert (told["images"], told["images_per_class"]["background"]) == (30, 30)


def test_cityscapes_in_miniature_becomes_three_splits(sources_file, miniatures, tmp_path):
    names = ("cityscapes-leftImg8bit", "cityscapes-gtFine")
    outs = [tmp_path / f"{split}.arrow" for split in ("train", "val", "test")]
    metrics = tmp_path / "cityscapes.json"
    cityscapes.main("fine", sources_file, *fetched(miniatures, *names), *outs, metrics)
    train, val, test = map(Split, outs)
    assert [len(split) for split in (train, val, test)] == [24, 8, 6]
    assert train.classes.num_classes == 19
    assert test.image_ids == sorted(test.image_ids)
    assert all(sample.classes == [] for sample in test)
    assert bytes(train[0].image[:2]) == b"P6"
    assert decode_image(val[0]).shape == (128, 256, 3)
    told = json.loads(metrics.read_text())
    assert {split: told[split]["void_pixels"] for split in told}["test"] == 6 * 128 * 256


def test_coarse_labels_in_miniature_become_a_split(sources_file, miniatures, tmp_path):
    names = ("cityscapes-leftImg8bit-trainextra", "cityscapes-gtCoarse")
    out, metrics = new(tmp_path, "coarse")
    cityscapes_coarse.main("coarse", sources_file, *fetched(miniatures, *names), out, metrics)
    assert len(Split(out)) == 12
    assert {i.partition("_")[0] for i in Split(out).image_ids} == {"augsburg", "troisdorf"}


def test_the_same_zips_give_the_same_bytes_and_pandas_reads_them(
    sources_file, miniatures, tmp_path
):
    zips = fetched(miniatures, "coco-train2017", "coco-annotations")
    first, second = tmp_path / "a.arrow", tmp_path / "b.arrow"
    for out in (first, second):
        coco.main("pretrain", sources_file, *zips, out, tmp_path / "metrics.json")
    assert first.read_bytes() == second.read_bytes()
    assert pd.read_feather(first)["image_id"].tolist() == Split(first).image_ids


def test_a_zip_cut_short_leaves_no_split(sources_file, miniatures, tmp_path):
    images, annotations = fetched(miniatures, "coco-train2017", "coco-annotations")
    cut = stored(tmp_path / "cut.zip", images.read_bytes()[:-100])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"cut\.zip: not a zip archive, or one cut short"):
        coco.main("pretrain", sources_file, cut, annotations, *new(tmp_path, "pretrain"))
    assert sorted(tmp_path.iterdir()) == before


def test_another_number_of_images_leaves_no_split(sources_file, miniatures, tmp_path):
    sources_file.write_text(sources_file.read_text().replace("30", "31"))
    zips = fetched(miniatures, "coco-train2017", "coco-annotations")
    with pytest.raises(ValueError, match="expected_images is 31, but 30 of 40 images have more"):
        coco.main("pretrain", sources_file, *zips, *new(tmp_path, "pretrain"))
    assert list(tmp_path.iterdir()) == [sources_file]


# Real archives


@pytest.mark.skipif(REALDATA is None, reason="DEEPLAB_REALDATA names no folder of real archives")
@pytest.mark.parametrize(
    ("name", "count", "digest"),
    [
        ("voc2012_train", 1464, "129f1fe991729b1862115b77738c938c149c1f167baa02b4b3186aea9f0d6a84"),
        ("voc2012_val", 1449, "6f8edc37993764f6e212237d39546fb595246244147e8a050813c520aac0ade1"),
        (
            "voc2012_trainval",
            2913,
            "09c882f4c5ae3c692a0fb3bcf6df06c6f3e95ab9e09fb4182cfe28218d9eb22d",
        ),
        ("voc2012_test", 1456, "7d323bb3448fa174b9194953e01dfd168c9890adb30dd2491a66536edbeca0aa"),
        ("sbd_train", 8498, "08f40153c8b07c13c1a427f02e3775b5d2946728685fdc57a7a40c815b402bee"),
        ("sbd_val", 2857, "a6b20f568ed9ba3c8fcd48ee0759db4efc915763c17fbdacf1f4ba85364cce7b"),
        (
            "trainaug_10582",
            10582,
            "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf",
        ),
    ],
)
def test_the_official_lists_have_the_published_numbers_of_images(name, count, digest):
    path = Path(REALDATA) / "lists" / f"{name}.txt"
    image_ids = sorted(archive.read_ids(path.read_bytes(), str(path)))
    assert len(image_ids) == count
    assert hashlib.sha256("\n".join(image_ids).encode()).hexdigest() == digest


@pytest.mark.skipif(REALDATA is None, reason="DEEPLAB_REALDATA names no folder of real archives")
def test_the_official_lists_add_up_to_trainaug():
    lists = {
        path.stem: archive.read_ids(path.read_bytes(), str(path))
        for path in (Path(REALDATA) / "lists").glob("*.txt")
    }
    train, val = lists["voc2012_train"], lists["voc2012_val"]
    added = sbd.added_ids(train, val, lists["sbd_train"], lists["sbd_val"])
    assert {*train, *added} == set(lists["trainaug_10582"])
    assert set(train) | set(val) == set(lists["voc2012_trainval"])


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
