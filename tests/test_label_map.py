import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from pipeline import label_map
from pipeline.classes import Classes
from pipeline.voc import CLASSES

LABEL = np.array([[0, 8, 255], [15, 20, 8]], np.uint8)
# Two classes and void in the values 0, 1 and 9.
FEW = Classes(("ground", "thing"), ((0, 0, 0), (10, 20, 30)), 9)
label_maps = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=8))


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


@given(label=label_maps)
def test_decoding_undoes_encoding(label):
    assert np.array_equal(label_map.decode(label_map.encode(label, CLASSES)), label)


def test_a_label_map_is_a_palette_png_in_vocs_colours():
    with Image.open(io.BytesIO(label_map.encode(LABEL, CLASSES))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "P", (3, 2))
        colours = np.array(image.convert("RGB"))
    assert colours[0].tolist() == [[0, 0, 0], [64, 0, 0], [224, 224, 192]]
    assert colours[1].tolist() == [[192, 128, 128], [0, 64, 128], [64, 0, 0]]


def test_the_same_label_map_gives_the_same_bytes():
    assert label_map.encode(LABEL, CLASSES) == label_map.encode(LABEL.copy(), CLASSES)


def test_a_grey_png_is_decoded_to_its_values():
    assert np.array_equal(label_map.decode(encoded(Image.fromarray(LABEL))), LABEL)


def test_a_palette_of_few_colours_is_decoded_to_indices():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode="P")
    image.putpalette([9, 9, 9, 200, 0, 0])
    content = encoded(image)
    assert content[24] == 1  # bits a pixel
    assert label_map.decode(content).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16", "LA"])
def test_an_image_of_another_mode_is_an_error(mode):
    with pytest.raises(ValueError, match=f"label map has mode {mode}, not 8-bit palette or grey"):
        label_map.decode(encoded(Image.new(mode, (3, 2))))


def test_what_is_no_image_is_an_error_without_an_address_in_memory():
    with pytest.raises(ValueError, match=r"^label map is not an image$"):
        label_map.decode(b"no image")


def test_an_image_cut_short_is_an_error():
    with pytest.raises(ValueError, match="label map is not a readable image: "):
        label_map.decode(label_map.encode(LABEL, CLASSES)[:-30])


def test_a_header_that_promises_a_gigantic_image_is_an_error():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 3, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    with pytest.raises(ValueError, match=r"not a readable image: Image size .* exceeds limit"):
        label_map.decode(content)


@settings(deadline=None, database=None, derandomize=True)
@given(
    place=st.integers(0, 200),
    value=st.integers(0, 255),
    cut=st.none() | st.integers(0, len(label_map.encode(LABEL, CLASSES))),
)
def test_no_damaged_image_ends_in_another_error(place, value, cut):
    content = bytearray(label_map.encode(LABEL, CLASSES))
    content[place % len(content)] = value
    try:
        label_map.decode(bytes(content[:cut]))
    except ValueError as error:
        assert "label map" in str(error)  # noqa: PT017


def test_colours_are_painted_pixel_by_pixel():
    painted = label_map.colourise(np.array([[0, 1, 9, 5]], np.uint8), FEW)
    assert painted.tolist() == [[[0, 0, 0], [10, 20, 30], [224, 224, 192], [0, 0, 0]]]


def test_values_that_are_neither_class_nor_void_are_illegal():
    label = np.array([[0, 1, 2], [9, 255, 2]], np.uint8)
    assert label_map.illegal_counts(_counts(label), FEW) == [2, 255]
    assert label_map.illegal_counts(_counts(LABEL), CLASSES) == []


@given(label=label_maps)
def test_illegal_values_are_those_a_loop_finds(label):
    found = sorted({int(v) for v in label.flat if v not in (0, 1, 9)})
    assert label_map.illegal_counts(_counts(label), FEW) == found


def _counts(label):
    return np.bincount(label.ravel(), minlength=256)


def test_classes_survive_json():
    assert Classes.from_json(CLASSES.to_json()) == CLASSES


@pytest.mark.parametrize(
    ("names", "num_colours", "ignore_index", "message"),
    [
        ((), 0, 255, "class names must be distinct and at least one"),
        (("a", "a"), 2, 255, "class names must be distinct and at least one"),
        (("a", "b"), 1, 255, "2 classes but 1 colours"),
        (("a", "b"), 2, 1, r"ignore_index 1 is not above the classes, 2\.\.255"),
        (("a", "b"), 2, 256, r"ignore_index 256 is not above the classes, 2\.\.255"),
    ],
)
def test_a_table_of_classes_that_contradicts_itself_is_an_error(
    names, num_colours, ignore_index, message
):
    with pytest.raises(ValueError, match=message):
        Classes(names, ((0, 0, 0),) * num_colours, ignore_index)
