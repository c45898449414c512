import io

import numpy as np
import packing
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import label_map
from pipeline.originals import sbd
from pipeline.originals.sbd import Lists

SBD = packing.SBD
LABEL = np.array([[0, 0, 15], [8, 8, 15]], np.uint8)
# Where the compressed label stands, behind the header and its tag.
COMPRESSED = 136


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sbd.tgz"


def stored(path, files):
    path.write_bytes(packing.tgz(files))
    return path


def ids(prefix, count):
    return [f"{prefix}_{number:06d}" for number in range(count)]


def official_lists():
    """Ids in the official numbers: what SBD shares with VOC leaves 9118 of its 11,355."""
    voc_train, voc_val, alone = ids("t", 1464), ids("v", 1449), ids("s", 9118)
    shared = voc_train[:1134] + voc_val[:1103]
    every = alone + shared
    return voc_train, voc_val, Lists("", every[:8498], every[8498:])


def test_trainaug_of_the_official_numbers_has_10582_images():
    voc_train, voc_val, lists = official_lists()
    added = sbd.added_ids(voc_train, voc_val, lists.train, lists.val)
    assert len(lists.val) == 2857
    assert len(added) == 9118
    assert not added & {*voc_train, *voc_val}
    sbd.check_count(10582, voc_train, voc_val, lists)


def test_vocs_own_ids_are_never_added():
    assert sbd.added_ids(["a", "b"], ["c"], ["b", "d"], ["c", "e"]) == {"d", "e"}


def test_another_count_is_an_error_that_says_how_it_comes_about():
    voc_train, voc_val, lists = official_lists()
    with pytest.raises(ValueError, match="expected_images is 10583, but there are 10582") as error:
        sbd.check_count(10583, voc_train, voc_val, lists)
    message = str(error.value)
    assert "VOC train 1464 (t_000000, t_000001, t_000002, ...) + added 9118 (s_000000," in message
    assert "SBD train 8498 (s_000000, s_000001, s_000002, ...) + SBD val 2857 (s_008498," in message
    assert "in VOC val 1103 (v_000000," in message
    assert "in VOC train 1134 (t_000000," in message


def test_a_part_of_no_images_is_told_as_none():
    with pytest.raises(ValueError, match=r"there are 3: .* in VOC val 0 \(none\)"):
        sbd.check_count(9, ["a"], ["b"], Lists("", ["c"], ["d"]))


def test_lists_are_found_even_at_the_archives_end(path):
    stored(path, packing.sbd_files(["b", "a"], ["c"]))
    assert sbd.read_lists(path) == Lists(f"{SBD}/", ["b", "a"], ["c"])


@pytest.mark.parametrize("root", ["./benchmark_RELEASE/dataset", "dataset"])
def test_the_data_set_is_found_whatever_folder_it_is_in(path, root):
    lists = sbd.read_lists(stored(path, packing.sbd_files(["a"], ["b"], root=root)))
    assert [name for name, _ in sbd.read_labels(path, lists.root, ["a", "b"])] == ["a", "b"]


def test_a_missing_list_is_an_error(path):
    files = packing.sbd_files(["a"], ["b"])
    del files[f"{SBD}/val.txt"]
    with pytest.raises(ValueError, match=rf"sbd\.tgz: not SBD: .* found {SBD}/train\.txt"):
        sbd.read_lists(stored(path, files))


def test_another_archive_is_an_error(path):
    with pytest.raises(ValueError, match=r"sbd\.tgz: not SBD: .* found neither"):
        sbd.read_lists(stored(path, {"train.txt": b"a\n"}))


def test_an_id_in_both_lists_is_an_error(path):
    with pytest.raises(ValueError, match=r"1 ids are in train\.txt and in val\.txt, b first"):
        sbd.read_lists(stored(path, packing.sbd_files(["a", "b"], ["b"])))


def test_labels_are_vocs_label_maps_of_the_same_values(path):
    files = packing.sbd_files(["a"], ["b"]) | {f"{SBD}/cls/a.mat": packing.mat(LABEL)}
    ((image_id, label),) = sbd.read_labels(stored(path, files), f"{SBD}/", ["a"])
    assert image_id == "a"
    assert np.array_equal(label_map.decode(label), LABEL)


def test_samples_come_in_the_order_of_the_archive_with_their_bytes_untouched(path):
    files = packing.sbd_files(["b", "a"], ["c"])
    labels = {"a": packing.png(3), "b": packing.png(4)}
    first, second = sbd.samples(stored(path, files), f"{SBD}/", labels, "sbd")
    assert [first.image_id, second.image_id] == ["b", "a"]
    assert first.image == files[f"{SBD}/img/b.jpg"]
    assert (first.label, first.classes, first.source) == (labels["b"], [4], "sbd")


def without(files, gone):
    return {name: content for name, content in files.items() if name != gone}


def test_a_listed_id_without_a_label_map_is_an_error(path):
    gone = f"{SBD}/cls/b.mat"
    stored(path, without(packing.sbd_files(["a", "b"], ["c"]), gone))
    with pytest.raises(ValueError, match=rf"sbd\.tgz: 1 listed images .*, first {gone}"):
        list(sbd.read_labels(path, f"{SBD}/", ["a", "b"]))


def test_a_listed_id_without_an_image_is_an_error(path):
    gone = f"{SBD}/img/b.jpg"
    stored(path, without(packing.sbd_files(["a", "b"], ["c"]), gone))
    with pytest.raises(ValueError, match=rf"sbd\.tgz: 1 listed images .*, first {gone}"):
        list(sbd.samples(path, f"{SBD}/", {"b": packing.png()}, "sbd"))


def test_a_label_map_that_is_none_is_an_error_that_names_it(path):
    files = packing.sbd_files(["a"], ["b"]) | {f"{SBD}/cls/a.mat": b"nothing"}
    with pytest.raises(ValueError, match=rf"sbd\.tgz: {SBD}/cls/a\.mat: no readable GTcls"):
        list(sbd.read_labels(stored(path, files), f"{SBD}/", ["a"]))


def test_a_label_map_of_another_size_than_its_image_is_an_error(path):
    stored(path, packing.sbd_files(["a"], ["b"]))
    with pytest.raises(ValueError, match=r"sbd: a: label map is 4x5 .* its image 2x3"):
        list(sbd.samples(path, f"{SBD}/", {"a": packing.png(3, height=4, width=5)}, "sbd"))


def test_segmentation_is_decoded_row_by_row():
    assert np.array_equal(sbd.decode(packing.mat(LABEL)), LABEL)
    assert sbd.decode(packing.mat(LABEL)).flags.c_contiguous


def test_a_label_map_one_pixel_high_keeps_its_two_axes():
    assert sbd.decode(packing.mat(LABEL[:1])).shape == (1, 3)


def test_uncompressed_files_are_decoded():
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"GTcls": {"Segmentation": LABEL}})
    assert np.array_equal(sbd.decode(buffer.getvalue()), LABEL)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (LABEL.astype(np.float64), "GTcls.Segmentation is float64, not uint8"),
        (np.zeros((2, 3, 4), np.uint8), r"GTcls.Segmentation has shape \(2, 3, 4\)"),
        (np.zeros((0, 0), np.uint8), r"GTcls.Segmentation has shape \(0, 0\)"),
    ],
)
def test_a_segmentation_of_another_kind_is_an_error(label, message):
    with pytest.raises(ValueError, match=message):
        sbd.decode(packing.mat(label))


def test_a_file_with_another_variable_is_an_error():
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"GTinst": {"Segmentation": LABEL}})
    with pytest.raises(ValueError, match=r"no readable GTcls\.Segmentation: KeyError"):
        sbd.decode(buffer.getvalue())


@settings(deadline=None, database=None, derandomize=True)
@given(
    place=st.integers(COMPRESSED, len(packing.mat(LABEL)) - 1),
    flipped=st.integers(1, 255),
    cut=st.none() | st.integers(0, len(packing.mat(LABEL)) - 1),
)
def test_no_damage_to_a_label_map_goes_unseen(place, flipped, cut):
    content = bytearray(packing.mat(LABEL))
    content[place] ^= flipped
    with pytest.raises(ValueError, match=r"no readable GTcls\.Segmentation"):
        sbd.decode(bytes(content[:cut]))
