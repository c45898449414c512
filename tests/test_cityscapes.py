import importlib.util

import numpy as np
import packing
import pytest

from pipeline.cityscapes import CLASSES, IDS, classes_of_ids
from pipeline.data import images
from pipeline.originals import cityscapes, zip_archive

A, B, C = "aachen_000000_000019", "bad-honnef_000001_000019", "ulm_000002_000019"
VOID = 255


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def indexed(folder, image_files, label_files):
    """Writes both archives; returns what every function takes of them."""
    paths = folder / "images.zip", folder / "labels.zip"
    for path, files in zip(paths, (image_files, label_files), strict=True):
        path.write_bytes(packing.zipped(files))
    image_index, label_index = map(zip_archive.index, paths)
    return paths[0], image_index, paths[1], label_index


def frames(archives, expected, kind="gtFine"):
    return cityscapes.find_frames(*archives, kind=kind, expected_images=expected)


def samples(archives, listed, split="train", storage="encoded"):
    options = {"split": split, "storage": storage, "source": "gt", "advance": lambda: None}
    return list(cityscapes.samples(*archives, listed, **options))


def labelled(folder, ids, split="train"):
    """The label map that an image with these ids gets."""
    files = packing.cityscapes_files({split: [A]}, ids=ids)
    archives = indexed(folder, *files)
    (sample,) = samples(archives, frames(archives, {split: 1})[split], split)
    return images.decode_label(sample)


def test_there_are_nineteen_classes_without_background():
    assert CLASSES.num_classes == 19
    assert (CLASSES.names[0], CLASSES.names[13], CLASSES.names[18]) == ("road", "car", "bicycle")


def test_ids_are_those_that_the_test_server_takes():
    assert IDS == (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def test_ids_become_classes_and_all_others_void():
    ids = np.array([[7, 33, 26], [0, 6, 255], [9, 29, 30]], np.uint8)
    expected = [[0, 18, 13], [VOID, VOID, VOID], [VOID, VOID, VOID]]
    assert classes_of_ids(ids).tolist() == expected


def test_classes_can_be_turned_back_into_ids():
    ids = np.array([IDS], np.uint8)
    assert np.array(IDS)[classes_of_ids(ids)].tolist() == ids.tolist()


@pytest.mark.skipif(
    importlib.util.find_spec("cityscapesscripts") is None, reason="cityscapesscripts is missing"
)
def test_the_table_is_the_published_one():
    from cityscapesscripts.helpers.labels import labels

    known = sorted((label for label in labels if label.trainId in range(19)), key=lambda x: x[2])
    assert tuple(label.name for label in known) == CLASSES.names
    assert tuple(label.color for label in known) == CLASSES.colours
    assert tuple(label.id for label in known) == IDS
    for label in labels:
        expected = label.trainId if label.trainId in range(19) else VOID
        assert classes_of_ids(np.array([[label.id % 256]], np.uint8)).tolist() == [[expected]]


def test_an_image_is_known_by_city_sequence_and_frame(folder):
    archives = indexed(folder, *packing.cityscapes_files({"train": [C, A], "val": [B]}))
    found = frames(archives, {"train": 2, "val": 1})
    assert [f.image_id for f in found["train"]] == [A, C]
    assert [f.image_id for f in found["val"]] == [B]


def test_image_bytes_are_untouched_and_label_maps_are_classes(folder):
    image_files, label_files = packing.cityscapes_files({"train": [A]}, ids=26)
    archives = indexed(folder, image_files, label_files)
    (sample,) = samples(archives, frames(archives, {"train": 1})["train"])
    assert sample.image == image_files[f"leftImg8bit/train/aachen/{A}_leftImg8bit.png"]
    assert images.decode_label(sample).tolist() == [[13] * 3] * 2
    assert (sample.classes, sample.pixels_per_class, sample.source) == ([13], [6], "gt")


def test_raw_storage_holds_the_same_pixels(folder):
    archives = indexed(folder, *packing.cityscapes_files({"train": [A]}))
    listed = frames(archives, {"train": 1})["train"]
    (encoded,), (raw,) = samples(archives, listed), samples(archives, listed, storage="raw")
    assert np.array_equal(images.decode_image(raw), images.decode_image(encoded))
    assert np.array_equal(images.decode_label(raw), images.decode_label(encoded))
    assert bytes(raw.image[:2]) == b"P6"


def test_labels_of_the_test_split_are_void_whatever_the_archive_says(folder):
    assert (labelled(folder, 3, "test") == VOID).all()
    assert (labelled(folder, 7, "test") == VOID).all()


def test_a_license_plate_is_void(folder):
    assert (labelled(folder, 255) == VOID).all()


def test_a_value_that_is_no_id_is_an_error(folder):
    with pytest.raises(ValueError, match=rf"{A}_gtFine_labelIds\.png: values \[34\] are not ids"):
        labelled(folder, 34)


def test_coarse_labels_have_names_of_their_own(folder):
    files = packing.cityscapes_files({"train_extra": [A], "train": [B]}, kind="gtCoarse")
    archives = indexed(folder, *files)
    found = frames(archives, {"train_extra": 1}, kind="gtCoarse")
    assert [f.label for f in found["train_extra"]] == [
        f"gtCoarse/train_extra/aachen/{A}_gtCoarse_labelIds.png"
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_another_number_of_images_is_an_error(folder, split):
    archives = indexed(folder, *packing.cityscapes_files({"train": [A, C], "val": [B]}))
    expected = {"train": 2, "val": 1} | {split: 3}
    message = rf"images\.zip: {split} has [12] images named .*, expected_images is 3"
    with pytest.raises(ValueError, match=message):
        frames(archives, expected)


def test_images_without_label_maps_are_all_named(folder):
    image_files, label_files = packing.cityscapes_files({"train": [A, B, C]})
    kept = {name: content for name, content in label_files.items() if B in name}
    archives = indexed(folder, image_files, kept)
    with pytest.raises(ValueError, match=rf"labels\.zip: {A} has an image, but there is") as error:
        frames(archives, {"train": 3})
    assert len(str(error.value).splitlines()) == 2


def test_bad_images_are_all_named(folder):
    image_files, label_files = packing.cityscapes_files({"train": [A, B, C]})
    for image_id in (A, C):
        image_files[
            f"leftImg8bit/train/{image_id.partition('_')[0]}/{image_id}_leftImg8bit.png"
        ] = b""
    archives = indexed(folder, image_files, label_files)
    with pytest.raises(ValueError, match=f"gt: {A}: not an image") as error:
        samples(archives, frames(archives, {"train": 3})["train"])
    assert [line.partition(": not")[0] for line in str(error.value).splitlines()] == [
        f"gt: {A}",
        f"gt: {C}",
    ]


def test_exchanged_archives_are_an_error_that_names_what_was_expected(folder):
    image_files, label_files = packing.cityscapes_files({"train": [A]})
    archives = indexed(folder, label_files, image_files)
    with pytest.raises(ValueError, match=r"train has 0 images named leftImg8bit/train/<city>/"):
        frames(archives, {"train": 1})
