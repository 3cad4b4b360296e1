"""MatrixGen: C = R R', R lower triangular."""

import matrix_gen
import numpy as np
import pytest
from numeric import central_differences, relative_error


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
