import packing
import pytest

from pipeline import label_map
from pipeline.originals import archive, voc
from pipeline.voc import CLASSES

VOC = packing.VOC


@pytest.fixture
def path(tmp_path):
    return tmp_path / "voc.tar"


def lists(path, files):
    path.write_bytes(packing.tar(files))
    return voc.read_lists(path, archive.index(path))


def samples(path, files, image_ids):
    path.write_bytes(packing.tar(files))
    return list(voc.samples(path, archive.index(path), image_ids, "voc2012"))


def test_there_are_twenty_classes_and_background():
    assert CLASSES.num_classes == 21
    assert (CLASSES.names[0], CLASSES.names[15], CLASSES.names[20]) == (
        "background",
        "person",
        "tvmonitor",
    )


def test_colours_are_those_of_the_development_kit():
    named = dict(zip(CLASSES.names, CLASSES.colours, strict=True))
    assert named["background"] == (0, 0, 0)
    assert named["aeroplane"] == (128, 0, 0)
    assert named["cat"] == (64, 0, 0)
    assert named["person"] == (192, 128, 128)
    assert named["tvmonitor"] == (0, 64, 128)


def test_lists_are_read_in_their_own_order(path):
    files = packing.voc_files(["b", "a"], ["c"], ["c", "b", "a"])
    assert lists(path, files) == {
        "train": ["b", "a"],
        "val": ["c"],
        "trainval": ["c", "b", "a"],
    }


@pytest.mark.parametrize("root", ["VOC2012", "./VOCdevkit/VOC2012", "2012/VOCdevkit/VOC2012"])
def test_the_data_set_is_found_whatever_folder_it_is_in(path, root):
    assert lists(path, packing.voc_files(["a"], ["b"], root=root))["train"] == ["a"]


def test_bytes_are_untouched(path):
    files = packing.voc_files(["a", "b"], ["c"])
    second, first = samples(path, files, ["b", "a"])
    assert (first.image_id, second.image_id) == ("a", "b")
    assert second.image == files[f"{VOC}/JPEGImages/b.jpg"]
    assert second.label == files[f"{VOC}/SegmentationClass/b.png"]
    assert (second.height, second.width, second.classes) == (2, 3, [1])
    assert second.source == "voc2012"


def test_images_without_a_label_are_left_out(path):
    files = packing.voc_files(["a"], ["b"]) | {f"{VOC}/JPEGImages/c.jpg": packing.jpeg()}
    assert lists(path, files)["trainval"] == ["a", "b"]


@pytest.mark.parametrize("name", ["JPEGImages/b.jpg", "SegmentationClass/b.png"])
def test_a_listed_id_without_its_file_is_an_error(path, name):
    files = packing.voc_files(["a"], ["b"])
    del files[f"{VOC}/{name}"]
    with pytest.raises(ValueError, match=rf"voc\.tar: b is listed, but there is no {VOC}/{name}"):
        lists(path, files)


def test_a_missing_list_is_an_error(path):
    files = packing.voc_files(["a"], ["b"])
    del files[f"{VOC}/ImageSets/Segmentation/val.txt"]
    with pytest.raises(ValueError, match=r"voc\.tar: there is no .*Segmentation/val\.txt"):
        lists(path, files)


def test_another_archive_is_an_error(path):
    with pytest.raises(ValueError, match=r"voc\.tar: not VOC 2012: has 0 files ImageSets"):
        lists(path, {"readme.txt": b"hello"})


def test_two_data_sets_in_one_archive_are_an_error(path):
    files = packing.voc_files(["a"], ["b"]) | packing.voc_files(["a"], ["b"], root="VOC2011")
    with pytest.raises(ValueError, match=r"voc\.tar: not VOC 2012: has 2 files"):
        lists(path, files)


@pytest.mark.parametrize(
    ("train", "val", "trainval", "message"),
    [
        (["a"], [], ["a"], r"Segmentation/val\.txt: lists no image"),
        (["a", "a"], ["b"], ["a", "b"], r"Segmentation/train\.txt: a is listed twice"),
        (["a", "b"], ["b"], ["a", "b"], r"1 ids are in train\.txt and in val\.txt, b first"),
        (["a"], ["b"], ["a", "b", "c"], r"trainval\.txt is not .* together: 1 ids .*, c first"),
        (["a"], ["b"], ["a"], r"trainval\.txt is not .* together: 1 ids .*, b first"),
    ],
)
def test_lists_that_contradict_each_other_are_an_error(path, train, val, trainval, message):
    with pytest.raises(ValueError, match=rf"voc\.tar: .*{message}"):
        lists(path, packing.voc_files(train, val, trainval))


def test_a_label_map_of_another_size_is_an_error(path):
    files = packing.voc_files(["a"], ["b"])
    files[f"{VOC}/SegmentationClass/a.png"] = packing.png(8, height=3, width=2)
    with pytest.raises(ValueError, match=r"voc2012: a: label map is 3x2 .* its image 2x3"):
        samples(path, files, ["a"])


def test_a_label_value_beyond_the_classes_is_an_error(path):
    files = packing.voc_files(["a"], ["b"])
    files[f"{VOC}/SegmentationClass/a.png"] = packing.png(21)
    with pytest.raises(ValueError, match=r"voc2012: a: label values \[21\] are neither a class"):
        samples(path, files, ["a"])


# test


def read_test(path, files):
    path.write_bytes(packing.tar(files))
    members = archive.index(path)
    image_ids = voc.read_test_list(path, members)
    return list(voc.unlabelled_samples(path, members, image_ids, "voc2012test"))


def test_images_of_test_are_untouched_and_their_labels_void(path):
    files = packing.voc_test_files(["b", "a"])
    first, second = read_test(path, files)
    assert (first.image_id, second.image_id) == ("b", "a")
    assert bytes(first.image) == files[f"{VOC}/JPEGImages/b.jpg"]
    assert (first.classes, first.source) == ([], "voc2012test")
    label = label_map.decode(first.label)
    assert label.shape == (first.height, first.width)
    assert set(label.ravel()) == {255}


def test_an_id_of_test_without_an_image_is_an_error(path):
    files = packing.voc_test_files(["a", "b"])
    del files[f"{VOC}/JPEGImages/b.jpg"]
    with pytest.raises(ValueError, match=r"voc\.tar: b is listed, but there is no .*/b\.jpg"):
        read_test(path, files)


def test_the_archive_of_trainval_is_not_that_of_test(path):
    message = r"voc\.tar: not VOC 2012: has 0 files ImageSets/Segmentation/test\.txt, expected"
    with pytest.raises(ValueError, match=message):
        read_test(path, packing.voc_files(["a"], ["b"]))


def test_an_image_of_test_that_is_none_is_named(path):
    files = packing.voc_test_files(["a"]) | {f"{VOC}/JPEGImages/a.jpg": b"no image"}
    with pytest.raises(ValueError, match="voc2012test: a: "):
        read_test(path, files)
