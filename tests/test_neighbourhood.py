"""The neighbourhood of the paper's figure 2, and the order of its channels."""

import numpy as np
import pytest

from python_layers.neighbourhood import neighbours, pair_ends, pair_offsets, window_of


def test_window_7_has_8_channels_rows_outermost():
    assert pair_offsets(7) == [
        *[(1, -3), (1, -1), (1, 1), (1, 3)],
        *[(3, -3), (3, -1), (3, 1), (3, 3)],
    ]


@pytest.mark.parametrize(("window", "num_pairs"), [(3, 2), (5, 2), (7, 8), (9, 8), (23, 72)])
def test_number_of_pairs(window, num_pairs):
    assert len(pair_offsets(window)) == num_pairs


@pytest.mark.parametrize("window", [1, 0, -3, 4, 22, 7.5])
def test_other_windows_are_rejected(window):
    with pytest.raises(ValueError, match=rf"window is {window}, expected an odd number >= 3"):
        pair_offsets(window)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 4), (12, 13)])
@pytest.mark.parametrize("window", [3, 7, 9, 23])
def test_every_pair_with_odd_dy_and_dx_occurs_once(size, window):
    height, width = size
    pixels = np.arange(height * width).reshape(size)
    found = []
    for p, first, second in pair_ends(height, width, window):
        dy, dx = pair_offsets(window)[p]
        for i, j in zip(pixels[first].flat, pixels[second].flat, strict=True):
            assert (j // width - i // width, j % width - i % width) == (dy, dx)
            found.append((i, j))
    reach = window // 2
    expected = [
        (i, j)
        for i in pixels.flat
        for j in pixels.flat
        if (j // width - i // width) in range(1, reach + 1, 2)
        and abs(j % width - i % width) in range(1, reach + 1, 2)
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("window", [3, 5, 7, 9, 23, 25])
def test_a_window_is_known_by_its_pairs(window):
    offsets = pair_offsets(window)
    assert pair_offsets(window_of(len(offsets))) == offsets


@pytest.mark.parametrize("num_pairs", [0, 1, 7, 73])
def test_other_numbers_of_pairs_are_rejected(num_pairs):
    with pytest.raises(ValueError, match=f"{num_pairs} channels, expected 2 n"):
        window_of(num_pairs)


def test_neighbours_are_the_other_ends_of_a_pixel_s_pairs():
    height, width, window = 6, 5, 7
    s = np.random.default_rng(0).random((8, height, width))
    found = {pixel: set() for pixel in np.ndindex(height, width)}
    pixels = np.moveaxis(np.indices((height, width)), 0, -1)
    for p, first, second in pair_ends(height, width, window):
        ends = (pixels[end[1:]].reshape(-1, 2).tolist() for end in (first, second))
        for i, j, similarity in zip(*ends, s[p][first].flat, strict=True):
            found[tuple(i)].add((*j, similarity))
            found[tuple(j)].add((*i, similarity))
    for (y, x), expected in found.items():
        result = neighbours(s, y, x)
        assert len(result) == len(expected) and set(result) == expected
