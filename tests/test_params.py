import copy
import re
from pathlib import Path

import pytest
import yaml

from pipeline import experiment, params
from pipeline.originals.config import Archive, Trainaug

COMMITTED = Path(__file__).parents[1] / "params.yaml"
ARCHIVE = {"url": "a.tar"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "params.yaml"


def load(path, text, key="archives.voc", type_=Archive):
    path.write_text(text)
    return params.load(path, key, type_)


def whole():
    return yaml.safe_load(COMMITTED.read_text())


def changed(*place, value):
    """The committed params.yaml with one value set, or with one key more."""
    document = copy.deepcopy(whole())
    section = document
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    return document


def mistakes(path, document):
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ValueError, match=r"params\.yaml: ") as error:
        experiment.load(path)
    return [line.removeprefix(f"{path}: ") for line in str(error.value).splitlines()]


def test_a_section_is_loaded_into_its_type(path):
    text = "trainaug: {sbd: {expected_images: 128}}"
    config = load(path, text, "trainaug.sbd", Trainaug)
    assert config == Trainaug(expected_images=128)


def test_a_section_can_be_of_any_type(path):
    text = "archives: {voc: {url: a.tar}}"
    loaded = load(path, text, "archives", dict[str, Archive])
    assert loaded == {"voc": Archive(**ARCHIVE)}


def test_configs_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Trainaug(expected_images=1).expected_images = 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainaug: {sbd: {}}", "trainaug.sbd.expected_images: Field required"),
        (
            "trainaug: {sbd: {expected_images: '7'}}",
            r"trainaug.sbd.expected_images: Input should be a valid integer \(found '7'\)",
        ),
        (
            "trainaug: {sbd: {expected_images: 7.5}}",
            r"trainaug.sbd.expected_images: .* valid integer \(found 7.5\)",
        ),
        (
            "trainaug: {sbd: {expected_images: 0}}",
            r"trainaug.sbd.expected_images: .* greater than or equal to 1 \(found 0\)",
        ),
        (
            "trainaug: {sbd: {expected_images: 7, expected: 7}}",
            r"trainaug.sbd.expected: Extra inputs are not permitted \(found 7\)",
        ),
        ("trainaug: {voc: {}}", "trainaug.sbd is missing"),
        ("trainaug: null", "trainaug.sbd is missing"),
        ("trainaug: {sbd: null}", r"trainaug.sbd: .* \(found None\)"),
    ],
)
def test_a_mistake_in_a_section_is_named_by_file_key_and_value(path, text, message):
    with pytest.raises(ValueError, match=rf"^{path}: {message}$"):
        load(path, text, "trainaug.sbd", Trainaug)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not readable as YAML: .*line 1"),
        ("a: 1\na: 2", "key 'a' is given twice .*line 1"),
        ("a: {b: 1, b: 1}", "key 'b' is given twice"),
        ("- 1", "expected a mapping, found list"),
        ("", "expected a mapping, found NoneType"),
    ],
)
def test_what_is_no_yaml_mapping_is_an_error_in_one_line(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"^{path}: .*{message}") as error:
        params.read(path)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_an_error(path):
    path.write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match=rf"^{path}: not readable as YAML"):
        params.read(path)


def test_anchors_are_read(path):
    path.write_text("a: &a {x: 1}\nb: *a")
    assert params.read(path) == {"a": {"x": 1}, "b": {"x": 1}}


def test_the_committed_params_are_whole_and_consistent():
    assert experiment.load(COMMITTED).trainaug["sbd"].expected_images == 128


def test_all_mistakes_are_told_at_once(path):
    document = changed("models", "v3", "training", "batch_size", value=0)
    document["rows"]["v3_os16"]["evaluation"]["max_trimap_width"] = 256
    assert mistakes(path, document) == [
        "models.v3.training.batch_size: Input should be greater than or equal to 1 (found 0)",
        "rows.v3_os16.evaluation.max_trimap_width: Input should be less than or equal to 255 "
        "(found 256)",
    ]


@pytest.mark.parametrize("value", ["some", [1.0, -1.0], [], 2.0])
def test_class_weights_are_none_frequency_or_numbers(path, value):
    document = changed("models", "v3", "training", "class_weights", value=value)
    for mistake in mistakes(path, document):
        assert re.match(r"models\.v3\.training\.class_weights(\.1)?: ", mistake)


CUSTOM = {
    "images": "images",
    "labels": "labels",
    "label_suffix": "",
    "orientation": "displayed",
    "image_suffix": "",
    "larger_images": "refuse",
    "max_height": 300,
    "max_width": 200,
    "coding": {
        "kind": "colours",
        "void": None,
        "classes": [{"name": "a", "colour": [0, 0, 0]}, {"name": "b", "colour": [0, 0, 1]}],
    },
    "splits": {"kind": "fraction", "val": 0.2, "seed": 0},
}


OTHER_CLASSES_ADVICE = (
    "; start from its weights without a classifier: an import with classes: null, or what make "
    "drop-classifier writes"
)


def with_custom(*keys):
    document = changed("custom", value=dict.fromkeys(keys, CUSTOM))
    document["rows"]["v3_os16"]["data"] = "data/custom/val.arrow"
    document["models"]["v3"]["data"] = "data/custom/train.arrow"
    document["models"]["v3"]["validation"]["data"] = "data/custom/val.arrow"
    return document


def test_rows_and_validations_must_take_the_largest_image_that_custom_allows(path):
    document = with_custom("mine")
    validation = document["models"]["v3"]["validation"]
    validation |= {"every_iterations": 10, "height": 257, "width": 193}
    is_less = "is less than the {} that max_{} of custom allows images to have"
    assert mistakes(path, document) == [
        f"models.v3.validation.height: 257 {is_less.format(300, 'height')}",
        f"models.v3.validation.width: 193 {is_less.format(200, 'width')}",
        f"rows.v3_os16.inference.height: 257 {is_less.format(300, 'height')}",
    ]
    validation["every_iterations"] = 0  # no image is looked at
    (mistake,) = mistakes(path, document)
    assert mistake.startswith("rows.v3_os16.inference.height: ")


def test_a_network_is_asked_about_data_of_its_own_classes(path):
    document = with_custom("mine")
    document["custom"]["mine"] |= {"max_height": 257, "max_width": 257}
    document["models"]["v3"]["data"] = "data/voc/train.arrow"
    told = "data/custom/val.arrow has other classes than data/voc/train.arrow, which models.v3 is"
    assert mistakes(path, document) == [
        f"models.v3.validation.data: {told} trained on",
        f"rows.v3_os16.data: {told} trained on",
    ]


def test_a_model_goes_on_from_one_of_the_same_classes(path):
    document = with_custom("mine")
    document["custom"]["mine"] |= {"max_height": 257, "max_width": 257}
    document["models"]["v3"]["start"] = "checkpoints/v3plus.safetensors"
    assert mistakes(path, document) == [
        "models.v3.data: data/custom/train.arrow has other classes than data/voc/trainaug.arrow, "
        f"which models.v3plus is trained on{OTHER_CLASSES_ADVICE}"
    ]


def test_an_imported_network_is_asked_about_data_of_its_own_classes(path):
    document = whole()
    network = document["models"]["v3plus"]["network"]
    imported = {"desc": "of the authors", "network": network, "classes": "cityscapes"}
    document["archives"]["authors"] = ARCHIVE
    document["imports"]["authors"] = imported
    document["rows"]["v3_os16"]["model"] = "authors"
    document["models"]["v3"]["start"] = "checkpoints/authors.safetensors"
    told = "has other classes than imports.authors, which has those of cityscapes"
    assert mistakes(path, document) == [
        f"models.v3.data: {document['models']['v3']['data']} {told}{OTHER_CLASSES_ADVICE}",
        f"rows.v3_os16.data: {document['rows']['v3_os16']['data']} {told}",
    ]
    # Whether mere numbers fit shows when the checkpoint is read.
    for fitting in ("voc", "generic"):
        imported["classes"] = fitting
        path.write_text(yaml.safe_dump(document))
        assert experiment.load(path).imports["authors"].classes == fitting


def test_class_weights_are_as_many_as_the_classes(path):
    document = with_custom("mine")
    document["custom"]["mine"] |= {"max_height": 257, "max_width": 257}
    document["models"]["v3"]["training"]["class_weights"] = [1.0, 2.0, 1.0]
    assert mistakes(path, document) == [
        "models.v3.training.class_weights: 3 weights for the 2 classes of data/custom/train.arrow "
        "(a, b)"
    ]


def test_two_custom_data_sets_are_one_too_many(path):
    assert "custom: 2 data sets, but all would write the same splits" in mistakes(
        path, with_custom("one", "two")
    )


def test_splits_of_custom_are_unknown_without_it(path):
    found = mistakes(path, with_custom())
    places = ["models.v3.data", "models.v3.validation.data", "rows.v3_os16.data"]
    assert [mistake.split(":")[0] for mistake in found] == places
    assert found[-1].startswith(
        "rows.v3_os16.data: 'data/custom/val.arrow' is not one of data/voc/"
    )


def test_a_number_that_yaml_reads_as_text_is_an_error(path):
    document = changed("models", "v3", "training", "base_learning_rate", value="7e-3")
    (mistake,) = mistakes(path, document)
    assert mistake.startswith("models.v3.training.base_learning_rate: Input should be a valid num")
    assert mistake.endswith("(found '7e-3')")


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("voc", "voc"), {}, "voc.voc: not one of archives (resnet18, sbd, voc2012)"),
        (("voc", "sbd"), {}, "voc: 2 archives, but all would write the same splits"),
        (
            ("trainaug", "voc2012"),
            {"expected_images": 1},
            "trainaug: 2 archives, but all would write the same splits",
        ),
        (("voc",), {}, "trainaug: needs VOC train and val, but voc lists no archive"),
        (
            ("models", "v3", "training", "crop_size"),
            128,
            "models.v3.training.crop_size: 128 is not k * 16 + 1 with k >= 1, as output_stride 16 "
            "needs; nearest: 129",
        ),
        (
            ("models", "v3", "training", "crop_size"),
            1,
            "models.v3.training.crop_size: 1 is not k * 16 + 1 with k >= 1, as output_stride 16 "
            "needs; nearest: 17",
        ),
        (
            ("models", "v3", "start"),
            "archives/resnet50",
            "models.v3.start: 'archives/resnet50' is not one of archives/resnet18, archives/sbd, "
            "archives/voc2012, checkpoints/v3.safetensors, checkpoints/v3plus.safetensors",
        ),
        (
            ("models", "v3", "data"),
            "data/voc/test.arrow",
            "models.v3.data: 'data/voc/test.arrow' is not one of data/voc/train.arrow, "
            "data/voc/trainaug.arrow, data/voc/trainval.arrow, data/voc/val.arrow",
        ),
        (("voc_test", "test"), {}, "voc_test.test: not one of archives (resnet18, sbd, voc2012)"),
        (
            ("rows", "v3_os16", "model"),
            "v4",
            "rows.v3_os16.model: 'v4' is not one of models or imports (v3, v3plus)",
        ),
        (
            ("rows", "v3_os16", "inference", "height"),
            256,
            "rows.v3_os16.inference: height: 256 at scale 1.0 gives 256, which is not k * 16 + 1 "
            "with k >= 1, as output_stride 16 needs",
        ),
        (
            ("rows", "v3_os16", "inference", "scales"),
            [1.0, 0.7],
            "rows.v3_os16.inference: height: 257 at scale 0.7 gives 180.2, which is not "
            "k * 16 + 1 with k >= 1, as output_stride 16 needs",
        ),
    ],
)
def test_a_contradiction_between_sections_is_told(path, place, value, expected):
    assert expected in mistakes(path, changed(*place, value=value))


COCO = {
    "images": "sbd",
    "annotations": "voc2012",
    "min_annotated_pixels": 1000,
    "expected_images": None,
    "storage": "encoded",
}
COUNTS = {"train": 2975, "val": 500, "test": 1525}
CITYSCAPES = {"images": "sbd", "labels": "sbd", "expected_images": COUNTS, "storage": "raw"}
COARSE = CITYSCAPES | {"expected_images": 19998}


def with_submission(**changes):
    document = changed("voc_test", "sbd", value={})
    inference = document["rows"]["v3_os16"]["inference"]
    submission = {"desc": "Table 6", "model": "v3", "data": "data/voc/test.arrow", "paper": []}
    submission |= {"inference": inference, "server_miou": None} | changes
    document["submissions"]["a"] = submission
    return document


def test_a_submission_is_an_entry_like_a_row_without_scores(path):
    path.write_text(yaml.safe_dump(with_submission(server_miou=87.8)))
    assert experiment.load(path).submissions["a"].server_miou == 87.8


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "v4"}, "submissions.a.model: 'v4' is not one of models or imports (v3, v3plus)"),
        (
            {"data": "data/voc/val.arrow"},
            "submissions.a.data: 'data/voc/val.arrow' is not one of data/voc/test.arrow",
        ),
    ],
)
def test_a_submission_that_fits_nothing_is_told(path, changes, expected):
    assert mistakes(path, with_submission(**changes)) == [expected]


@pytest.mark.parametrize("section", ["models", "rows"])
def test_labels_that_a_server_alone_knows_are_neither_learned_nor_scored(path, section):
    document = with_submission()
    key = {"models": "v3", "rows": "v3_os16"}[section]
    document[section][key]["data"] = "data/voc/test.arrow"
    (mistake,) = mistakes(path, document)
    assert mistake == (
        f"{section}.{key}.data: the labels of data/voc/test.arrow are known to a test server "
        "alone; it is for submissions"
    )


@pytest.mark.parametrize(
    ("section", "entry", "data"),
    [
        ("coco", {"pretrain": COCO}, "data/coco/pretrain.arrow"),
        ("cityscapes", {"fine": CITYSCAPES}, "data/cityscapes/train.arrow"),
        ("cityscapes_coarse", {"coarse": COARSE}, "data/cityscapes/coarse.arrow"),
    ],
)
def test_a_model_may_be_trained_on_any_source_that_is_listed(path, section, entry, data):
    document = changed("models", "v3", "data", value=data)
    (mistake,) = mistakes(path, document)
    assert mistake.startswith(f"models.v3.data: {data!r} is not one of ")
    document["models"]["v3"]["validation"]["data"] = data
    document["rows"]["v3_os16"]["data"] = data
    document[section] = entry
    path.write_text(yaml.safe_dump(document))
    assert experiment.load(path).models["v3"].data == data


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (
            ("coco", "pretrain"),
            COCO | {"annotations": "other"},
            "coco.pretrain.annotations: 'other' is not one of archives (resnet18, sbd, voc2012)",
        ),
        (
            ("cityscapes", "fine"),
            CITYSCAPES | {"images": "other"},
            "cityscapes.fine.images: 'other' is not one of archives (resnet18, sbd, voc2012)",
        ),
        (
            ("cityscapes_coarse",),
            {"a": COARSE, "b": COARSE},
            "cityscapes_coarse: 2 entries, but all would write the same splits",
        ),
        (
            ("rows", "data"),
            whole()["rows"]["v3_os16"],
            "rows.data: metrics/data is where the data's own metrics are; rename it",
        ),
    ],
)
def test_a_contradiction_in_a_source_is_told(path, place, value, expected):
    assert mistakes(path, changed(*place, value=value)) == [expected]


@pytest.mark.parametrize("storage", ["RAW", "jpeg", None])
def test_an_unknown_storage_is_an_error(path, storage):
    document = changed("coco", "pretrain", value=COCO | {"storage": storage})
    (mistake,) = mistakes(path, document)
    assert mistake.startswith("coco.pretrain.storage: Input should be 'encoded' or 'raw'")


@pytest.mark.parametrize("key", ["a.b", "a/b", "a b", "", "../a"])
def test_a_key_that_could_not_be_part_of_a_path_is_an_error(path, key):
    (mistake,) = mistakes(path, changed("archives", key, value=ARCHIVE))
    assert mistake.startswith(f"archives.{key}")
    assert "String should match pattern" in mistake


def test_merge_keys_are_understood(path):
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}"
    path.write_text(text)
    assert params.read(path)["b"] == {"x": 1, "y": 3}
