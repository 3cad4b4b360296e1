"""Similarity of neighbouring pixels: the NumPy twin of the `Similarity` layer.

    s_ij = exp(-||p_i - p_j||^2)                                                            (5)

where p (N, M, H, W) holds the M filter responses p_m = f_m' z of each pixel, and s (N, P, H, W)
one pair per channel and pixel (neighbourhood.py). Pairs that reach outside the image are 0.
"""

from typing import ClassVar

import numpy as np

from python_layers.neighbourhood import pair_ends, pair_offsets
from python_layers.numpy_layer import NumpyLayer


def similarity_shape(shape, window):
    """Return the shape (N, P, H, W) of the similarities of features of shape (N, M, H, W)."""
    if len(shape) != 4:
        raise ValueError(f"features have shape {shape}, expected (N, M, H, W)")
    num_images, _, height, width = shape
    return num_images, len(pair_offsets(window)), height, width


def forward(p, *, window):
    """Return s (N, P, H, W) from the features p (N, M, H, W)."""
    s = np.zeros(similarity_shape(p.shape, window), p.dtype)
    for channel, first, second in pair_ends(*p.shape[2:], window):
        difference = p[first] - p[second]
        s[:, channel][first] = np.exp(-(difference**2).sum(axis=1))  # Eq. (5)
    return s


def backward(p, s_diff, *, window):
    """Return dL/dp (N, M, H, W) from p and s_diff = dL/ds (N, P, H, W)."""
    p_diff = np.zeros_like(p)
    for channel, first, second in pair_ends(*p.shape[2:], window):
        difference = p[first] - p[second]
        s = np.exp(-(difference**2).sum(axis=1, keepdims=True))
        gradient = -2 * difference * s * s_diff[:, channel : channel + 1][first]
        p_diff[first] += gradient
        p_diff[second] -= gradient
    return p_diff


class Similarity(NumpyLayer):
    """forward and backward above, as a layer."""

    bottoms = ("features",)
    defaults: ClassVar = {"window": 23}

    def top_shape(self, features):
        return similarity_shape(features, **self.parameters)

    def compute(self, features):
        return forward(features, **self.parameters)

    def differentiate(self, top_diff, features):
        return (backward(features, top_diff, **self.parameters),)
