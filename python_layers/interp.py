"""Bilinear resizing with the corners aligned: the NumPy twin of the `Interp` layer.

Row y' of the H' result samples the H input rows at y = y' (H - 1) / (H' - 1), so that the corner
pixels keep their values; if H' = 1 it is the first row. Columns likewise. The map is linear and
separable: with the matrices A (H' x H) and B (W' x W) of interpolation weights, each channel is

    Y = A X B'          dL/dX = A' (dL/dY) B
"""

from fractions import Fraction
from typing import ClassVar

import numpy as np

from python_layers.numpy_layer import NumpyLayer


def resized(size, height=None, width=None, zoom_factor=None, shrink_factor=None):
    """Return the result's (height, width) for an input of size = (height, width).

    Exactly one way: zoom_factor, (H - 1) * zoom_factor + 1; shrink_factor, (H - 1) /
    shrink_factor + 1; or height and width themselves. Raises ValueError for any other choice, and
    where shrink_factor does not divide H - 1 and W - 1.
    """
    factors = {"zoom_factor": zoom_factor, "shrink_factor": shrink_factor}
    sizes = {"height": height, "width": width, **factors}
    given = {name: value for name, value in sizes.items() if value is not None}
    if given.keys() not in ({"height", "width"}, {"zoom_factor"}, {"shrink_factor"}):
        expected = "exactly one of zoom_factor, shrink_factor, or height and width"
        raise ValueError(f"{sorted(given) or 'no size'} given, expected {expected}")
    for name, value in given.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if zoom_factor:
        return tuple((length - 1) * zoom_factor + 1 for length in size)
    if shrink_factor:
        if any((length - 1) % shrink_factor for length in size):
            raise ValueError(f"input is {size}, expected {shrink_factor} k + 1 along both axes")
        return tuple((length - 1) // shrink_factor + 1 for length in size)
    return height, width


def weights(size_in, size_out, dtype):
    """Return the interpolation matrix A (size_out, size_in): at most two entries per row."""
    A = np.zeros((size_out, size_in), dtype)
    for row in range(size_out):
        position = Fraction(row * (size_in - 1), max(1, size_out - 1))  # exact: no rounding
        below = int(position)
        A[row, below] = 1 - (position - below)
        if position > below:
            A[row, below + 1] = position - below
    return A


def both_weights(shape, dtype, **parameters):
    """Return A and B for an input of the given shape (N, C, H, W); parameters as in resized."""
    if len(shape) != 4:
        raise ValueError(f"input has shape {shape}, expected (N, C, H, W)")
    both = shape[2:], resized(shape[2:], **parameters)
    return [weights(*sizes, dtype) for sizes in zip(*both, strict=True)]


def forward(x, **parameters):
    """Return the resized x (N, C, H', W'); parameters as in resized."""
    A, B = both_weights(x.shape, x.dtype, **parameters)
    return A @ x @ B.T


def backward(x, top_diff, **parameters):
    """Return dL/dx (N, C, H, W) from x and top_diff (N, C, H', W')."""
    A, B = both_weights(x.shape, x.dtype, **parameters)
    return A.T @ top_diff @ B


class Interp(NumpyLayer):
    """forward and backward above, as a layer."""

    bottoms = ("x",)
    defaults: ClassVar = {"height": None, "width": None, "zoom_factor": None, "shrink_factor": None}

    def top_shape(self, x):
        return (*x[:2], *resized(x[2:], **self.parameters))

    def compute(self, x):
        return forward(x, **self.parameters)

    def differentiate(self, top_diff, x):
        return (backward(x, top_diff, **self.parameters),)
