"""The miniatures of COCO and Cityscapes, whose originals are zips."""

import io
import json
import posixpath

import numpy as np
import pytest
from PIL import Image

from pipeline import cityscapes as facts
from pipeline import label_map
from pipeline.coco import CATEGORIES
from pipeline.originals import coco, miniature, zip_archive
from pipeline.originals.drawing import scene
from pipeline.originals.miniature_coco import _CATEGORIES
from pipeline.originals.miniature_coco import _runs as run_lengths
from pipeline.voc import CLASSES


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Generates an archive once; returns its members."""
    folder, read = tmp_path_factory.mktemp("miniatures"), {}

    def members(name):
        if name not in read:
            (folder / name).write_bytes(miniature.generate(name, 0))
            index = zip_archive.index(folder / name)
            read[name] = {n: zip_archive.read(folder / name, n, m) for n, m in index.items()}
        return read[name]

    return members


@pytest.fixture(scope="module")
def instances(archives):
    files = archives("coco-annotations")
    return json.loads(files["annotations/instances_train2017.json"])


def opened(content):
    return Image.open(io.BytesIO(content))


def array(content):
    with opened(content) as image:
        return np.array(image)


# COCO


def test_coco_has_40_images_to_train_and_12_to_evaluate(archives, instances):
    train, val = archives("coco-train2017"), archives("coco-val2017")
    assert (len(train), len(val)) == (40, 12)
    assert {posixpath.dirname(name) for name in train} == {"train2017"}
    assert {f"train2017/{image['file_name']}" for image in instances["images"]} == set(train)


def test_images_have_the_size_that_the_annotations_tell(archives, instances):
    for image in instances["images"]:
        with opened(archives("coco-train2017")[f"train2017/{image['file_name']}"]) as photograph:
            assert photograph.size == (image["width"], image["height"])


def test_some_images_are_grey_and_some_are_small(archives):
    images = [opened(content) for content in archives("coco-train2017").values()]
    assert {image.mode for image in images} == {"RGB", "L"}
    assert min(max(image.size) for image in images) < 70


def test_there_are_eighty_categories_of_which_twenty_are_vocs(instances):
    names = {category["id"]: category["name"] for category in instances["categories"]}
    assert len(names) == 80
    assert {id_: names[id_] for id_ in CATEGORIES} == {
        id_: category.name for id_, category in CATEGORIES.items()
    }


def test_instances_have_several_parts_or_are_crowds_or_nothing_to_voc(instances):
    annotations = instances["annotations"]
    crowds = [a for a in annotations if a["iscrowd"]]
    parts = [len(a["segmentation"]) for a in annotations if not a["iscrowd"]]
    assert {type(a["segmentation"]) for a in crowds} == {dict}
    assert max(parts) > 1
    assert len({a["category_id"] for a in annotations} - set(CATEGORIES)) > 2
    annotated = {a["image_id"] for a in annotations}
    assert len(annotated) < len(instances["images"])


def test_run_lengths_go_down_the_columns_and_begin_uncovered():
    assert run_lengths(np.array([[0, 1], [1, 1]], np.uint8))["counts"] == [1, 3]
    assert run_lengths(np.array([[1, 0], [1, 0]], np.uint8))["counts"] == [0, 2, 2]


def test_what_an_annotation_covers_is_the_drawn_figure(tmp_path):
    for name in ("coco-train2017", "coco-annotations"):
        (tmp_path / name).write_bytes(miniature.generate(name, 0))
    images = tmp_path / "coco-train2017"
    members = zip_archive.index(images)
    listed = coco.read_photographs(tmp_path / "coco-annotations", "train2017", images, members)
    for number, photograph in enumerate(listed, start=1000):
        if number % 11 == 0 or number % 13 == 0:
            continue  # smaller than it was drawn; without annotations
        drawn = scene.draw(0, number)
        known = [CLASSES.names.index(name) for name in drawn.names]
        foreign = [(number + 3 * index) % 4 == 0 for index in range(len(known))]
        values = [0 if f else v for v, f in zip(known, foreign, strict=True)]
        if number % 5 == 0 and values[0]:
            values[0] = 255
        expected = np.array([0, *values], np.uint8)[drawn.instances]
        label, figures = coco.paint(photograph), expected > 0
        assert np.mean(label == expected) > 0.9  # a chair's back is filled: outlines have no holes
        assert np.count_nonzero(label[figures] != expected[figures]) <= 0.07 * figures.sum()


# Cityscapes


def base_names(files, ending):
    return {name.removesuffix(ending) for name in files if name.endswith(ending)}


@pytest.mark.parametrize(
    ("images", "labels", "kind", "num_images"),
    [
        ("cityscapes-leftImg8bit", "cityscapes-gtFine", "gtFine", 38),
        ("cityscapes-leftImg8bit-trainextra", "cityscapes-gtCoarse", "gtCoarse", 12),
    ],
)
def test_each_image_has_its_four_files_of_labels(archives, images, labels, kind, num_images):
    frames = base_names(archives(images), "_leftImg8bit.png")
    assert len(frames) == num_images
    for ending in ("color.png", "instanceIds.png", "labelIds.png", "polygons.json"):
        found = base_names(archives(labels), f"_{kind}_{ending}")
        assert {name.replace("leftImg8bit/", f"{kind}/") for name in frames} <= found


def test_all_nineteen_classes_occur_in_training_and_most_in_validation(archives):
    found = {"train": set(), "val": set()}
    for name, content in archives("cityscapes-gtFine").items():
        split = name.split("/")[1] if "/" in name else ""
        if name.endswith("labelIds.png") and split in found:
            found[split] |= set(np.unique(facts.classes_of_ids(label_map.decode(content))).tolist())
    assert found["train"] == {*range(19), 255}
    assert len(found["val"]) >= 17


def test_ids_instances_and_colours_say_the_same(archives):
    files = archives("cityscapes-gtFine")
    for name in list(base_names(files, "_gtFine_labelIds.png"))[:6]:
        ids = array(files[f"{name}_gtFine_labelIds.png"])
        instance_ids = array(files[f"{name}_gtFine_instanceIds.png"]).astype(int)
        assert np.array_equal(
            np.where(instance_ids >= 1000, instance_ids // 1000, instance_ids), ids
        )
        colours = array(files[f"{name}_gtFine_color.png"])
        assert colours.shape == (*ids.shape, 4)
        classes = facts.classes_of_ids(ids)
        for value in set(np.unique(classes).tolist()) - {255}:
            assert (colours[classes == value][:, :3] == facts.CLASSES.colours[value]).all()


def test_license_plates_are_polygons_alone(archives):
    files = archives("cityscapes-gtFine")
    documents = [json.loads(files[name]) for name in files if name.endswith("polygons.json")]
    labels = {thing["label"] for document in documents for thing in document["objects"]}
    assert "license plate" in labels
    assert {"ego vehicle", "rectification border", "out of roi"} < labels


def test_labels_of_the_test_split_know_bonnet_and_border_alone(archives):
    for name, content in archives("cityscapes-gtFine").items():
        if name.startswith("gtFine/test/") and name.endswith("labelIds.png"):
            assert set(np.unique(array(content)).tolist()) <= {0, 1, 2, 3, 4}


def test_coarse_labels_leave_outlines_unlabelled_but_do_not_err(archives):
    fine, coarse = archives("cityscapes-gtFine"), archives("cityscapes-gtCoarse")
    for name in base_names(fine, "_gtFine_labelIds.png"):
        if not name.startswith("gtFine/train/"):
            continue
        exact = array(fine[f"{name}_gtFine_labelIds.png"])
        rough = array(coarse[f"{name.replace('gtFine', 'gtCoarse')}_gtCoarse_labelIds.png"])
        known = rough > 0
        assert 0.4 < known.mean() < 0.95
        assert np.mean(rough[known] == exact[known]) > 0.99


@pytest.mark.parametrize("name", ["coco-val2017", "cityscapes-leftImg8bit-trainextra"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name):
    first = miniature.generate(name, 0)
    assert miniature.generate(name, 0) == first
    assert miniature.generate(name, 1) != first


def test_the_table_of_categories_has_no_id_twice():
    ids = [id_ for group in _CATEGORIES.values() for id_ in group]
    assert len(ids) == len(set(ids)) == 80
