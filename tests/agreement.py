"""Compare a layer of Caffe with its NumPy twin: forward, backward, and each gradient alone."""

import numpy as np
from layer_runner import UNTOUCHED
from numeric import relative_error

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}  # of numeric.relative_error


def assert_agreement(layer, bottoms, forward, backward):
    """Assert that a CaffeLayer and the twin compute the same from the same bottoms, in double.

    forward(*bottoms) returns the top; backward(*bottoms, top_diff) one gradient, or a tuple of
    them. No gradient is asked of the bottoms after those (labels).
    """
    tolerance = TOLERANCE[layer.dtype.type]
    bottoms = [bottom.astype(layer.dtype) for bottom in bottoms]
    exact = [bottom.astype(np.float64) for bottom in bottoms]
    top = layer.forward(*bottoms)
    assert relative_error(top, forward(*exact)) <= tolerance

    top_diff = np.random.default_rng(1).normal(size=top.shape).astype(layer.dtype)
    expected = backward(*exact, top_diff.astype(np.float64))
    expected = expected if isinstance(expected, tuple) else (expected,)
    wanted = [i < len(expected) for i in range(len(bottoms))]
    for found, gradient in zip(layer.backward(top_diff, wanted), expected, strict=False):
        assert relative_error(found, gradient) <= tolerance

    for alone, gradient in enumerate(expected):
        found = layer.backward(top_diff, [i == alone for i in range(len(bottoms))])
        assert relative_error(found.pop(alone), gradient) <= tolerance
        for other in found:
            assert np.all(other == UNTOUCHED) or not other.any(), "gradient nobody asked for"
