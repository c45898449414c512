import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import synthetic
import yaml
from PIL import Image

from pipeline import cityscapes, label_map, splits, voc
from pipeline.model import checkpoints, deeplab
from pipeline.splits import Split
from pipeline.submission import __main__ as submission
from pipeline.submission import archives, pack, servers
from stages import predict
from stages import submission as stage

VOC_IDS = ["2008_000006", "2008_000011", "2008_000012"]
CITYSCAPES_IDS = ["berlin_000000_000019", "berlin_000001_000019"]
COMP6 = "results/VOC2012/Segmentation/comp6_test_cls/"
SIZES = [(3, 4), (5, 4), (4, 4)]


def write_split(path, ids, classes):
    samples = []
    for image_id, size in zip(ids, SIZES, strict=False):
        label = label_map.encode(np.full(size, classes.ignore_index, np.uint8), classes)
        image = synthetic.png(np.zeros((*size, 3), np.uint8))
        samples.append(splits.checked_sample(image_id, image, label, classes, "made"))
    splits.write(path, samples, classes)


def write_project(ids, classes, data):
    write_split(Path(data), ids, classes)
    Path("params.yaml").write_text(yaml.safe_dump({"rows": {"a": {"data": data}}}))
    random = np.random.default_rng(0)
    Path("predictions/a").mkdir(parents=True)
    for image_id, size in zip(ids, SIZES, strict=False):
        label = random.integers(0, classes.num_classes, size, np.uint8)
        Path(f"predictions/a/{image_id}.png").write_bytes(label_map.encode(label, classes))


@pytest.fixture
def voc_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(VOC_IDS, voc.CLASSES, "data/voc/test.arrow")


@pytest.fixture
def cityscapes_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(CITYSCAPES_IDS, cityscapes.CLASSES, "data/cityscapes/test.arrow")


def submit(out="submissions"):
    submission.main(Path("params.yaml"), "a", Path("predictions"), Path(out))


def predicted(image_id):
    return label_map.decode(Path(f"predictions/a/{image_id}.png").read_bytes())


def test_a_voc_archive_unpacks_to_what_the_development_kit_wants(voc_project):
    submit()
    with tarfile.open("submissions/a.tgz", "r:gz") as tar:
        assert tar.getnames() == [f"{COMP6}{image_id}.png" for image_id in VOC_IDS]
        for image_id in VOC_IDS:
            with Image.open(tar.extractfile(f"{COMP6}{image_id}.png")) as image:
                assert image.mode == "P"
                assert image.getpalette()[:63] == [c for i in range(21) for c in voc.colour(i)]
                assert np.array_equal(image, predicted(image_id))


def test_a_cityscapes_archive_has_ids_under_the_names_of_the_images(cityscapes_project):
    submit()
    with zipfile.ZipFile("submissions/a.zip") as archive:
        assert archive.namelist() == [f"{i}_labelIds.png" for i in CITYSCAPES_IDS]
        for image_id, name in zip(CITYSCAPES_IDS, archive.namelist(), strict=True):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                assert image.mode == "L"
                assert np.array_equal(image, np.array(cityscapes.IDS)[predicted(image_id)])


def test_ids_of_classes_are_turned_back_into_classes():
    classes = np.arange(19, dtype=np.uint8)[None]
    assert np.array_equal(cityscapes.classes_of_ids(cityscapes.ids_of_classes(classes)), classes)


@pytest.mark.parametrize("project", ["voc_project", "cityscapes_project"])
def test_equal_label_maps_make_equal_archives(project, request, monkeypatch):
    request.getfixturevalue(project)
    submit("one")
    monkeypatch.setattr("time.time", lambda: 1e9)
    submit("two")
    (one,), (two,) = (list(Path(name).iterdir()) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_it_is_said_that_a_server_wants_another_number_of_images(voc_project, capsys):
    submit()
    said = capsys.readouterr()
    assert "a.tgz: 3 label maps, as VOC 2012, comp6 takes them" in said.out
    assert "scores 1456 images, data/voc/test.arrow has 3: the server will not take" in said.err


# what is refused of predictions


def write(name, content):
    Path("predictions/a", name).write_bytes(content)


def encoded(values, size=(3, 4), classes=voc.CLASSES):
    return label_map.encode(np.full(size, values, np.uint8), classes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: Path("predictions/a/2008_000011.png").unlink(), r"a/2008_000011\.png"),
        (lambda: write("2008_9.png", encoded(0)), r"a/2008_9\.png: predicts no image of data/voc"),
        (lambda: write(f"{VOC_IDS[0]}.png", encoded(255)), r"value 255, which is not a class"),
        (lambda: write(f"{VOC_IDS[0]}.png", encoded(21)), r"value 21, which is not a class"),
        (lambda: write(f"{VOC_IDS[0]}.png", encoded(1, (4, 3))), r"is 4x3 pixels .* image 3x4"),
        (lambda: write(f"{VOC_IDS[0]}.png", b"rubbish"), r"2008_000006\.png: label map is not"),
        (
            lambda: write(f"{VOC_IDS[0]}.png", synthetic.png(np.zeros((3, 4, 3), np.uint8))),
            r"2008_000006\.png: label map has mode RGB",
        ),
    ],
)
def test_a_bad_prediction_is_named_and_no_archive_is_written(voc_project, spoil, message):
    spoil()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        submit()
    assert not list(Path().glob("submissions/*"))


def test_a_row_without_label_maps_and_one_that_is_not_there_are_named(voc_project):
    with pytest.raises(ValueError, match=r"params\.yaml: rows\.b is missing"):
        submission.main(Path("params.yaml"), "b", Path("predictions"), Path("submissions"))
    with pytest.raises(ValueError, match=r"elsewhere/a: not there yet; `dvc repro predict@a`"):
        submission.main(Path("params.yaml"), "a", Path("elsewhere"), Path("submissions"))


def test_classes_that_no_server_knows_are_refused(tmp_path):
    split = Split(synthetic.write_split(tmp_path / "own.arrow", [(3, 4)]))
    with pytest.raises(ValueError, match=r"own: no test server takes these 3 classes \(background"):
        pack.pack(split, tmp_path, "own", tmp_path / "a.tgz")


def test_an_image_that_a_server_cannot_know_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_project(["000000000009"], voc.CLASSES, "data/coco/pretrain.arrow")
    with pytest.raises(ValueError, match="VOC 2012, comp6 knows no image 000000000009"):
        submit()


def test_an_archive_of_the_other_kind_is_refused(voc_project):
    split = Split(Path("data/voc/test.arrow"))
    with pytest.raises(ValueError, match=r"a\.zip: VOC 2012, comp6 takes a \.tgz archive"):
        pack.pack(split, Path("predictions/a"), "test", Path("a.zip"))


# what is refused of archives, whoever packed them


def grey(values, size=(3, 4)):
    return synthetic.png(np.full(size, values, np.uint8))


def recoloured(size=(3, 4)):
    image = Image.fromarray(np.zeros(size, np.uint8), mode="P")
    image.putpalette([0, 0, 0, 1, 2, 3] * 128)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def spoilt(change, server, split_file, name):
    """An archive in which one file is another, or is not."""
    suffix = server.suffix
    members = dict(archives.read(Path("submissions", f"a{suffix}"), suffix))
    changed = change(members.pop(name))
    members |= {} if changed is None else {name: changed}
    archives.write(Path(f"b{suffix}"), suffix, members.items())
    pack.require_accepted(server, Split(Path(split_file)), Path(f"b{suffix}"), Path("b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, r"2008_000006\.png is missing; 1 of 3 images have no prediction"),
        (lambda png: png[:40], "2008_000006.png not a readable PNG"),
        (lambda _: grey(0), r"has mode L, expected P \(indexed\), 8 bits a pixel"),
        (lambda _: synthetic.png(np.zeros((3, 4, 3), np.uint8)), "has mode RGB, expected P"),
        (lambda _: recoloured(), "has another palette than VOC 2012, comp6's"),
        (lambda _: encoded(255), r"has values \[255\], which are not what VOC 2012, comp6 takes"),
        (lambda _: encoded(0, (4, 3)), "is 4x3 pixels .height x width., its image 3x4"),
    ],
)
def test_what_the_voc_server_refuses_is_refused(voc_project, change, message):
    submit()
    with pytest.raises(ValueError, match=message) as caught:
        spoilt(change, servers.VOC, "data/voc/test.arrow", f"{COMP6}2008_000006.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, r"_000019_labelIds\.png is missing; 1 of 2 images"),
        (lambda _: grey(0), r"has values \[0\], which are not what Cityscapes"),  # a trainId
        (lambda _: grey(255), r"has values \[255\], which are not what Cityscapes"),
        (lambda _: encoded(7), r"has mode P, expected L \(grey\)"),
        (lambda _: grey(7, (3, 5)), "is 3x5 pixels"),
    ],
)
def test_what_the_cityscapes_server_refuses_is_refused(cityscapes_project, change, message):
    submit()
    name = f"{CITYSCAPES_IDS[0]}_labelIds.png"
    with pytest.raises(ValueError, match=message):
        spoilt(change, servers.CITYSCAPES, "data/cityscapes/test.arrow", name)


def test_a_file_too_many_or_twice_is_refused(voc_project):
    submit()
    members = [*archives.read(Path("submissions/a.tgz"), ".tgz")]
    archives.write(Path("b.tgz"), ".tgz", [*members, members[0], ("results/readme.txt", b"me")])
    split = Split(Path("data/voc/test.arrow"))
    with pytest.raises(
        ValueError, match=r"is in it twice\nb: results/readme\.txt belongs to no im"
    ):
        pack.require_accepted(servers.VOC, split, Path("b.tgz"), Path("b"))


def test_many_mistakes_are_cut_short(voc_project):
    submit()
    archives.write(Path("b.tgz"), ".tgz", [(str(n), b"") for n in range(30)])
    split = Split(Path("data/voc/test.arrow"))
    with pytest.raises(ValueError, match="b: and 21 mistakes more") as caught:
        pack.require_accepted(servers.VOC, split, Path("b.tgz"), Path("b"))
    assert len(str(caught.value).splitlines()) == 11


@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
@pytest.mark.parametrize("content", [b"", b"rubbish", "cut"])
def test_an_archive_that_is_none_is_refused(voc_project, suffix, content):
    archives.write(Path("whole"), suffix, [("a", bytes(range(256)) * 99)])
    whole = Path("whole").read_bytes()
    Path("b").write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
    with pytest.raises(ValueError, match=rf"b: not a \{suffix} archive, or a damaged one"):
        list(archives.read(Path("b"), suffix))


# the stage: from a checkpoint to the archive


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A checkpoint that nothing has trained, of VOC's classes, and images without labels."""
    monkeypatch.chdir(tmp_path)
    write_split(Path("data/voc/test.arrow"), VOC_IDS, voc.CLASSES)
    network = synthetic.network()
    model = deeplab.build(network, num_classes=21, output_stride=16, seed=0)
    checkpoints.save(Path("checkpoints/a.safetensors"), model, network, voc.CLASSES)
    document = {
        "rows": {"a": {"inference": synthetic.INFERENCE}},
        "submissions": {"b": {"inference": synthetic.INFERENCE}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(document))


ARGUMENTS = (Path("params.yaml"), Path("checkpoints/a.safetensors"), Path("data/voc/test.arrow"))


def test_the_stage_packs_what_predict_predicts(trained, capsys):
    predict.main("a", *ARGUMENTS, Path("predictions/a"))
    stage.main("b", *ARGUMENTS, Path("submissions/b"))
    packed = dict(archives.read(Path("submissions/b/results.tgz"), ".tgz"))
    assert sorted(packed) == [f"{COMP6}{image_id}.png" for image_id in VOC_IDS]
    for image_id in VOC_IDS:
        predicted = Path(f"predictions/a/{image_id}.png").read_bytes()
        assert packed[f"{COMP6}{image_id}.png"] == predicted
        assert Path(f"submissions/b/labels/{image_id}.png").read_bytes() == predicted
    assert "scores 1456 images, data/voc/test.arrow has 3" in capsys.readouterr().err


def test_a_stage_that_fails_leaves_nothing(trained):
    write_split(Path("data/voc/test.arrow"), ["a", *VOC_IDS[1:]], voc.CLASSES)
    with pytest.raises(ValueError, match="VOC 2012, comp6 knows no image a"):
        stage.main("b", *ARGUMENTS, Path("submissions/b"))
    assert not list(Path("submissions").glob("*"))


def test_classes_that_no_server_takes_are_refused_before_anything_is_computed(trained):
    data = Path("data/two.arrow")
    synthetic.write_split(data, [(3, 4)])
    with pytest.raises(ValueError, match=r"data/two\.arrow: no test server takes these 3 classes"):
        stage.main("b", *ARGUMENTS[:2], data, Path("submissions/b"))
