"""MatrixGen: C = R R', R lower triangular."""

import numpy as np
import pytest
from agreement import TOLERANCE
from layer_runner import CaffeLayer
from numeric import central_differences, relative_error

from python_layers import matrix_gen


def test_two_classes_worked_by_hand():
    R = np.array([[1.0, 99.0], [2.0, 3.0]])  # the 99 is above the diagonal: read as 0
    assert np.array_equal(matrix_gen.forward(R), [[1, 2], [2, 13]])
    C_diff = np.array([[1.0, 0.0], [0.0, 0.0]])  # L = C_00 = R_00^2
    assert np.array_equal(matrix_gen.backward(R, C_diff), [[2, 0], [0, 0]])


def test_starts_from_a_multiple_of_the_identity():
    assert np.array_equal(matrix_gen.initial_factor(2, diagonal=0.5), [[0.5, 0], [0, 0.5]])


@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_gradient_is_zero_above_the_diagonal(num_classes):
    rng = np.random.default_rng(num_classes)
    R, C_diff = rng.normal(size=(2, num_classes, num_classes))
    numeric = central_differences(lambda R: (matrix_gen.forward(R) * C_diff).sum(), [R], 0)
    gradient = matrix_gen.backward(R, C_diff)
    assert relative_error(gradient, numeric) < 1e-8
    assert not np.triu(gradient, 1).any()


def test_wrong_sizes_are_rejected():
    with pytest.raises(ValueError, match=r"R has shape \(2, 3\), expected \(K, K\)"):
        matrix_gen.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match="num_classes is 0, expected at least 1"):
        matrix_gen.initial_factor(0, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_classes", [1, 2, 21])
def test_caffe_agrees(dtype, num_classes):
    text = f'type: "MatrixGen" matrix_gen_param {{ num_classes: {num_classes} diagonal: 0.5 }}'
    layer = CaffeLayer(text, dtype, num_bottoms=0)
    assert np.array_equal(layer.forward(), 0.25 * np.eye(num_classes))
    R, R_diff = layer.view("param0")
    assert np.array_equal(R, matrix_gen.initial_factor(num_classes, 0.5))

    rng = np.random.default_rng(0)
    R[...] = rng.normal(size=R.shape)
    C_diff = rng.normal(size=R.shape).astype(dtype)
    exact = R.astype(np.float64)
    assert relative_error(layer.forward(), matrix_gen.forward(exact)) <= TOLERANCE[dtype]
    R_diff[...] = start = np.tril(np.ones_like(R))  # gradients add up: iter_size relies on it
    layer.backward(C_diff)
    expected = start + matrix_gen.backward(exact, C_diff.astype(np.float64))
    assert relative_error(R_diff, expected) <= TOLERANCE[dtype]
