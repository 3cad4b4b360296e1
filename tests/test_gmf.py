"""GMFEven and GMFOdd: mu_i <- (I + S_i C)^-1 (r_i + C m_i) on the even or odd columns."""

from functools import partial

import numpy as np
import pytest
from agreement import assert_agreement
from layer_runner import CaffeLayer
from numeric import central_differences, relative_error

from python_layers import gmf
from python_layers.neighbourhood import pair_offsets

SIZES = [(1, 2, 1, 1), (2, 3, 4, 4), (1, 2, 3, 5), (1, 1, 3, 4), (1, 2, 1, 6), (1, 2, 6, 1)]
BOTTOMS = ("mu", "r", "s", "C")


def random_bottoms(shape, window, seed=0):
    """Return mu, r, s and a C that is not symmetric (its symmetric part is what counts)."""
    rng = np.random.default_rng(seed)
    num_images, num_classes, height, width = shape
    R, skew = rng.normal(size=(2, num_classes, num_classes))
    s = rng.random((num_images, len(pair_offsets(window)), height, width))
    return *rng.normal(size=(2, *shape)), s, R @ R.T + skew - skew.T


def test_two_by_two_image_worked_by_hand():
    mu = np.array([[0.0, 1.0], [2.0, 4.0]]).reshape(1, 1, 2, 2)
    r = np.array([[3.0, 0.0], [1.0, 0.0]]).reshape(1, 1, 2, 2)
    s = np.zeros((1, 2, 2, 2))
    s[0, 0, 0, 1] = 0.5  # upper right - lower left
    s[0, 1, 0, 0] = 1.0  # upper left - lower right
    C = np.array([[2.0]])
    even = gmf.forward(mu, r, s, C, window=3, parity=0)
    # (1 + 1 * 2)^-1 (3 + 2 * 1 * 4) = 11 / 3 and (1 + 0.5 * 2)^-1 (1 + 2 * 0.5 * 1) = 1
    np.testing.assert_allclose(even[0, 0], [[11 / 3, 1], [1, 4]], rtol=1e-15)
    odd = gmf.forward(mu, r, s, C, window=3, parity=1)
    # (1 + 0.5 * 2)^-1 (0 + 2 * 0.5 * 2) = 1 and (1 + 1 * 2)^-1 (0 + 2 * 1 * 0) = 0
    np.testing.assert_allclose(odd[0, 0], [[0, 1], [2, 0]], rtol=1e-15)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("parity", [0, 1])
def test_gradient(shape, window, parity):
    arrays = random_bottoms(shape, window)
    g = np.random.default_rng(1).normal(size=shape)
    gradients = gmf.backward(*arrays, g, window=window, parity=parity)
    for index, name in enumerate(BOTTOMS):
        numeric = central_differences(
            lambda *arrays: (gmf.forward(*arrays, window=window, parity=parity) * g).sum(),
            arrays,
            index,
        )
        assert relative_error(gradients[index], numeric) < 1e-7, name


def test_pairs_outside_the_image_are_ignored_and_get_no_gradient():
    mu, r, s, C = random_bottoms((1, 2, 3, 3), window=7)
    inside = gmf.backward(mu, r, np.ones_like(s), C, np.ones_like(mu), window=7, parity=0)[2] != 0
    assert inside.any()
    assert not inside.all()
    changed = np.where(inside, s, 1e6)
    before, after = (gmf.forward(mu, r, x, C, window=7, parity=0) for x in (s, changed))
    assert np.array_equal(before, after)


def test_only_the_symmetric_part_of_c_counts():
    mu, r, s, C = random_bottoms((1, 3, 4, 4), window=3)
    g = np.ones_like(mu)
    for x, y in zip(
        gmf.backward(mu, r, s, C, g, window=3, parity=0),
        gmf.backward(mu, r, s, (C + C.T) / 2, g, window=3, parity=0),
        strict=True,
    ):
        assert relative_error(x, y) < 1e-14


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_is_kept(dtype):
    arrays = [array.astype(dtype) for array in random_bottoms((1, 2, 3, 3), 3)]
    result = gmf.forward(*arrays, window=3, parity=0)
    assert result.dtype == dtype
    assert {x.dtype for x in gmf.backward(*arrays, result, window=3, parity=0)} == {np.dtype(dtype)}


def test_an_indefinite_c_is_rejected():
    mu, r, s, _ = random_bottoms((1, 2, 3, 3), 3)
    with pytest.raises(ValueError, match="C has the eigenvalue -1, expected a positive semidef"):
        gmf.forward(mu, r, s, np.diag([1.0, -1.0]), window=3, parity=0)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("mu", (3, 3), r"mu has shape \(3, 3\), expected \(N, K, H, W\)"),
        ("r", (1, 2, 3, 4), r"r has shape \(1, 2, 3, 4\), expected \(1, 2, 3, 3\)"),
        ("s", (1, 8, 3, 3), r"s has shape \(1, 8, 3, 3\), expected \(1, 2, 3, 3\); .* window 3"),
        ("C", (3, 3), r"C has shape \(3, 3\), expected \(2, 2\)"),
    ],
)
def test_wrong_shapes_are_rejected(name, shape, message):
    arrays = dict(zip(BOTTOMS, random_bottoms((1, 2, 3, 3), 3), strict=True))
    arrays[name] = np.ones(shape)
    with pytest.raises(ValueError, match=message):
        gmf.forward(**arrays, window=3, parity=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", [3, 7, 9, 23])
@pytest.mark.parametrize("parity", [0, 1])
def test_caffe_agrees_at_every_size(dtype, window, parity):
    name = ("GMFEven", "GMFOdd")[parity]
    text = f'type: "{name}" gmf_param {{ window: {window} }}'
    layer = CaffeLayer(text, dtype, num_bottoms=4)
    twin = [partial(f, window=window, parity=parity) for f in (gmf.forward, gmf.backward)]
    for shape in [*SIZES, (1, 21, 30, 31), (2, 5, 13, 40)]:
        assert_agreement(layer, random_bottoms(shape, window), *twin)
