"""The neighbourhood of the paper's figure 2, and the order of its channels."""

import numpy as np
import pytest
from neighbourhood import pair_ends, pair_offsets


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
