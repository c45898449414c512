import dataclasses

import numpy as np
import pytest
import synthetic
import torch
from PIL import Image

from pipeline import splits
from pipeline.data.images import decode_image, decode_label, normalise

RED, GREEN, BLUE = (200, 0, 0), (0, 100, 0), (0, 0, 50)


def sample(image, height, width):
    label = synthetic.png(np.zeros((height, width), np.uint8))
    return splits.checked_sample("a_cat", image, label, synthetic.CLASSES, "synthetic")


def normalised(pixels, boxes, mean, std):
    return normalise(torch.tensor(pixels, dtype=torch.uint8), torch.tensor(boxes), mean, std)


def test_pixels_are_red_green_and_blue_in_this_order():
    pixels = np.array([[RED, GREEN, BLUE]], np.uint8)
    packed = sample(synthetic.png(pixels), 1, 3)
    image, label = decode_image(packed), decode_label(packed)
    assert image.tolist() == pixels.tolist()
    assert label.tolist() == [[0, 0, 0]]


def test_a_grey_image_has_three_equal_channels():
    grey = synthetic.png(np.array([[7, 8]], np.uint8))
    assert decode_image(sample(grey, 1, 2)).tolist() == [[[7] * 3, [8] * 3]]


def test_an_image_is_decoded_as_stored_whatever_its_orientation_tag_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to see it upright
    dark_left = np.zeros((8, 16, 3), np.uint8)
    dark_left[:, 8:] = 255
    image = decode_image(sample(synthetic.jpeg(dark_left, exif=exif), 8, 16))
    assert image.shape == (8, 16, 3)
    assert np.abs(image.astype(int) - dark_left).max() < 10


@pytest.mark.parametrize("encode", [synthetic.jpeg, synthetic.png])
def test_an_image_that_was_cut_short_is_named(encode):
    encoded = encode(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for length in (len(encoded) // 2, len(encoded) - 20):
        damaged = sample(encoded[:length], 40, 60)
        with pytest.raises(
            ValueError, match="synthetic: a_cat: image does not decode to 40x60 pix"
        ):
            decode_image(damaged)


def test_an_image_of_another_size_than_its_header_gave_is_named():
    good = sample(synthetic.png(np.zeros((4, 5, 3), np.uint8)), 4, 5)
    with pytest.raises(ValueError, match="a_cat: image does not decode to 5x4 pixels"):
        decode_image(dataclasses.replace(good, height=5, width=4))


def test_pixels_are_normalised_by_the_mean_and_divisor_of_their_channel():
    pixels = [[[[110, 50, 9], [90, 75, 0]]]]  # one image, one row, two columns
    images = normalised(pixels, [[0, 0, 1, 2]], [100.0, 50.0, 0.0], [50.0, 25.0, 10.0])
    expected = [[[[0.2, -0.2]], [[0.0, 1.0]], [[0.9, 0.0]]]]
    assert images.tolist() == [
        [[pytest.approx(row) for row in channel] for channel in image] for image in expected
    ]


@pytest.mark.parametrize("mean", [[127.5] * 3, [123.675, 116.28, 103.53]])
def test_padding_is_exactly_zero_whatever_its_pixels(mean):
    pixels = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8)
    boxes = torch.tensor([[0, 0, 3, 6], [0, 4, 5, 6]])  # padded below; padded at the left
    images = normalise(pixels, boxes, mean, [58.395, 57.12, 57.375])
    assert not images[0, :, 3:].any()
    assert not images[1, :, :, :4].any()
    assert images[0, :, :3].all()
    assert images[1, :, :, 4:].all()


def test_images_are_normalised_to_float32_channels_last():
    pixels = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8)
    before = pixels.clone()
    images = normalise(pixels, torch.tensor([[0, 0, 5, 6]] * 2), [1.5] * 3, [2.0] * 3)
    assert (images.shape, images.dtype) == ((2, 3, 5, 6), torch.float32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before)


def test_a_damaged_label_map_is_named():
    damaged = dataclasses.replace(
        sample(synthetic.png(np.zeros((1, 1, 3), np.uint8)), 1, 1), label=b"PNG"
    )
    with pytest.raises(ValueError, match="synthetic: a_cat: label map is not an image"):
        decode_label(damaged)
