import json
import os
from pathlib import Path

import numpy as np
import packing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packing import annotation, rectangle
from pycocotools import mask as official

from pipeline import splits
from pipeline.coco import CATEGORIES
from pipeline.data import images
from pipeline.originals import coco, zip_archive
from pipeline.originals.coco import Outline, Photograph
from pipeline.voc import CLASSES

REALDATA = os.environ.get("DEEPLAB_REALDATA")
CAT, PERSON, TABLE, VOID = 8, 15, 11, 255
SQUARE = rectangle(2, 3, 12, 13)  # 100 pixels


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def photographs(folder, annotations=(), **options):
    return read(folder, *packing.coco_files(annotations, **options))


def read(folder, image_files, annotation_files):
    (folder / "images.zip").write_bytes(packing.zipped(image_files))
    (folder / "annotations.zip").write_bytes(packing.zipped(annotation_files))
    members = zip_archive.index(folder / "images.zip")
    found = coco.find_folder(folder / "images.zip", members)
    return coco.read_photographs(folder / "annotations.zip", found, folder / "images.zip", members)


def samples(folder, listed, **changes):
    options = {"min_annotated_pixels": 99, "expected_images": None, "storage": "encoded"}
    options |= {"source": "coco", "advance": lambda: None}
    path = folder / "images.zip"
    return list(coco.samples(path, zip_archive.index(path), listed, **(options | changes)))


def painted(folder, *annotations, size=(20, 30)):
    (photograph,) = photographs(folder, annotations, sizes=[size])
    return coco.paint(photograph)


def runs(*counts, size=(20, 30)):
    return {"counts": list(counts), "size": list(size)}


def test_twenty_categories_are_vocs_twenty_classes():
    assert sorted(c.voc_class for c in CATEGORIES.values()) == sorted(CLASSES.names[1:])


# Painting


def test_a_polygon_is_painted_in_vocs_class(folder):
    label = painted(folder, annotation(1, [SQUARE]))
    assert (label == CAT).sum() == 100
    assert (label[3:13, 2:12] == CAT).all()
    assert (label == 0).sum() == 500


def test_all_parts_of_an_instance_are_painted(folder):
    label = painted(folder, annotation(1, [rectangle(0, 0, 5, 5), rectangle(20, 10, 25, 20)]))
    assert (label == CAT).sum() == 25 + 50


def test_categories_that_voc_lacks_are_background(folder):
    assert not painted(folder, annotation(1, [SQUARE], category=47)).any()


@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_of_two_instances_is_seen_whatever_their_order(folder, order):
    table = annotation(1, [rectangle(0, 0, 20, 20)], category=67)
    cat = annotation(2, [rectangle(5, 5, 10, 10)])
    label = painted(folder, *[table, cat][::order])
    assert (label == CAT).sum() == 25
    assert (label == TABLE).sum() == 375


def test_a_crowd_is_void_and_below_all_instances(folder):
    crowd = annotation(1, runs(0, 200, 400), category=1, crowd=1)  # the first ten columns
    label = painted(folder, crowd, annotation(2, [rectangle(0, 0, 20, 20)], category=1))
    assert (label[:, :20] == PERSON).all()
    label = painted(folder, crowd, annotation(2, [rectangle(15, 0, 20, 20)], category=1))
    assert (label[:, :10] == VOID).all()
    assert not label[:, 10:15].any()


def test_a_crowd_of_a_category_that_voc_lacks_is_background(folder):
    assert not painted(folder, annotation(1, runs(0, 600), category=47, crowd=1)).any()


def test_run_lengths_go_down_the_columns_and_begin_uncovered(folder):
    label = painted(folder, annotation(1, runs(1, 2, 3, size=(2, 3))), size=(2, 3))
    assert label.tolist() == [[0, CAT, 0], [CAT, 0, 0]]


def test_what_lies_outside_of_the_image_is_not_painted(folder):
    label = painted(folder, annotation(1, [rectangle(-5, -5, 5, 5)]))
    assert (label[:5, :5] == CAT).all()
    assert (label == CAT).sum() == 25


def test_a_part_of_two_points_encloses_nothing(folder):
    label = painted(folder, annotation(1, [[0, 0, 9, 9], SQUARE]))
    assert (label == CAT).sum() == 100


numbers = st.floats(-30, 60, allow_nan=False).map(lambda value: round(value, 2))
polygons = st.lists(numbers, min_size=6, max_size=16).filter(lambda part: len(part) % 2 == 0)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(parts=st.lists(polygons, min_size=1, max_size=3))
def test_polygons_are_rasterised_as_by_cocos_own_code(parts):
    packed = tuple(np.array(part).tobytes() for part in parts)
    photograph = Photograph("1.jpg", "1", 20, 30, [Outline(1, CAT, packed, b"")])
    expected = official.decode(official.merge(official.frPyObjects(parts, 20, 30)))
    assert np.array_equal(coco.paint(photograph), CAT * expected)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(lengths=st.lists(st.integers(0, 80), max_size=30).filter(lambda c: sum(c) <= 600))
def test_run_lengths_are_decoded_as_by_cocos_own_code(lengths):
    counts = [*lengths, 600 - sum(lengths)]
    outline = Outline(1, VOID, (), np.array(counts, np.uint32).tobytes())
    official_runs = official.frPyObjects({"counts": counts, "size": [20, 30]}, 20, 30)
    painted = coco.paint(Photograph("1.jpg", "1", 20, 30, [outline]))
    assert np.array_equal(painted, VOID * official.decode(official_runs))


# Which images are kept


def test_an_image_needs_more_annotated_pixels_than_the_limit(folder):
    listed = photographs(folder, [annotation(1, [SQUARE])])
    (kept,) = samples(folder, listed, min_annotated_pixels=99)
    assert (kept.image_id, kept.classes, kept.pixels_per_class) == (
        "000000000001", [0, CAT], [500, 100],
    )  # fmt: skip
    assert samples(folder, listed, min_annotated_pixels=100) == []


def test_pixels_are_counted_once_where_instances_overlap(folder):
    listed = photographs(folder, [annotation(1, [SQUARE]), annotation(2, [SQUARE])])
    assert samples(folder, listed, min_annotated_pixels=100) == []


def test_crowds_and_other_categories_do_not_count(folder):
    crowd = annotation(1, runs(0, 600), category=1, crowd=1)
    listed = photographs(folder, [crowd, annotation(2, [SQUARE], category=47)])
    assert samples(folder, listed, min_annotated_pixels=0) == []


def test_images_come_in_the_order_of_their_archive_untouched(folder):
    image_files, annotation_files = packing.coco_files(
        [annotation(1, [SQUARE]), annotation(2, [SQUARE], image=2)], sizes=[(20, 30)] * 2
    )
    listed = read(folder, dict(reversed(image_files.items())), annotation_files)
    kept = samples(folder, listed)
    assert [s.image_id for s in kept] == ["000000000002", "000000000001"]
    assert kept[1].image == image_files["train2017/000000000001.jpg"]
    assert kept[1].source == "coco"


def test_raw_storage_holds_the_same_pixels(folder):
    listed = photographs(folder, [annotation(1, [SQUARE])])
    (encoded,), (raw,) = samples(folder, listed), samples(folder, listed, storage="raw")
    assert np.array_equal(images.decode_image(raw), images.decode_image(encoded))
    assert np.array_equal(images.decode_label(raw), images.decode_label(encoded))
    assert bytes(raw.image[:2]) == b"P6"


def test_another_number_of_images_is_an_error(folder):
    listed = photographs(folder, [annotation(1, [SQUARE])], sizes=[(20, 30)] * 3)
    assert len(samples(folder, listed, expected_images=1)) == 1
    message = "coco: expected_images is 2, but 1 of 3 images have more than 99 annotated pixels"
    with pytest.raises(ValueError, match=message):
        samples(folder, listed, expected_images=2)


# Mistakes


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (annotation(7, [SQUARE], image=9), "annotation 7 is of image 9, which is not listed"),
        (annotation(7, [SQUARE], category=48), "annotation 7 is of category 48, which is not"),
        (annotation(7, []), "annotation 7: its polygons are empty"),
        (annotation(7, [[]]), "annotation 7: its polygons are empty"),
        (annotation(7, [[1, 1, 5, 5]]), "annotation 7: its polygons are empty"),
        (annotation(7, [[1, 1, 5, 5, 1, 9, 3]]), "annotation 7: a polygon has 7 numbers"),
        (annotation(7, [[0, 0, 9, 9, 0, 1e9]]), r"reaches from 0 to 1e\+09, far outside of its"),
        (annotation(7, runs(600, size=(30, 20))), r"its size is \[30, 20\], that of its image"),
        (annotation(7, runs(599)), "its runs are of 599 pixels, its image has 600"),
        (
            annotation(7, runs(-1, 601)),
            r"annotations\[0\] \(id 7\): segmentation\.runs\.counts\.0: .* greater than",
        ),
        (annotation(7, {"counts": "abc", "size": [20, 30]}), r"annotations\[0\] \(id 7\): segm"),
        (annotation(7, [["a", "b"]]), r"annotations\[0\] \(id 7\): segmentation"),
        (annotation(7, [SQUARE], crowd=2), r"annotations\[0\] \(id 7\): iscrowd: Input should be"),
        ({"id": 7}, r"annotations\[0\] \(id 7\): image_id: Field required"),
        ("cat", r"annotations\[0\]: : Input should be a valid dict"),
    ],
)
def test_a_mistake_in_an_annotation_is_named_by_its_place(folder, mistake, message):
    with pytest.raises(ValueError, match=message) as error:
        photographs(folder, [mistake, annotation(8, [SQUARE])])
    place = f"{folder / 'annotations.zip'}: annotations/instances_train2017.json: "
    assert str(error.value).startswith(place)
    assert "\n" not in str(error.value)


def test_the_first_mistakes_are_told_and_the_rest_is_counted(folder):
    with pytest.raises(ValueError, match="annotation 0 is of image 9") as error:
        photographs(folder, [annotation(number, [SQUARE], image=9) for number in range(12)])
    lines = str(error.value).splitlines()
    assert len(lines) == 6
    assert lines[-1] == "... and 7 more mistakes of this kind"


def test_images_that_the_archive_lacks_are_all_told_before_any_is_read(folder):
    image_files, annotation_files = packing.coco_files([], sizes=[(20, 30)] * 3)
    del image_files["train2017/000000000001.jpg"], image_files["train2017/000000000003.jpg"]
    with pytest.raises(ValueError, match=r"there is no train2017/000000000001\.jpg") as error:
        read(folder, image_files, annotation_files)
    assert len(str(error.value).splitlines()) == 2


def test_images_of_another_size_than_told_are_all_named(folder):
    listed = photographs(
        folder, [annotation(n, [SQUARE], image=n) for n in (1, 2, 3)], sizes=[(20, 30)] * 3
    )
    files, _ = packing.coco_files([], sizes=[(20, 31), (20, 30), (21, 30)])
    (folder / "images.zip").write_bytes(packing.zipped(files))
    with pytest.raises(ValueError, match="000000000001: label map is 20x30 pixels") as error:
        samples(folder, listed)
    assert len(str(error.value).splitlines()) == 2


def test_other_categories_under_the_ids_of_vocs_are_an_error(folder):
    names = packing.COCO_NAMES | {17: "dog", 18: "cat"}
    with pytest.raises(ValueError, match="category 17 is 'dog', expected 'cat', which") as error:
        photographs(folder, names=names)
    assert len(str(error.value).splitlines()) == 2


def test_an_image_that_would_fill_memory_is_an_error_before_it_is_painted(folder):
    image_files, annotation_files = packing.coco_files([annotation(1, [SQUARE])])
    ((name, content),) = annotation_files.items()
    huge = content.replace(b'"height": 20, "width": 30', b'"height": 60000, "width": 60000')
    with pytest.raises(ValueError, match="image 1 has 60000x60000 pixels, more than the limit"):
        read(folder, image_files, {name: huge})


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_damaged_annotations_end_in_another_error_than_one_that_names_the_file(folder, data):
    crowd = annotation(2, runs(0, 600), crowd=1)
    image_files, annotation_files = packing.coco_files([annotation(1, [SQUARE]), crowd])
    ((name, content),) = annotation_files.items()
    changed = bytearray(content)
    end = content.index(b'"categories"')  # the rest is names alone
    for _ in range(data.draw(st.integers(1, 3))):
        byte = data.draw(st.sampled_from(b'0123456789.-e[]{},:"') | st.integers(0, 255))
        changed[data.draw(st.integers(0, end))] = byte
    try:
        samples(folder, read(folder, image_files, {name: bytes(changed)}), storage="raw")
    except ValueError as error:
        for line in str(error).splitlines():
            assert line.startswith((str(folder), "coco: ", "... and"))


def test_an_image_listed_twice_is_an_error(folder):
    image_files, annotation_files = packing.coco_files([])
    (name,) = annotation_files
    document = json.loads(annotation_files[name])
    document["images"] *= 2
    with pytest.raises(ValueError, match=r"image 1, 000000000001\.jpg, is listed twice"):
        read(folder, image_files, {name: json.dumps(document).encode()})


@pytest.mark.parametrize("name", ["../../etc/passwd.jpg", "a/b.jpg", "a.exe", ""])
def test_a_file_name_that_is_none_is_an_error(folder, name):
    image_files, annotation_files = packing.coco_files([])
    content = annotation_files["annotations/instances_train2017.json"]
    changed = content.replace(b"000000000001.jpg", name.encode())
    with pytest.raises(ValueError, match=r"images\[0\] \(id 1\): file_name: String should match"):
        read(folder, image_files, {"annotations/instances_train2017.json": changed})


@pytest.mark.parametrize("content", [b"", b"no json", b'{"categories": [1, 2', b"\xff\xfe"])
def test_annotations_that_are_no_json_are_an_error(folder, content):
    image_files, _ = packing.coco_files([])
    with pytest.raises(ValueError, match=r"instances_train2017\.json: not readable as JSON"):
        read(folder, image_files, {"annotations/instances_train2017.json": content})


def test_annotations_of_other_images_are_an_error(folder):
    image_files, _ = packing.coco_files([])
    _, annotation_files = packing.coco_files([], folder="val2017")
    with pytest.raises(ValueError, match=r"there is no annotations/instances_train2017\.json"):
        read(folder, image_files, annotation_files)


@pytest.mark.parametrize("names", [[], ["a/1.jpg", "b/1.jpg"], ["README"]])
def test_an_archive_of_other_things_is_an_error(folder, names):
    files = dict.fromkeys(names, b"")
    with pytest.raises(ValueError, match=r"images\.zip: not COCO's images: expected one folder"):
        read(folder, files, {})


# Real photographs


@pytest.mark.skipif(REALDATA is None, reason="DEEPLAB_REALDATA names no folder of real archives")
@pytest.mark.parametrize(("name", "num_images", "num_kept"), [("train", 30, 27), ("val", 10, 7)])
def test_real_photographs_are_kept_or_left_out(tmp_path, name, num_images, num_kept):
    path, labels = (Path(REALDATA) / n for n in (f"{name}2017.zip", "annotations_trainval2017.zip"))
    members = zip_archive.index(path)
    listed = coco.read_photographs(labels, coco.find_folder(path, members), path, members)
    kept = list(
        coco.samples(
            path, members, listed, min_annotated_pixels=1000, expected_images=num_kept,
            storage="encoded", source="coco", advance=lambda: None,
        )
    )  # fmt: skip
    assert (len(listed), len(kept)) == (num_images, num_kept)
    splits.write(tmp_path / "coco.arrow", kept, CLASSES)
    for sample in splits.Split(tmp_path / "coco.arrow"):
        label = images.decode_label(sample)
        assert images.decode_image(sample).shape[:2] == label.shape
        assert np.count_nonzero((label > 0) & (label < 21)) > 1000
        assert set(np.unique(label)) <= {*range(21), CLASSES.ignore_index}
