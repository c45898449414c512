import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import label_map, params
from pipeline.data.images import decode_image
from pipeline.originals import custom, custom_files, custom_pixels
from pipeline.originals.config import Custom
from pipeline.splits import Split
from stages import custom as stage

BINARY = {
    "kind": "values",
    "void": None,
    "classes": [
        {"name": "ground", "value": 0, "colour": [0, 0, 0]},
        {"name": "thing", "value": 255, "colour": [200, 30, 30]},
    ],
}
COLOURS = {
    "kind": "colours",
    "void": [255, 255, 255],
    "classes": [
        {"name": "ground", "colour": [0, 0, 0]},
        {"name": "sky", "colour": [0, 0, 255]},
        {"name": "thing", "colour": [255, 0, 0]},
    ],
}
FRACTION = {"kind": "fraction", "val": 0.5, "seed": 0}
LISTS = {"kind": "lists", "train": "train.txt", "val": "val.txt"}
FOLDERS = {"kind": "folders", "train": "training", "val": "validation"}
SECTION = {
    "images": "images",
    "labels": "masks",
    "image_suffix": "",
    "label_suffix": "",
    "orientation": "displayed",
    "max_height": 65,
    "max_width": 65,
    "larger_images": "refuse",
    "coding": BINARY,
    "splits": LISTS,
}
SECTION_MODEL = Custom.model_validate(SECTION)
MASK = np.array([[0, 255, 255], [0, 0, 0]], np.uint8)


def encoded(pixels, kind="PNG", mode=None, turn=1, **options):
    """An image file of these pixels; EXIF says how it is to be turned."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels, mode)
    buffer, exif = io.BytesIO(), Image.Exif()
    if turn != 1:
        exif[0x0112] = turn
        options["exif"] = exif
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(height=2, width=3, kind="JPEG", **options):
    random = np.random.default_rng(0)
    return encoded(random.integers(0, 255, (height, width, 3)).astype(np.uint8), kind, **options)


def png_16_bit(height=2, width=3, channels=3):
    """Pillow cannot write 16 bits a channel in colour."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    colour_type = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\0\1" * width * channels) * height)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


class Data:
    """A user's folders: two images of train, one of val; and the section of params.yaml."""

    def __init__(self, folder, **changes):
        self.folder, self.section = folder, SECTION | changes
        for image_id in ("a", "b", "c"):
            self.add(f"images/{image_id}.jpg", picture())
            self.add(f"masks/{image_id}.png", encoded(MASK))
        self.add("masks/train.txt", b"b\na\n")
        self.add("masks/val.txt", b"c\n")

    def add(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, *names):
        for name in names:
            (self.folder / name).unlink()

    def run(self):
        """Runs the stage; returns train and val."""
        params_file = self.folder / "params.yaml"
        params_file.write_text(json.dumps({"custom": {"mine": self.section}}))
        outs = [self.folder / "data" / f"{split}.arrow" for split in ("train", "val")]
        folders = self.folder / "images", self.folder / "masks"
        stage.main("mine", params_file, *folders, *outs, self.folder / "numbers.json")
        return [Split(out) for out in outs]

    def mistakes(self):
        """Runs the stage; returns what it says is wrong, folders left out."""
        with pytest.raises(ValueError, match=r"mistakes? in the data, nothing is packed:") as error:
            self.run()
        assert not list(self.folder.glob("data/*"))
        return [line.replace(f"{self.folder}/", "") for line in str(error.value).splitlines()[1:]]


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


def labels_of(split):
    return {sample.image_id: label_map.decode(sample.label).tolist() for sample in split}


# What is packed


def test_a_binary_mask_of_0_and_255_becomes_two_classes(data):
    train, val = data.run()
    assert (train.image_ids, val.image_ids) == (["b", "a"], ["c"])
    assert labels_of(val) == {"c": [[0, 1, 1], [0, 0, 0]]}
    assert val.classes.names == ("ground", "thing")
    assert (val.classes.colours[1], val.classes.ignore_index) == ((200, 30, 30), 255)
    assert (val[0].image, val[0].source, val[0].classes) == (picture(), "mine", [0, 1])


def test_what_was_found_is_said(data, capsys):
    data.run()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mine: ")]
    assert said == [
        "mine: images: train 2, val 1; up to 2 high and 3 wide",
        "mine: pixels of ground: 66.67 % of train, 66.67 % of val",
        "mine: pixels of thing: 33.33 % of train, 33.33 % of val",
    ]


def test_running_again_gives_the_same_bytes(data):
    data.run()
    first = [path.read_bytes() for path in sorted(data.folder.glob("data/*"))]
    data.run()
    assert [path.read_bytes() for path in sorted(data.folder.glob("data/*"))] == first


def test_void_has_a_value_of_its_own(data):
    data.section["coding"] = BINARY | {"void": 7}
    data.add("masks/c.png", encoded(np.array([[0, 7, 255], [7, 7, 0]], np.uint8)))
    assert labels_of(data.run()[1])["c"] == [[0, 255, 1], [255, 255, 0]]


def test_classes_stand_in_their_own_order_whatever_their_values(data):
    data.section["coding"] = BINARY | {"classes": BINARY["classes"][::-1]}
    val = data.run()[1]
    assert val.classes.names == ("thing", "ground")
    assert labels_of(val)["c"] == [[1, 0, 0], [1, 1, 1]]


def test_palette_and_one_bit_masks_are_read_by_index_and_brightness(data):
    palette = Image.fromarray(MASK, "P")
    palette.putpalette(bytes(range(256)) * 3)
    data.add("masks/a.png", encoded(palette))
    data.add("masks/c.png", encoded(Image.fromarray(MASK > 0)))
    train, val = data.run()
    assert labels_of(train)["a"] == labels_of(val)["c"] == [[0, 1, 1], [0, 0, 0]]


def test_colours_are_looked_up_in_the_table(data):
    data.section["coding"] = COLOURS
    colours = [[0, 0, 0], [0, 0, 255], [255, 0, 0], [255, 255, 255]]
    for image_id in "abc":
        data.add(f"images/{image_id}.jpg", picture(1, 4))
        data.add(f"masks/{image_id}.png", encoded(np.array([colours], np.uint8)))
    assert labels_of(data.run()[1])["c"] == [[0, 1, 2, 255]]


def test_a_high_label_map_is_looked_up_in_parts(monkeypatch):
    monkeypatch.setattr(custom_pixels, "_ROWS_AT_A_TIME", 2)
    section = Custom.model_validate(SECTION | {"coding": COLOURS})
    colours = [[[0, 0, 0]], [[0, 0, 255]], [[255, 0, 0]], [[255, 255, 255]], [[0, 0, 255]]]
    content = encoded(np.array(colours, np.uint8))
    assert custom_pixels.label_values(section, content).tolist() == [[0], [1], [2], [255], [1]]
    strange = encoded(np.array([*colours, *[[[1, 2, 3]]] * 3], np.uint8))
    with pytest.raises(ValueError, match=r"colour \[1, 2, 3\] \(3 pixels\) of no class"):
        custom_pixels.label_values(section, strange)


def test_a_palette_may_hold_the_colours(data):
    data.section["coding"] = COLOURS
    palette = Image.fromarray(np.array([[9, 5, 9], [9, 9, 7]], np.uint8), "P")
    table = np.zeros((256, 3), np.uint8)
    table[5], table[7], table[9] = [0, 0, 255], [255, 0, 0], [0, 0, 0]
    palette.putpalette(table.tobytes())
    for image_id in "abc":
        data.add(f"masks/{image_id}.png", encoded(palette))
    assert labels_of(data.run()[1])["c"] == [[0, 1, 0], [0, 0, 2]]


def test_nested_folders_become_part_of_the_id(data):
    data.add("images/x/y/d.PNG", picture(kind="PNG"))
    data.add("masks/x/y/d.png", encoded(MASK))
    data.add("masks/val.txt", b"\xef\xbb\xbfx/y/d\r\n\r\nc\r\n")  # as Windows writes it
    assert data.run()[1].image_ids == ["x--y--d", "c"]


def test_names_may_be_any_text_and_composed_in_two_ways(data):
    name = "Maße (1)\u202f♥ e\u0301"
    data.add(f"images/{name}.jpeg", picture())
    data.add("masks/Maße (1)\u202f♥ é.png", encoded(MASK))
    data.add("masks/val.txt", "Maße (1)\u202f♥ é".encode())
    assert data.run()[1].image_ids == ["Maße (1)\u202f♥ é"]


def test_label_maps_may_have_a_suffix(data):
    data.section["label_suffix"] = "_mask"
    for image_id in "abc":
        (data.folder / f"masks/{image_id}.png").rename(data.folder / f"masks/{image_id}_mask.png")
    assert data.run()[1].image_ids == ["c"]


def with_suffixes(data):
    data.section |= {"image_suffix": "_sat", "label_suffix": "_mask"}
    for image_id in "abc":
        (data.folder / f"images/{image_id}.jpg").rename(data.folder / f"images/{image_id}_sat.jpg")
        (data.folder / f"masks/{image_id}.png").rename(data.folder / f"masks/{image_id}_mask.png")


def test_images_may_have_a_suffix_as_well(data):
    with_suffixes(data)
    assert data.run()[1].image_ids == ["c"]


def test_images_without_their_suffix_are_told(data):
    with_suffixes(data)
    data.remove("images/a_sat.jpg")
    data.add("images/b.jpg", picture())
    assert data.mistakes() == [
        "images/b.jpg: name does not end in image_suffix '_sat'",
        "masks/a_mask.png: has no image images/a_sat.jpg (or .jpeg, .png)",
    ]


def test_a_folder_of_label_maps_may_stand_among_the_images(data):
    (data.folder / "masks").rename(data.folder / "images" / "masks")
    section = Custom.model_validate(data.section)
    folders = data.folder / "images", data.folder / "images" / "masks"
    found = custom_files.find(section, *folders)
    assert found.mistakes == []
    assert [pair.image_id for pair in found.splits["val"]] == ["c"]


def test_other_files_and_hidden_ones_are_passed_over(data):
    for name in ("images/Thumbs.db", "images/._a.jpg", "images/.trash/z.jpg", "masks/readme.md"):
        data.add(name, b"?")
    assert [len(split) for split in data.run()] == [2, 1]


def test_images_that_no_list_names_need_nothing(data):
    data.add("images/test/d.jpg", b"not even an image")
    assert [len(split) for split in data.run()] == [2, 1]


def test_grey_and_palette_images_are_taken(data):
    data.add("images/a.jpg", encoded(MASK, "JPEG"))
    data.remove("images/b.jpg")
    data.add("images/b.png", encoded(Image.fromarray(MASK, "L").convert("P")))
    for sample in data.run()[0]:
        assert decode_image(sample).shape == (2, 3, 3)


def test_the_numbers_of_each_split_are_a_metric(data):
    data.run()
    numbers = json.loads((data.folder / "numbers.json").read_text())
    assert numbers["train"]["pixels_per_class"] == {"ground": 8, "thing": 4}
    assert (numbers["train"]["images"], numbers["val"]["images"]) == (2, 1)


# Larger images


def test_an_image_and_its_label_map_shrink_to_fit(data, capsys):
    data.section |= {"larger_images": "shrink", "max_height": 2, "max_width": 3}
    grey = np.array([[10, 20, 0, 0], [30, 40, 0, 0], [0, 0, 5, 5], [0, 0, 5, 5]], np.uint8)
    data.remove("images/c.jpg")
    data.add("images/c.png", encoded(grey))
    data.add("masks/c.png", encoded(np.where(grey == 5, 255, 0).astype(np.uint8)))
    (sample,) = data.run()[1]
    assert decode_image(sample)[:, :, 0].tolist() == [[25, 0], [0, 5]]
    assert label_map.decode(sample.label).tolist() == [[0, 0], [0, 1]]
    assert (sample.height, sample.width) == (2, 2)
    said = capsys.readouterr().err.splitlines()
    assert "mine: shrunk to fit max_height x max_width, 2x3: 1 of 3 images" in said


def test_what_fits_keeps_its_bytes_where_others_shrink(data):
    data.section |= {"larger_images": "shrink"}
    assert [sample.image for sample in data.run()[0]] == [picture()] * 2


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 600), st.integers(1, 600))
def test_a_shrunk_image_fits_and_touches_a_limit(height, width, max_height, max_width):
    section = SECTION_MODEL.model_copy(update={"max_height": max_height, "max_width": max_width})
    shrunk_height, shrunk_width = custom_pixels.fitting(section, height, width)
    assert 1 <= shrunk_height <= max_height
    assert 1 <= shrunk_width <= max_width
    if (shrunk_height, shrunk_width) != (height, width):
        assert shrunk_height == max_height or shrunk_width == max_width


def test_an_image_on_its_side_is_turned_before_it_shrinks(data):
    data.section |= {"larger_images": "shrink", "max_height": 6, "max_width": 65}
    data.add("images/c.jpg", picture(4, 12, turn=6))
    data.add("masks/c.png", encoded(np.zeros((12, 4), np.uint8)))
    (sample,) = data.run()[1]
    assert decode_image(sample).shape == (6, 2, 3)


def test_an_image_that_later_stages_could_not_open_is_told(data, monkeypatch):
    monkeypatch.setattr("pipeline.pixels.MAX_PIXELS", 5)
    data.section |= {"larger_images": "shrink"}
    assert data.mistakes()[0] == "images/b.jpg: has more pixels than the limit of 5; shrink it"


# Splits


def test_folders_may_be_the_splits(data):
    data.section["splits"] = FOLDERS
    for name in ("training/1", "training/2", "validation/1"):
        data.add(f"images/{name}.jpg", picture())
        data.add(f"masks/{name}.png", encoded(MASK))
    train, val = data.run()
    assert train.image_ids == ["training--1", "training--2"]
    assert val.image_ids == ["validation--1"]


def test_a_fraction_is_about_that_fraction():
    ids = [f"image {number}" for number in range(10_000)]
    num_val = sum(custom_files.falls_into_val(i, val=0.2, seed=3) for i in ids)
    assert num_val == pytest.approx(2000, abs=5 * (10_000 * 0.2 * 0.8) ** 0.5)


def test_another_seed_is_another_split():
    drawn = {
        tuple(custom_files.falls_into_val(str(n), val=0.5, seed=seed) for n in range(50))
        for seed in range(20)
    }
    assert len(drawn) == 20


@given(st.text(), st.floats(0, 1), st.floats(0, 1), st.integers(0))
def test_a_larger_fraction_only_adds_to_val(image_id, one, other, seed):
    less, more = sorted((one, other))
    if custom_files.falls_into_val(image_id, val=less, seed=seed):
        assert custom_files.falls_into_val(image_id, val=more, seed=seed)


def test_an_image_that_is_added_moves_no_other(data):
    data.section["splits"] = FRACTION
    for number in range(20):
        data.add(f"images/{number}.jpg", picture())
        data.add(f"masks/{number}.png", encoded(MASK))
    before = [set(split.image_ids) for split in data.run()]
    data.add("images/new.jpg", picture())
    data.add("masks/new.png", encoded(MASK))
    after = [set(split.image_ids) for split in data.run()]
    assert [now - {"new"} for now in after] == before
    assert {"new"} in [now - was for now, was in zip(after, before, strict=True)]


# EXIF


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_is_stored_as_it_is_displayed(data, turn):
    content = picture(4, 6, kind="PNG", turn=turn)
    with Image.open(io.BytesIO(content)) as image:
        stored = np.asarray(image)
    # What each value means, by Exif 2.3: row 0 and column 0 of the stored pixels are displayed at
    # the top and left, top and right, bottom and right, and so on.
    displayed = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[turn]
    data.remove("images/c.jpg")
    data.add("images/c.png", content)
    data.add("masks/c.png", encoded(np.zeros(displayed.shape[:2], np.uint8)))
    (sample,) = data.run()[1]
    assert np.array_equal(decode_image(sample), displayed)
    assert (sample.image == content) == (turn == 1)


def test_an_image_is_left_as_it_is_where_labels_fit_it_as_stored(data):
    data.section["orientation"] = "stored"
    data.add("images/c.jpg", picture(turn=6))
    (sample,) = data.run()[1]
    assert sample.image == picture(turn=6)
    assert (sample.height, sample.width) == (2, 3)


def test_a_label_map_drawn_on_the_other_orientation_is_told_from_another_size(data):
    data.add("images/c.jpg", picture(turn=6))
    assert data.mistakes() == [
        "masks/c.png: is 2x3 pixels (height x width), its image 3x2 as displayed; EXIF turns that "
        "image: is the label map drawn on it as stored? See orientation"
    ]


def test_damaged_exif_hides_no_mistake(data, monkeypatch):
    def damaged(content):
        raise ValueError("has damaged EXIF")

    monkeypatch.setattr(custom_pixels, "is_on_its_side", damaged)
    data.section["orientation"] = "stored"
    data.add("masks/c.png", encoded(np.zeros((3, 2), np.uint8)))
    data.add("images/c.jpg", picture())
    assert data.mistakes() == ["masks/c.png: is 3x2 pixels (height x width), its image 2x3"]


# Mistakes


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("masks/a.png", None, "images/a.jpg: has no label map masks/a.png"),
        ("images/a.jpg", None, "masks/a.png: has no image images/a.jpg (or .jpeg, .png)"),
        ("images/a.jpg", b"", "images/a.jpg: is empty, 0 bytes"),
        ("images/a.jpg", b"text", "images/a.jpg: not an image that can be read"),
        ("images/a.jpg", picture(40, 40)[:-40], "images/a.jpg: damaged: image file is truncated"),
        ("images/a.jpg", picture(kind="WEBP"), "images/a.jpg: is WEBP, whatever its name says"),
        (
            "images/a.jpg",
            encoded(Image.new("RGBA", (3, 2))),
            "images/a.jpg: has transparency (mode RGBA); save it as 8-bit RGB or grey",
        ),
        (
            "images/a.jpg",
            encoded(Image.new("CMYK", (3, 2)), "JPEG"),
            "images/a.jpg: has pixels of mode CMYK; save it as 8-bit RGB or grey",
        ),
        ("images/a.jpg", png_16_bit(), "images/a.jpg: has 16 bits a channel; save it as 8-bit"),
        (
            "images/a.jpg",
            picture(66, 3),
            "images/a.jpg: is 66x3 pixels (height x width), more than max_height x max_width, 65x65"
            "; set larger_images: shrink, or raise these, and height and width of the rows'",
        ),
        ("images/a.png", picture(), "images/a.png: images/a.jpg has the same name up to its suffi"),
        ("images/d.tif", b"?", "images/d.tif: not .jpeg or .jpg or .png; convert it, or take it"),
        ("masks/a.png", b"", "masks/a.png: is empty, 0 bytes"),
        ("masks/a.png", encoded(MASK)[:-30], "masks/a.png: damaged: "),
        ("masks/a.png", encoded(MASK, "JPEG"), "masks/a.png: is JPEG, whatever its name says; lab"),
        ("masks/d.jpg", b"?", "masks/d.jpg: JPEG blurs label values; save label maps as PNG from"),
        (
            "masks/a.png",
            encoded(Image.new("RGB", (3, 2))),
            "masks/a.png: has pixels of mode RGB; coding.kind 'values' takes 8-bit grey or palette "
            "PNG (colour-coded maps are kind 'colours')",
        ),
        ("masks/a.png", encoded(Image.new("RGBA", (3, 2))), "masks/a.png: has transparency (mode"),
        ("masks/a.png", png_16_bit(channels=1), "masks/a.png: has 16 bits a channel; coding.kind"),
        (
            "masks/a.png",
            encoded(np.zeros((3, 3), np.uint8)),
            "masks/a.png: is 3x3 pixels (height x width), its image 2x3",
        ),
        (
            "masks/a.png",
            encoded(np.array([[0, 3, 255], [7, 3, 3]], np.uint8)),
            "masks/a.png: value 3 (3 pixels), 7 (1 pixels) of no class in coding.classes and not "
            "void",
        ),
        (
            "masks/a.png",
            encoded(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)),
            "masks/a.png: value 1 (1 pixels), 2 (1 pixels), 3 (1 pixels), 4 (1 pixels), 5 (1 "
            "pixels) and 1 more of no class in coding.classes and not void; were they smoothed",
        ),
        ("masks/val.txt", b"", "val: would have no image; list val.txt of "),
        ("masks/val.txt", None, "masks/val.txt: No such file or directory"),
        ("masks/val.txt", b"\xff", "masks/val.txt: not UTF-8"),
        ("masks/val.txt", b"c\na\n", "masks/val.txt: a is listed in train and in val"),
        ("masks/val.txt", b"c\nc\n", "masks/val.txt: c is listed twice"),
        (
            "masks/val.txt",
            b"c\nz.jpg\n",
            "val: z.jpg is listed, but there is no images/z.jpg.jpg (or .jpeg, ",
        ),
    ],
)
def test_a_mistake_names_its_file_and_the_rule(data, name, content, message):
    if content is None:
        data.remove(name)
    else:
        data.add(name, content)
    assert data.mistakes()[0].startswith(message)


def test_a_strange_colour_is_named_with_its_pixels(data):
    data.section["coding"] = COLOURS
    colours = np.array([[[0, 0, 0], [1, 2, 3], [1, 2, 3]], [[0, 0, 0]] * 3], np.uint8)
    for image_id in "abc":
        data.add(f"masks/{image_id}.png", encoded(colours))
    assert data.mistakes()[0] == (
        "masks/b.png: colour [1, 2, 3] (2 pixels) of no class in coding.classes and not void"
    )


def test_all_mistakes_are_told_at_once(data):
    data.remove("masks/a.png")
    data.add("images/b.jpg", b"")
    data.add("masks/b.png", b"none")
    data.add("masks/c.png", encoded(MASK + 1))
    assert [line.split(":")[0] for line in data.mistakes()] == [
        "images/a.jpg",
        "images/b.jpg",
        "masks/b.png",
        "masks/c.png",
    ]


def test_of_very_many_mistakes_the_first_of_names_and_of_contents_are_told(data):
    data.section["splits"] = FRACTION
    for number in range(30):
        data.add(f"images/{number:02d}.jpg", picture())
    data.add("images/b.jpg", b"")
    mistakes = data.mistakes()
    assert len(mistakes) == 22
    assert mistakes[20:] == ["and 10 more names", "images/b.jpg: is empty, 0 bytes"]


def test_an_id_that_no_file_could_be_called_by_is_told(data):
    data.section["splits"] = FRACTION
    name = "/".join(["ä" * 50] * 2)  # 202 bytes with what joins folder and name
    data.add(f"images/{name}.jpg", picture())
    data.add(f"masks/{name}.png", encoded(MASK))
    assert data.mistakes()[-1].endswith("has 202 bytes, at most 200 are taken; shorten names")


def test_names_that_never_meet_are_told_first(data):
    for image_id in "abc":
        (data.folder / f"masks/{image_id}.png").rename(data.folder / f"masks/{image_id}_x.png")
    assert data.mistakes()[0] == "no image has a label map; image_suffix is '', label_suffix ''"


def test_a_name_without_the_suffix_is_told(data):
    data.section["label_suffix"] = "_mask"
    assert "masks/a.png: name does not end in label_suffix '_mask'" in data.mistakes()


def test_ids_that_would_be_equal_are_told(data):
    data.section["splits"] = FRACTION
    for name in ("x/d", "x--d"):
        data.add(f"images/{name}.jpg", picture())
        data.add(f"masks/{name}.png", encoded(MASK))
    assert data.mistakes()[-1] == "images/x/d.jpg: would have the id x--d of images/x--d.jpg"


def test_a_split_that_is_all_void_is_told(data):
    data.section["coding"] = BINARY | {"void": 7}
    data.add("masks/c.png", encoded(np.full((2, 3), 7, np.uint8)))
    assert data.mistakes() == ["val: all pixels of all 1 label maps are void"]


def test_a_fraction_that_leaves_val_empty_is_told(data):
    data.section["splits"] = FRACTION | {"val": 0.001}
    assert data.mistakes() == [
        "val: would have no image; splits.val is 0.001: with so few images take another seed, or "
        "lists"
    ]


def test_folders_without_any_file_are_told(data):
    for path in list(data.folder.rglob("*.*")):
        path.unlink()
    data.section["splits"] = FRACTION
    assert data.mistakes() == ["images: holds no images"]


def test_a_name_that_is_not_utf_8_is_told(data):
    data.add(os.fsdecode(b"images/\xe4/d.jpg"), picture())
    (mistake,) = data.mistakes()
    assert mistake.endswith(r"\xe4/d.jpg': name is not UTF-8, or has control characters")


def test_a_link_to_a_folder_is_told(data):
    (data.folder / "elsewhere").mkdir()
    (data.folder / "images/linked").symlink_to(data.folder / "elsewhere")
    assert data.mistakes() == ["images/linked: is a link to a folder, which DVC does not watch"]


def test_a_folder_that_is_missing_is_an_error_that_names_it(data):
    section = Custom.model_validate(data.section)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        custom_files.find(section, data.folder / "nowhere", data.folder / "masks")


@settings(deadline=None, database=None, derandomize=True, max_examples=300)
@given(
    content=st.sampled_from([picture(turn=6), picture(kind="PNG", turn=8), encoded(MASK)]),
    place=st.integers(0, 10_000),
    value=st.integers(0, 255),
    cut=st.none() | st.integers(0, 10_000),
)
def test_no_damaged_file_ends_in_another_error(content, place, value, cut):
    damaged = bytearray(content)
    damaged[place % len(damaged)] = value
    for read in (custom_pixels.image_size, custom_pixels.label_values, _packed):
        mistakes = []
        custom._told(
            mistakes, _InMemory(bytes(damaged[:cut])), lambda c, r=read: r(SECTION_MODEL, c)
        )
        assert len(mistakes) <= 1


def _packed(section, content):
    return custom_pixels.packed(section, content, 3, 2)


class _InMemory:
    def __init__(self, content):
        self.content = content

    def read_bytes(self):
        return self.content


# The section


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["images"], "~/images", "custom.mine.images: must be a path without ~"),
        (["images"], "a$(rm)", "custom.mine.images: must be a path without ~"),
        (["labels"], "images/", "custom.mine: images and labels are one folder, images; use two"),
        (["orientation"], "up", "custom.mine.orientation: Input should be 'displayed' or 'stored'"),
        (["coding", "kind"], "x", "custom.mine.coding: Input tag 'x' found using 'kind' does not"),
        (["coding", "void"], 256, "custom.mine.coding.void: Input should be less than or equal to"),
        (["coding", "void"], 0, "custom.mine.coding: value 0 is of a class and of void"),
        (
            ["coding", "classes", 1, "value"],
            0,
            "custom.mine.coding: value 0 is of two classes",
        ),
        (
            ["coding", "classes", 1, "name"],
            "ground",
            "custom.mine.coding: name ground is of two classes",
        ),
        (
            ["coding", "classes", 1, "colour"],
            [0, 0],
            "custom.mine.coding.classes.1.colour: List should have at least 3 items",
        ),
        (["coding", "classes"], [], "custom.mine.coding.classes: List should have at least 2"),
        (["splits"], FRACTION | {"val": 1.0}, "custom.mine.splits.val: Input should be less than"),
        (["splits", "seed"], 0, "custom.mine.splits.seed: Extra inputs are not permitted (found 0"),
        (["splits"], {"kind": "lists"}, "custom.mine.splits.train: Field required"),
        (
            ["splits", "train"],
            "../train.txt",
            "custom.mine.splits.train: must be a path within the folder of label maps, which DVC",
        ),
    ],
)
def test_a_mistake_in_the_section_is_named_by_its_place(tmp_path, place, value, message):
    document = json.loads(json.dumps({"custom": {"mine": SECTION}}))
    section = document["custom"]["mine"]
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="custom") as error:
        params.load(path, "custom.mine", Custom)
    assert str(error.value).splitlines()[0].startswith(f"{path}: {message}")
