import gzip
import io
import posixpath
import tarfile

import cv2
import numpy as np
import packing
import pytest
import scipy.io
from PIL import Image

from pipeline import label_map
from pipeline.originals import archive, miniature, sbd, voc
from pipeline.originals.drawing import scene
from pipeline.originals.drawing.figures import FIGURES
from pipeline.originals.drawing.scene import Scene
from pipeline.voc import CLASSES

VOC, SBD = packing.VOC, packing.SBD


def members(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.fixture(scope="module")
def voc_archive():
    return miniature.generate("voc2012", 0)


@pytest.fixture(scope="module")
def sbd_archive():
    return miniature.generate("sbd", 0)


@pytest.fixture(scope="module")
def voc2012(voc_archive):
    return members(voc_archive)


@pytest.fixture(scope="module")
def sbd_files(sbd_archive):
    return members(sbd_archive)


def lines(files, name):
    return files[name].decode().split()


def voc_ids(voc2012, split):
    return lines(voc2012, f"{VOC}/ImageSets/Segmentation/{split}.txt")


def sbd_ids(sbd_files):
    return lines(sbd_files, f"{SBD}/train.txt") + lines(sbd_files, f"{SBD}/val.txt")


def square(height=20, width=30):
    """A scene of one cat, 10 x 12 pixels, that reaches the right edge."""
    instances = np.zeros((height, width), np.uint8)
    instances[5:15, 18:30] = 1
    return Scene(np.zeros((height, width, 3), np.uint8), instances, ["cat"])


def test_voc_has_48_images_to_train_and_32_to_evaluate(voc2012):
    train, val, trainval = (voc_ids(voc2012, split) for split in ("train", "val", "trainval"))
    assert (len(train), len(val), len(trainval)) == (48, 32, 80)
    assert sorted(train + val) == trainval


def test_voc_has_images_without_a_label_too(voc2012):
    folders = [posixpath.basename(posixpath.dirname(name)) for name in voc2012]
    assert folders.count("JPEGImages") == 96
    assert folders.count("SegmentationClass") == 80


def test_sbd_overlaps_vocs_train_and_val_by_eight_images_each(voc2012, sbd_files):
    image_ids = set(sbd_ids(sbd_files))
    assert len(image_ids) == 96
    assert len(image_ids & set(voc_ids(voc2012, "train"))) == 8
    assert len(image_ids & set(voc_ids(voc2012, "val"))) == 8


def test_trainaug_has_128_images(voc2012, sbd_files):
    train, val = voc_ids(voc2012, "train"), voc_ids(voc2012, "val")
    assert len(train) + len(sbd.added_ids(train, val, sbd_ids(sbd_files), [])) == 128


def test_voc_and_sbd_show_the_same_photograph_under_the_same_id(voc2012, sbd_files):
    shared = [i for i in sbd_ids(sbd_files) if f"{VOC}/JPEGImages/{i}.jpg" in voc2012]
    assert len(shared) == 32
    for image_id in shared:
        image = voc2012[f"{VOC}/JPEGImages/{image_id}.jpg"]
        assert image == sbd_files[f"{SBD}/img/{image_id}.jpg"]


def test_sbds_labels_resemble_vocs_but_are_coarser_and_have_no_void(voc2012, sbd_files):
    for image_id in sbd_ids(sbd_files):
        label = sbd.decode(sbd_files[f"{SBD}/cls/{image_id}.mat"])
        assert label.max() <= 20
        if encoded := voc2012.get(f"{VOC}/SegmentationClass/{image_id}.png"):
            exact = label_map.decode(encoded)
            agreed = np.mean(label[exact != 255] == exact[exact != 255])
            assert agreed > 0.97
            assert not np.array_equal(label, exact)


def test_each_class_is_in_train_and_in_val_with_pixels_left_inside_its_outline(voc2012):
    expected = {0, 255, *(CLASSES.names.index(name) for name in FIGURES)}
    for split in ("train", "val"):
        names = (f"{VOC}/SegmentationClass/{i}.png" for i in voc_ids(voc2012, split))
        found = np.unique(np.concatenate([label_map.decode(voc2012[n]).ravel() for n in names]))
        assert set(found.tolist()) == expected


def test_images_are_landscape_and_portrait_and_at_most_257_pixels(voc2012):
    images = [Image.open(io.BytesIO(voc2012[n])) for n in voc2012 if n.endswith(".jpg")]
    assert all(min(i.size) >= 176 and 224 <= max(i.size) <= 257 for i in images)
    assert {i.width > i.height for i in images} == {True, False}


def test_the_reader_of_the_original_reads_the_miniature(voc_archive, tmp_path):
    path = tmp_path / "voc2012"
    path.write_bytes(voc_archive)
    index = archive.index(path)
    train = voc.read_lists(path, index)["train"]
    assert [s.image_id for s in voc.samples(path, index, train, "voc2012")] == train


def test_the_mat_files_have_the_originals_struct(sbd_files):
    name = next(name for name in sbd_files if name.endswith(".mat"))
    assert sbd_files[name].startswith(b"MATLAB 5.0 MAT-file")
    struct = scipy.io.loadmat(io.BytesIO(sbd_files[name]), spmatrix=False)["GTcls"]
    assert struct.dtype.names == ("Boundaries", "Segmentation", "CategoriesPresent")
    boundaries, label, present = struct[0, 0]
    assert boundaries.shape == (20, 1)
    assert boundaries[0, 0].shape == label.shape
    assert present.ravel().tolist() == np.unique(label[label > 0]).tolist()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(sbd_archive):
    assert miniature.generate("sbd", 0) == sbd_archive
    assert not np.array_equal(scene.draw(0, 5).image, scene.draw(1, 5).image)


def test_sbd_is_compressed_and_voc_is_not(voc_archive, sbd_archive):
    assert sbd_archive[:8] == gzip.compress(b"", mtime=0)[:8]
    assert voc_archive[257:262] == b"ustar"


def test_another_name_is_an_error():
    message = "no miniature of 'cityscapes'; there are voc2012, voc2012test, sbd, coco-train2017, "
    with pytest.raises(ValueError, match=message):
        miniature.generate("cityscapes", 0)


def test_void_is_five_pixels_wide_along_an_outline_but_not_along_the_border():
    row = miniature.voc_label(square())[10]
    assert row.tolist() == [0] * 15 + [255] * 5 + [8] * 10


def test_void_parts_two_figures_of_one_class():
    drawn = square()
    drawn.instances[5:15, 24:30] = 2
    row = miniature.voc_label(Scene(drawn.image, drawn.instances, ["cat", "cat"]))[10]
    assert row.tolist() == [0] * 15 + [255] * 5 + [8] + [255] * 5 + [8] * 4


def test_sbds_polygons_keep_straight_edges_and_holes():
    drawn = square()
    drawn.instances[8:12, 21:26] = 0
    assert np.count_nonzero(miniature.sbd_label(drawn) != 8 * drawn.instances) <= 14


@pytest.mark.parametrize("number", range(6))
def test_a_scenes_instances_are_its_named_figures(number):
    drawn = scene.draw(0, number)
    height, width = drawn.instances.shape
    assert drawn.image.shape == (height, width, 3)
    assert set(np.unique(drawn.instances)) <= set(range(len(drawn.names) + 1))
    assert set(drawn.names) <= set(FIGURES)


def test_thin_parts_outlast_the_void_outline(voc2012):
    labels = [label_map.decode(voc2012[n]) for n in voc2012 if n.endswith(".png")]
    inside = [((label > 0) & (label < 255)).astype(np.uint8) for label in labels]
    thin = [plane - cv2.morphologyEx(plane, cv2.MORPH_OPEN, np.ones((9, 9))) for plane in inside]
    assert sum(map(np.count_nonzero, thin)) > 0.15 * sum(map(np.count_nonzero, inside))
