"""Measures of agreement between arrays, and gradients by central differences."""

import numpy as np


def relative_error(found, expected):
    """Return max |found - expected| / max |expected|: relative to the array's largest magnitude.

    0 for two empty arrays, and for two arrays of zeros.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    if found.size == 0 or np.array_equal(found, expected):
        return 0.0
    largest = np.abs(expected).max()
    return np.abs(found - expected).max() / largest if largest > 0 else np.inf


def central_differences(function, arrays, index, step=1e-5):
    """Return the gradient of the number function(*arrays) with respect to arrays[index]."""
    arrays = [array.copy() for array in arrays]
    x = arrays[index]
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        value = x[i]
        x[i] = value + step
        above = function(*arrays)
        x[i] = value - step
        gradient[i] = (above - function(*arrays)) / (2 * step)
        x[i] = value
    return gradient
