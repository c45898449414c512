import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from pipeline import pixels

COLOURS = cv2.resize(  # smooth, so that JPEG keeps it
    np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8), (40, 30)
)
small_images = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=6)) | arrays(
    np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))
)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(mode="RGB"):
    return Image.fromarray(COLOURS).convert(mode)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # by a quarter, to see it upright
    return encoded(picture(), "JPEG", exif=exif)


KINDS = {
    "JPEG": encoded(picture(), "JPEG"),
    "progressive JPEG": encoded(picture(), "JPEG", progressive=True),
    "grey JPEG": encoded(picture("L"), "JPEG"),
    "CMYK JPEG": encoded(picture("CMYK"), "JPEG"),
    "turned JPEG": turned(),
    "two pictures": encoded(picture(), "MPO", save_all=True, append_images=[picture("L")]),
    "PNG": encoded(picture(), "PNG"),
    "palette PNG": encoded(picture("P"), "PNG"),
    "PNG with alpha": encoded(picture("RGBA"), "PNG"),
    "two-level PNG": encoded(picture("1"), "PNG"),
    "16-bit PNG": cv2.imencode(".png", COLOURS[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
    "16-bit grey PNG": encoded(Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 257), "PNG"),
    "raw": pixels.raw(COLOURS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_the_header_is_that_of_the_decoded_pixels(kind):
    assert pixels.size(KINDS[kind]) == (30, 40)
    assert pixels.decode(KINDS[kind]).shape == (30, 40, 3)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"16-bit grey PNG"}))
def test_pixels_are_what_pillow_decodes(kind):
    with Image.open(io.BytesIO(KINDS[kind])) as image:
        expected = np.array(image.convert("RGB")).astype(int)
    assert np.abs(pixels.decode(KINDS[kind]) - expected).max() <= 1  # CMYK is rounded otherwise


def test_of_sixteen_bits_the_upper_eight_are_kept():
    grey = COLOURS[..., 0]
    assert np.array_equal(pixels.decode(KINDS["16-bit grey PNG"]), np.dstack([grey] * 3))


@given(image=small_images)
def test_raw_pixels_are_seen_where_they_are(image):
    content = pixels.raw(image)
    seen = pixels.view(memoryview(content))
    assert np.array_equal(seen, image)
    assert np.shares_memory(seen, np.frombuffer(content, np.uint8))
    assert pixels.size(content) == image.shape[:2]


@given(image=small_images)
def test_pillow_and_opencv_read_raw_pixels(image):
    content = pixels.raw(image)
    with Image.open(io.BytesIO(content)) as opened:
        assert np.array_equal(np.array(opened), image)
    read = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read, image[..., ::-1] if image.ndim == 3 else image)


def test_what_is_not_raw_has_no_view():
    assert pixels.view(KINDS["PNG"]) is None
    assert pixels.view(b"") is None
    assert pixels.view(b"P6\n# a comment\n1 1\n255\n...") is None


@pytest.mark.parametrize("change", [-1, 1])
def test_raw_pixels_of_another_number_are_an_error(change):
    content = (KINDS["raw"] + b"\0")[: len(KINDS["raw"]) + change]
    with pytest.raises(ValueError, match=rf"damaged: {3600 + change} bytes, expected 3600"):
        pixels.decode(content)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_an_error(content):
    with pytest.raises(ValueError, match=r"not an image|not a readable image"):
        pixels.size(content)
    with pytest.raises(ValueError, match="not an image"):
        pixels.decode(content)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_another_format_is_an_error_at_the_door(kind):
    with pytest.raises(ValueError, match="not an image, or neither JPEG nor PNG"):
        pixels.size(encoded(picture(), kind))


def png_start(height, width):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    packed = [
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("side", [9460, 20000, 2**31 - 1])
def test_an_absurd_size_is_an_error(side):
    with pytest.raises(ValueError, match="more pixels than the limit of 89478485"):
        pixels.size(png_start(side, side))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_no_damaged_image_ends_in_another_error(data):
    changed = bytearray(KINDS[data.draw(st.sampled_from(sorted(KINDS)))])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(changed[: data.draw(st.integers(0, len(changed)))])
    for read in (pixels.size, pixels.decode):
        try:
            read(content)
        except ValueError as error:
            assert "image" in str(error) or "raw pixels" in str(error)  # noqa: PT017
