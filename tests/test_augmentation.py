from collections import Counter

import numpy as np
import pytest
import torch
from synthetic import VOID
from torch.nn import functional as F

from pipeline.data.augmentation import View, draw_view, render

SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (13, 8), (24, 31), (47, 40)]


def random_pixels(random, height, width):
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, random.integers(0, 21, (height, width), dtype=np.uint8)


def nearest(length, scaled_length):
    """Index of the source pixel of each scaled one, corners aligned, in whole numbers."""
    steps, last = np.arange(scaled_length), max(scaled_length - 1, 1)
    return (2 * steps * (length - 1) + last) // (2 * last)  # floor(x + 0.5)


def render_slowly(image, label, view, crop_size):
    """Scale all, pad all with NaN and void, crop, flip: the steps as the paper lists them."""
    maps = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    scaled = F.interpolate(maps, (view.height, view.width), mode="bilinear", align_corners=True)
    rows, columns = nearest(len(label), view.height), nearest(label.shape[1], view.width)
    below, beside = max(crop_size - view.height, 0), max(crop_size - view.width, 0)
    pixels = np.pad(
        scaled[0].permute(1, 2, 0).numpy(),
        ((0, below), (0, beside), (0, 0)),
        constant_values=np.nan,
    )
    values = np.pad(label[rows][:, columns], ((0, below), (0, beside)), constant_values=VOID)
    crop = np.s_[view.top : view.top + crop_size, view.left : view.left + crop_size]
    step = -1 if view.flip else 1
    return pixels[crop][:, ::step], values[crop][:, ::step]


def draw(random, height, width, **changes):
    options = {"crop_size": 3, "scales": [1.0], "flip_probability": 0.5} | changes
    return draw_view(random, height=height, width=width, **options)


def views(scale, flip):
    """Random (image, label, view, crop_size), several for each size."""
    random = np.random.default_rng(0)
    for height, width in SIZES * 4:
        crop_size = int(random.integers(1, 50))
        view = draw(
            random,
            height,
            width,
            crop_size=crop_size,
            scales=[scale],
            flip_probability=1.0 if flip else 0.0,
        )
        yield *random_pixels(random, height, width), view, crop_size


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_a_view_is_what_scaling_all_padding_cropping_and_flipping_give(scale, flip):
    for image, label, view, crop_size in views(scale, flip):
        pixels, values, (top, left, bottom, right) = render(
            image, label, view, crop_size=crop_size, ignore_index=VOID
        )
        expected_pixels, expected_values = render_slowly(image, label, view, crop_size)
        is_padding = np.isnan(expected_pixels[:, :, 0])
        inside = np.zeros_like(is_padding)
        inside[top:bottom, left:right] = True
        assert np.array_equal(inside, ~is_padding)
        assert np.abs(pixels[inside] - expected_pixels[inside]).max() <= 0.51
        assert np.array_equal(values, expected_values)


def test_a_label_halfway_between_two_pixels_is_the_later_one():
    label = np.array([[7, 9]], np.uint8)  # at 0, 0.5 and 1
    _, values, _ = render(
        np.zeros((1, 2, 3), np.uint8),
        label,
        View(1, 3, 0, 0, False),
        crop_size=3,
        ignore_index=VOID,
    )
    assert values[0].tolist() == [7, 9, 9]


def test_a_view_of_the_image_itself_is_the_image():
    image, label = random_pixels(np.random.default_rng(0), 9, 9)
    pixels, values, box = render(
        image, label, View(9, 9, 0, 0, False), crop_size=9, ignore_index=VOID
    )
    assert np.array_equal(pixels, image)
    assert np.array_equal(values, label)
    assert box == (0, 0, 9, 9)


@pytest.mark.parametrize(
    ("flip", "expected", "expected_box"),
    [
        (False, [[2, 3, VOID], [5, 6, VOID], [VOID] * 3], (0, 0, 2, 2)),
        (True, [[VOID, 3, 2], [VOID, 6, 5], [VOID] * 3], (0, 1, 2, 3)),
    ],
)
def test_padding_is_void_at_the_bottom_and_the_right_and_mirrored_by_a_flip(
    flip, expected, expected_box
):
    label = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    _, values, box = render(
        np.zeros((2, 3, 3), np.uint8), label, View(2, 3, 0, 1, flip), crop_size=3, ignore_index=VOID
    )
    assert values.tolist() == expected
    assert box == expected_box


def test_a_flip_twice_is_nothing():
    for image, label, view, crop_size in views(1.25, False):
        mirrored_view = View(view.height, view.width, view.top, view.left, True)
        options = {"crop_size": crop_size, "ignore_index": VOID}
        pixels, values, box = render(image, label, view, **options)
        mirrored_pixels, mirrored_values, mirrored_box = render(
            image, label, mirrored_view, **options
        )
        inside = np.s_[box[0] : box[2], box[1] : box[3]]
        difference = pixels[inside].astype(int) - mirrored_pixels[:, ::-1][inside]
        assert np.abs(difference).max() <= 1
        assert np.array_equal(values, mirrored_values[:, ::-1])
        assert box == (
            mirrored_box[0],
            crop_size - mirrored_box[3],
            mirrored_box[2],
            crop_size - mirrored_box[1],
        )


def test_an_image_and_its_label_show_the_same_view():
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    for view in (View(8, 8, 1, 2, True), View(15, 15, 5, 6, False), View(15, 15, 5, 6, True)):
        pixels, label, _ = render(
            np.dstack([values] * 3), values, view, crop_size=5, ignore_index=VOID
        )
        # Between neighbours, at most half a step of 3 (right) and of 24 (down) away.
        assert np.abs(pixels[:, :, 0].astype(int) - label).max() <= 14


def test_every_scale_every_offset_and_both_directions_are_drawn():
    random = np.random.default_rng(0)
    drawn = [draw(random, 4, 5, scales=[1.0, 2.0], flip_probability=0.25) for _ in range(4000)]
    small = {(v.top, v.left) for v in drawn if (v.height, v.width) == (4, 5)}
    large = {(v.top, v.left) for v in drawn if (v.height, v.width) == (8, 10)}
    assert small == {(top, left) for top in range(2) for left in range(3)}
    assert large == {(top, left) for top in range(6) for left in range(8)}
    assert sum(v.flip for v in drawn) / 4000 == pytest.approx(0.25, abs=0.03)


def test_scales_and_offsets_are_drawn_equally_often():
    random = np.random.default_rng(0)
    drawn = [draw(random, 6, 3, scales=[1.0, 2.0, 3.0]) for _ in range(3000)]
    heights = Counter(v.height for v in drawn)
    tops = Counter(v.top for v in drawn if v.height == 6)
    assert heights == {6: pytest.approx(1000, abs=100), 12: heights[12], 18: heights[18]}
    assert heights[12] == pytest.approx(1000, abs=100)
    assert [tops[top] for top in range(4)] == pytest.approx([250] * 4, abs=60)


def test_a_view_is_a_function_of_its_generator():
    first, again, other = (
        [draw(np.random.default_rng((seed, i)), 9, 9) for i in range(20)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(("probability", "expected"), [(0.0, {False}), (1.0, {True})])
def test_a_flip_can_be_never_or_always(probability, expected):
    random = np.random.default_rng(0)
    drawn = {draw(random, 2, 2, flip_probability=probability).flip for _ in range(200)}
    assert drawn == expected


@pytest.mark.parametrize(("size", "scaled"), [((7, 5), (3, 2)), ((5, 7), (2, 3)), ((1, 1), (1, 1))])
def test_a_scaled_side_is_rounded_down_and_at_least_one_pixel(size, scaled):
    view = draw(np.random.default_rng(0), *size, scales=[0.5])
    assert (view.height, view.width) == scaled


def test_an_image_smaller_than_the_crop_is_shown_from_its_corner():
    random = np.random.default_rng(0)
    assert {(v.top, v.left) for v in (draw(random, 2, 3) for _ in range(50))} == {(0, 0)}
