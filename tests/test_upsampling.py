import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pipeline.inference import upsampling


def plain(logits, height, width):
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=True).argmax(1)


def regions(seed, num_classes, height, width, noise):
    """Logits of a few blocks of classes."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.randn(2, num_classes, 3, 3, generator=generator) * 5
    blocks = F.interpolate(small, (height, width), mode="nearest")
    return blocks + noise * torch.randn(blocks.shape, generator=generator)


@given(
    seed=st.integers(0, 999),
    num_classes=st.sampled_from([1, 2, 3, 21]),
    size=st.tuples(st.integers(2, 10), st.integers(2, 10)),
    factor=st.sampled_from([1, 2, 4, 8, 16]),
    noise=st.sampled_from([0.0, 0.3, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_labels_are_those_of_upsampling_and_argmax(seed, num_classes, size, factor, noise):
    logits = regions(seed, num_classes, *size, noise)
    height, width = ((side - 1) * factor + 1 for side in size)
    found = upsampling.labels(logits, height, width)
    assert found.dtype == torch.uint8
    assert (found != plain(logits, height, width)).sum() <= 1  # a tie may fall either way


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_a_label_map_of_vocs_size_is_the_same_to_the_pixel(noise):
    logits = regions(0, 21, 129, 129, noise)
    assert torch.equal(upsampling.labels(logits, 513, 513), plain(logits, 513, 513).to(torch.uint8))


def test_mixed_cells_alone_are_upsampled(monkeypatch):
    logits = torch.zeros(1, 2, 5, 5)
    logits[0, 1, :, 3:] = 1.0
    logits[0, 0, :, :3] = 2.0
    seen = []
    mixed = upsampling._mixed
    monkeypatch.setattr(
        upsampling, "_mixed", lambda x, rows, *more: seen.append(rows) or mixed(x, rows, *more)
    )
    found = upsampling.labels(logits, 17, 17)[0]
    # Between columns 2 and 3 class 0 falls from 2 to 0 and class 1 rises from 0 to 1.
    assert [rows.tolist() for rows in seen] == [[0, 1, 2, 3]]
    assert found[0].tolist() == [0] * 11 + [1] * 6
    assert (found == found[0]).all()


@pytest.mark.parametrize("size", [(17, 18), (18, 17), (5, 5), (3, 3)])
def test_sizes_that_are_no_multiple_are_upsampled_whole(size):
    logits = regions(1, 4, 5, 5, 0.5)
    assert torch.equal(upsampling.labels(logits, *size), plain(logits, *size).to(torch.uint8))


def test_a_single_logit_fills_the_label_map():
    logits = torch.tensor([0.0, 2.0, 1.0])[None, :, None, None]
    assert upsampling.labels(logits, 4, 6).tolist() == np.ones((1, 4, 6), int).tolist()


def test_of_equal_scores_the_first_is_taken():
    assert upsampling.likeliest(torch.ones(1, 3, 2, 2)).tolist() == [[[0, 0], [0, 0]]]
    assert upsampling.labels(torch.ones(1, 3, 3, 3), 9, 9).max() == 0
