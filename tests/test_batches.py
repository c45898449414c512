import os
import threading

import numpy as np
import pytest
import synthetic
import torch
from synthetic import CLASSES, VOID

from pipeline import splits
from pipeline.data import batches
from pipeline.splits import Split

OPTIONS = {
    "positions": range(3),
    "iterations": range(5),
    "seed": 0,
    "batch_size": 3,
    "crop_size": 17,
    "scales": [0.5, 1.0, 2.0],
    "flip_probability": 0.5,
}


def training_batches(split, **changes):
    return batches.training_batches(split, **(OPTIONS | changes))


def ids(stream):
    return [image_id for batch in stream for image_id in batch.image_ids]


def assert_equal(ours, theirs):
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.image_ids == other.image_ids
        for name in ("boxes", "labels", "images"):
            assert torch.equal(getattr(one, name), getattr(other, name))


def split_of(folder, encoded_images, height, width):
    """A split of images that are not looked at when it is written."""
    label = synthetic.png(np.zeros((height, width), np.uint8))
    samples = [
        splits.checked_sample(f"image_{number}", image, label, CLASSES, "synthetic")
        for number, image in enumerate(encoded_images)
    ]
    splits.write(folder / "made.arrow", samples, CLASSES)
    return Split(folder / "made.arrow")


@pytest.fixture
def damaged(tmp_path):
    """Six images, the fourth of which lacks its last bytes."""
    good = synthetic.jpeg(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    encoded = [good, good, good, good[:-20], good, good]
    return split_of(tmp_path, encoded, 20, 20)


# Order and draws


def test_batches_do_not_depend_on_the_number_of_threads(split, monkeypatch):
    expected = list(training_batches(split))
    for num_threads in (1, 7):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=num_threads: set(range(n)))
        assert_equal(training_batches(split), expected)


def test_a_resumed_training_sees_the_batches_of_one_that_was_not_interrupted(split):
    whole = list(training_batches(split, iterations=range(5)))
    assert_equal(training_batches(split, iterations=range(3, 5)), whole[3:])


def test_each_image_occurs_once_before_any_occurs_again(split):
    seen = ids(training_batches(split, iterations=range(8)))  # 24 places, 6 passes over 4 images
    passes = [seen[start : start + 4] for start in range(0, 24, 4)]
    assert all(sorted(pass_) == split.image_ids for pass_ in passes)
    assert len({tuple(pass_) for pass_ in passes}) > 1


def test_a_seed_sets_order_and_augmentation(split):
    assert_equal(training_batches(split, seed=7), training_batches(split, seed=7))
    assert ids(training_batches(split, seed=7)) != ids(training_batches(split, seed=8))


def test_every_pass_is_a_permutation_of_its_own():
    passes = [[batches.sample_index(3, 50 * p + i, 50) for i in range(50)] for p in range(4)]
    assert all(sorted(pass_) == list(range(50)) for pass_ in passes)
    assert len({tuple(pass_) for pass_ in passes}) == 4


def test_an_image_is_drawn_anew_at_every_place_and_for_every_seed(tmp_path):
    alone = Split(synthetic.write_split(tmp_path / "one.arrow", [(64, 64)]))
    drawn = list(training_batches(alone, iterations=range(4)))
    assert ids(drawn) == ["image_0"] * 12
    views = {image.numpy().tobytes() for batch in drawn for image in batch.images}
    assert len(views) == 12
    others = {
        i.numpy().tobytes() for batch in training_batches(alone, seed=1) for i in batch.images
    }
    assert len(views & others) == 0


# Training


def test_training_batches_are_bytes_and_class_numbers(split):
    batch = next(training_batches(split))
    assert (batch.images.shape, batch.images.dtype) == ((3, 17, 17, 3), torch.uint8)
    assert (batch.labels.shape, batch.labels.dtype) == ((3, 17, 17), torch.uint8)
    assert (batch.boxes.shape, batch.boxes.dtype) == ((3, 4), torch.int64)
    assert set(batch.labels.unique().tolist()) <= {0, 1, 2, VOID}


def test_a_box_holds_all_that_is_not_padding(tmp_path):
    image = synthetic.png(np.zeros((9, 14, 3), np.uint8))
    without_void = split_of(tmp_path, [image], 9, 14)
    for batch in training_batches(without_void):
        for label, (top, left, bottom, right) in zip(batch.labels, batch.boxes, strict=True):
            inside = torch.zeros_like(label, dtype=torch.bool)
            inside[top:bottom, left:right] = True
            assert torch.equal(inside, label != VOID)


def test_no_iteration_gives_no_batch(split):
    assert list(training_batches(split, iterations=range(0))) == []
    assert list(training_batches(split, iterations=range(5, 5))) == []


def test_batches_are_made_as_they_are_asked_for(split):
    stream = training_batches(split, iterations=range(10**12))
    assert len(next(stream).image_ids) == 3
    stream.close()


def test_closing_the_stream_early_leaves_no_thread(split):
    before = threading.active_count()
    stream = training_batches(split, iterations=range(10**6))
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


def test_a_damaged_image_is_named_in_training(damaged):
    before = threading.active_count()
    with pytest.raises(ValueError, match="synthetic: image_3: image does not decode to 20x20"):
        list(training_batches(damaged))
    assert threading.active_count() == before


# Inference


def test_inference_gives_every_image_once_in_order_and_a_smaller_last_batch(split):
    stream = list(
        batches.inference_batches(
            split, indices=range(len(split)), height=50, width=61, batch_size=3
        )
    )
    assert [batch.image_ids for batch in stream] == [split.image_ids[:3], split.image_ids[3:]]
    assert [len(batch.images) for batch in stream] == [3, 1]


def test_inference_pads_at_the_bottom_and_the_right(split):
    (batch,) = batches.inference_batches(
        split, indices=range(len(split)), height=50, width=61, batch_size=4
    )
    assert batch.boxes.tolist() == [[0, 0, 33, 33], [0, 0, 21, 30], [0, 0, 40, 25], [0, 0, 50, 61]]


def test_inference_leaves_pixels_as_they_are(split):
    random = np.random.default_rng(0)
    (batch,) = batches.inference_batches(
        split, indices=range(len(split)), height=65, width=65, batch_size=4
    )
    for number, (_, _, bottom, right) in enumerate(batch.boxes.tolist()):
        image, _ = synthetic.scene(random, bottom, right)
        assert np.array_equal(batch.images[number, :bottom, :right], image)


@pytest.mark.parametrize(("height", "width"), [(49, 61), (50, 60)])
def test_an_image_larger_than_the_nominal_size_is_named(split, height, width):
    message = (
        "synthetic: image_3: image of 50x61 pixels is larger than the nominal size "
        f"{height}x{width}: raise height and width of"
    )
    with pytest.raises(ValueError, match=message):
        list(
            batches.inference_batches(
                split, indices=range(len(split)), height=height, width=width, batch_size=2
            )
        )


def test_a_damaged_image_is_named_in_inference_after_the_good_ones(damaged):
    stream = batches.inference_batches(
        damaged, indices=range(len(damaged)), height=33, width=33, batch_size=3
    )
    assert next(stream).image_ids == ["image_0", "image_1", "image_2"]
    with pytest.raises(ValueError, match="synthetic: image_3: image does not decode to 20x20"):
        next(stream)
