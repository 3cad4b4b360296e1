"""The compatibility matrix from its factor: the NumPy twin of the `MatrixGen` layer.

    C = R R',  R lower triangular, so C is symmetric positive semidefinite                  (3)

Entries of R above the diagonal are read as 0 and get no gradient. With G = dL/dC:

    dL/dR = lower triangle of (G + G') R
"""

from typing import ClassVar

import numpy as np

from python_layers.numpy_layer import NumpyLayer


def initial_factor(num_classes, diagonal):
    """Return the R that training starts from, diagonal * identity (K, K)."""
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1; VOC has 21")
    return diagonal * np.eye(num_classes)


def forward(R):
    """Return C (K, K) from R (K, K)."""
    if R.ndim != 2 or R.shape[0] != R.shape[1]:
        raise ValueError(f"R has shape {R.shape}, expected (K, K)")
    R = np.tril(R)
    return R @ R.T  # Eq. (3)


def backward(R, C_diff):
    """Return dL/dR (K, K) from R and C_diff = dL/dC (K, K)."""
    return np.tril((C_diff + C_diff.T) @ np.tril(R))


class MatrixGen(NumpyLayer):
    """forward and backward above, as a layer; R is its learnable blob."""

    defaults: ClassVar = {"num_classes": 21, "diagonal": 1}

    def setup(self, bottom, top):
        super().setup(bottom, top)
        if len(self.blobs) == 0:
            R = initial_factor(**self.parameters)
            self.blobs.add_blob(*R.shape)
            self.blobs[0].data[...] = R

    def top_shape(self):
        return self.blobs[0].data.shape

    def compute(self):
        return forward(self.blobs[0].data)

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += backward(self.blobs[0].data, top[0].diff)
