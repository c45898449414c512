import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
import yaml
from PIL import Image

from pipeline import label_map
from pipeline.data.images import normalise
from pipeline.inference import predict
from pipeline.inference.config import Inference
from pipeline.model import checkpoints, deeplab
from pipeline.pictures import __main__ as pictures
from pipeline.pictures import labelling, overlay, reading

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
PLAIN = labelling.strategy(synthetic.network())


def build():
    model = deeplab.build(synthetic.network(), num_classes=3, output_stride=16, seed=1)
    synthetic.scramble_batch_norm(model).eval()
    with torch.no_grad():
        model.classifier.weight *= 30
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints") / "small.safetensors"
    checkpoints.save(path, build(), synthetic.network(), synthetic.CLASSES)
    return path


def scene(height, width, seed=0):
    return synthetic.scene(np.random.default_rng(seed), height, width)[0]


@pytest.fixture
def folder(tmp_path):
    """Pictures of several kinds and sizes, one of them in a folder of its own."""
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    Image.fromarray(scene(40, 61)).save(images / "a.jpg")
    Image.fromarray(scene(1, 1)).save(images / "a.png")
    Image.fromarray(scene(50, 20)).save(images / "more" / "Ü b.JPEG")
    (images / "notes.txt").write_text("about the pictures")
    (images / ".hidden.png").write_bytes(b"no picture")
    return images


def run(checkpoint, images, out, max_side=2049, *, params_file=Path("params.yaml"), row=""):
    pictures.main(checkpoint, images, out, max_side, params_file, row)


def written(out):
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}


@torch.inference_mode()
def label_slowly(model, image):
    """In double precision: pad to the next k * 16 + 1, take the likeliest class, cut off."""
    height, width = image.shape[:2]
    rows, columns = ((max(1, -(-(side - 1) // 16))) * 16 + 1 for side in (height, width))
    padded = np.zeros((1, rows, columns, 3), np.uint8)
    padded[0, :height, :width] = image
    network = synthetic.network()
    box = torch.tensor([[0, 0, height, width]])
    normalised = normalise(torch.from_numpy(padded), box, network.mean, network.std)
    logits = copy.deepcopy(model).double().coarse_logits(normalised.double())
    whole = torch.nn.functional.interpolate(
        logits, (rows, columns), mode="bilinear", align_corners=True
    )
    return whole[0, :, :height, :width].argmax(0).numpy()


@pytest.mark.parametrize("size", [(40, 61), (17, 17), (18, 16), (1, 1), (1, 90)])
def test_labels_are_those_of_a_slow_plain_version(size):
    model, image = build(), scene(*size)
    label = labelling.label(model, synthetic.network(), image, PLAIN, max_side=2049, device=CPU)
    assert (label.shape, label.dtype) == (size, np.uint8)
    assert (label != label_slowly(model, image)).sum() <= 1


def test_a_larger_picture_is_shrunk_and_its_labels_have_its_size():
    model, image = build(), np.kron(scene(40, 60), np.ones((3, 3, 1), np.uint8))
    label = labelling.label(model, synthetic.network(), image, PLAIN, max_side=60, device=CPU)
    small = labelling.label(
        model, synthetic.network(), image[::3, ::3], PLAIN, max_side=60, device=CPU
    )
    assert np.array_equal(label, np.kron(small, np.ones((3, 3), np.uint8)))


def test_every_picture_gets_a_label_map_and_an_overlay(checkpoint, folder, tmp_path, capsys):
    out = tmp_path / "out"
    run(checkpoint, folder, out)
    names = {"a.jpg.png", "a.png.png", "more/Ü b.JPEG.png"}
    assert written(out) == {f"{kind}/{name}" for kind in ("labels", "overlays") for name in names}
    label = label_map.decode((out / "labels/a.jpg.png").read_bytes())
    assert label.shape == (40, 61)
    with Image.open(out / "overlays/a.jpg.png") as drawn:
        assert (drawn.mode, drawn.width) == ("RGB", 61)
        assert drawn.height > 40  # the legend
    said = capsys.readouterr()
    assert "3 pictures: " in said.out
    assert "1 files are no pictures by their names: notes.txt" in said.err


def test_twice_the_same_pictures_give_the_same_bytes(checkpoint, folder, tmp_path):
    outs = [tmp_path / name for name in ("one", "two")]
    for out in outs:
        run(checkpoint, folder, out)
    first, second = ([(out / name).read_bytes() for name in sorted(written(out))] for out in outs)
    assert first == second


def test_an_unreadable_picture_is_named_and_the_rest_done(checkpoint, folder, tmp_path):
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "page.webp").write_text("<html>")
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="3 of 6 pictures could not be read") as caught:
        run(checkpoint, folder, out)
    lines = str(caught.value).splitlines()[1:]
    assert [Path(line.split(":")[0]).name for line in lines] == [
        "cut.jpg",
        "empty.png",
        "page.webp",
    ]
    assert len(written(out)) == 2 * 3


def test_pictures_may_be_labelled_by_the_strategy_of_a_row(checkpoint, folder, tmp_path):
    strategy = PLAIN.model_dump() | {"height": 65, "width": 65, "scales": [0.5, 1.0], "flip": True}
    rows = {"flipped": {"inference": strategy | {"output_stride": 8}}}
    params_file = tmp_path / "params.yaml"
    params_file.write_text(yaml.safe_dump({"rows": rows}))
    run(checkpoint, folder, tmp_path / "out", params_file=params_file, row="flipped")
    run(checkpoint, folder, tmp_path / "plain")
    model, network, _ = checkpoints.load(checkpoint, output_stride=8)
    inference = Inference.model_validate(rows["flipped"]["inference"])
    ready = predict.prepared(model, inference, CPU)
    image = reading.read(folder / "a.jpg").image
    expected = labelling.label(ready, network, image, inference, max_side=2049, device=CPU)
    content = (tmp_path / "out/labels/a.jpg.png").read_bytes()
    assert (label_map.decode(content) == expected).all()
    assert content != (tmp_path / "plain/labels/a.jpg.png").read_bytes()
    with pytest.raises(ValueError, match=r"params\.yaml: rows\.missing\.inference is missing"):
        run(checkpoint, folder, tmp_path / "out", params_file=params_file, row="missing")


def test_a_large_picture_is_drawn_like_its_parts():
    image, label = synthetic.scene(np.random.default_rng(3), 600, 40)
    label = np.where(label == synthetic.CLASSES.ignore_index, np.uint8(0), label)
    whole = np.asarray(overlay.draw(image, label, synthetic.CLASSES))
    for rows in (slice(0, 256), slice(250, 300), slice(512, 600)):
        part = np.asarray(overlay.draw(image[rows], label[rows], synthetic.CLASSES))
        height = rows.stop - rows.start
        assert (whole[rows] == part[:height]).all()


def test_a_program_ends_in_one_line_per_mistake_and_status_1(checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    arguments = [checkpoint, "images", "out", "513", "params.yaml", ""]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.pictures", *map(str, arguments)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: 1 of 1 pictures could not be read\nimages/bad.png: not a readable" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder, folder.parent / "nowhere", "out"), "nowhere: not a folder of"),
        (lambda folder: (folder, folder / "a.jpg", "out"), r"a\.jpg: not a folder of pictures"),
        (
            lambda folder: (folder, folder, folder / "out"),
            "out: is in .*, where the next run would",
        ),
        (lambda folder: (folder, folder, folder), "where the next run would take it"),
    ],
)
def test_folders_that_will_not_do_are_refused(checkpoint, folder, spoil, message):
    _, images, out = spoil(folder)
    with pytest.raises(ValueError, match=message):
        run(checkpoint, images, Path(out))


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    for folder in (images, elsewhere / "deep"):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    (images / ".hidden.jpg").touch()
    (images / "linked").symlink_to(elsewhere)
    (elsewhere / "deep/back").symlink_to(images)
    (images / "up").symlink_to(tmp_path)
    (images / "lost.jpg").symlink_to(tmp_path / "nowhere")
    pictures = [images / "a.jpg", images / "linked/deep/a.jpg", images / "lost.jpg"]
    assert reading.find(images) == (pictures, [])
    assert "No such file" in reading.read(images / "lost.jpg").mistake


def test_what_is_written_may_not_lie_in_a_linked_folder(checkpoint, folder, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links/pictures").symlink_to(folder.resolve())
    with pytest.raises(ValueError, match=r"out: is in .*pictures, where the next run would take"):
        run(checkpoint, tmp_path / "links", folder.resolve() / "out")


def test_a_folder_that_may_not_be_read_keeps_no_other_from_being_labelled(folder, monkeypatch):
    readable = Path.iterdir

    def iterdir(path):
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return readable(path)

    (folder / "lost+found").mkdir()
    monkeypatch.setattr(Path, "iterdir", iterdir)
    pictures, others = reading.find(folder)
    assert pictures
    assert folder / "lost+found" in others


def test_a_folder_without_a_picture_is_refused(checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/notes.txt").touch()
    with pytest.raises(ValueError, match=r"images: no picture among its 1 files; .* \.jpg"):
        run(checkpoint, tmp_path / "images", tmp_path / "out")


def test_a_checkpoint_that_is_none_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg: not a readable safetensors file"):
        run(folder / "a.jpg", folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_limit_that_leaves_nothing_is_refused(checkpoint, folder, tmp_path):
    with pytest.raises(ValueError, match="MAX_SIDE: 32 is less than 33 pixels"):
        run(checkpoint, folder, tmp_path / "out", 32)


# reading


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_camera_says(tmp_path, orientation):
    shown = np.zeros((16, 24, 3), np.uint8)
    shown[:8, :8] = 250  # the corner at the top left is white
    turns = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}
    stored = Image.fromarray(shown)
    for turn in turns[orientation]:  # the inverse of what a viewer does
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(reading.read(tmp_path / "a.png").image, shown)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_picture_of_any_kind_becomes_rgb(tmp_path, mode):
    value = {"1": 1, "I;16": 0xFFFF, "I": 0xFFFF, "F": 255.0}.get(mode)
    if value is None:
        picture = Image.new("RGB", (5, 4), "white").convert(mode)
    else:
        picture = Image.new(mode, (5, 4), value)
    picture.save(tmp_path / "a.tiff")
    read = reading.read(tmp_path / "a.tiff")
    assert read.mistake == ""
    assert (read.image.shape, read.image.dtype) == ((4, 5, 3), np.uint8)
    assert (read.image == 255).all()


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (5, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert (reading.read(tmp_path / "a.png").image == 255).all()


def test_a_picture_that_would_fill_memory_is_refused(tmp_path):
    Image.new("1", (30_000, 3_000)).save(tmp_path / "a.png")
    assert (
        reading.read(tmp_path / "a.png").mistake == "it has more pixels than the limit of 89478485"
    )


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_are_a_picture_or_a_mistake(tmp_path, seed):
    random = np.random.default_rng(seed)
    suffix = ["jpg", "png", "webp", "tiff"][seed % 4]
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(scene(20, 30)).save(path)
    content = bytearray(path.read_bytes())
    for place in random.integers(0, len(content), 8):
        content[place] = random.integers(256)
    path.write_bytes(content)
    read = reading.read(path)
    assert (read.image is None) is bool(read.mistake)
    assert "\n" not in read.mistake


# overlays


def test_background_is_left_as_it_is_and_classes_are_blended():
    image = np.full((30, 40, 3), 100, np.uint8)
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 1  # (64, 0, 0)
    drawn = np.asarray(overlay.draw(image, label, synthetic.CLASSES))
    assert (drawn[:30, :20] == 100).all()
    # 0.4 * 100 + 0.6 * 64 = 78.4; 0.4 * 100
    assert (drawn[:30, 20:] == (78, 40, 40)).all()


def test_a_legend_names_the_classes_that_are_there():
    image, label = np.zeros((100, 300, 3), np.uint8), np.zeros((100, 300), np.uint8)
    colours = []
    for classes in ([0], [0, 1], [0, 1, 2]):
        for value in classes:
            label[:, 10 * value : 10 * value + 10] = value
        legend = np.asarray(overlay.draw(image, label, synthetic.CLASSES))[100:]
        colours.append({tuple(c) for c in legend.reshape(-1, 3).tolist()})
    assert (64, 0, 0) not in colours[0]
    assert (0, 0, 0) in colours[0]  # there is nothing else to name
    assert (0, 0, 0) not in colours[1]  # background is not painted, where there is
    assert (64, 0, 0) in colours[1]
    assert (64, 0, 128) not in colours[1]
    assert (64, 0, 128) in colours[2]
