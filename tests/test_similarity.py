"""Similarity: s_ij = exp(-||p_i - p_j||^2)."""

from functools import partial

import numpy as np
import pytest
from agreement import assert_agreement
from layer_runner import CaffeLayer
from numeric import central_differences, relative_error

from python_layers import similarity

SIZES = [(1, 2, 1, 1), (2, 3, 5, 4), (1, 1, 4, 5), (2, 2, 1, 6), (1, 2, 6, 1), (1, 3, 2, 9)]


def test_two_by_two_image_worked_by_hand():
    p = np.array([[0.0, 1.0], [1.0, 3.0]]).reshape(1, 1, 2, 2)
    s = similarity.forward(p, window=3)
    # Channel 0 is (1, -1): from the upper right pixel to the lower left one, 1 - 1.
    # Channel 1 is (1, +1): from the upper left pixel to the lower right one, 0 - 3.
    expected = [[[0, 1], [0, 0]], [[np.exp(-9), 0], [0, 0]]]
    np.testing.assert_allclose(s[0], expected, rtol=1e-15)


def test_one_column_has_no_pairs():
    p = np.ones((1, 2, 9, 1))
    assert not similarity.forward(p, window=7).any()
    assert not similarity.backward(p, np.ones((1, 8, 9, 1)), window=7).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_is_kept(dtype):
    p = np.ones((1, 2, 3, 3), dtype)
    s = similarity.forward(p, window=3)
    assert s.dtype == dtype
    assert similarity.backward(p, s, window=3).dtype == dtype


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("window", [3, 7])
def test_gradient(shape, window):
    rng = np.random.default_rng(0)
    p = rng.normal(0, 0.5, shape)
    s_diff = rng.normal(size=similarity.similarity_shape(shape, window))
    numeric = central_differences(
        lambda p: (similarity.forward(p, window=window) * s_diff).sum(), [p], 0
    )
    assert relative_error(similarity.backward(p, s_diff, window=window), numeric) < 1e-8


def test_wrong_shape_is_rejected():
    with pytest.raises(ValueError, match=r"features have shape \(3, 4\), expected \(N, M, H, W\)"):
        similarity.forward(np.ones((3, 4)), window=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", [3, 7, 9, 23])
def test_caffe_agrees_at_every_size(dtype, window):
    layer = CaffeLayer(f'type: "Similarity" similarity_param {{ window: {window} }}', dtype)
    twin = [
        partial(function, window=window) for function in (similarity.forward, similarity.backward)
    ]
    for shape in [*SIZES, (1, 21, 30, 31), (2, 5, 13, 40)]:
        p = np.random.default_rng(0).normal(0, 0.3, shape)
        assert_agreement(layer, [p], *twin)
