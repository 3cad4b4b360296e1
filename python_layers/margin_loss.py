"""Loss on the margin of the true class: the NumPy twin of the `MarginLoss` layer.

    L_i = max(0, T - (y_i,l - max_{k != l} y_i,k))                                          (6)

for a pixel i with label l, summed over the pixels that are not ignored and divided as in
SoftmaxWithLoss. Where L_i > 0, y_i,l has the gradient -1 and the best other class (the first of
them, if they tie) +1; at the kink, where the margin is exactly T, the gradient is 0.
"""

from typing import ClassVar

import numpy as np

from python_layers.labels import read_labels
from python_layers.numpy_layer import NumpyLayer

NORMALIZATIONS = ("FULL", "VALID", "BATCH_SIZE", "NONE")


def check_shapes(scores, labels):
    """Raise ValueError unless scores are (N, K >= 2, H, W) and labels (N, 1, H, W)."""
    if len(scores) != 4 or scores[1] < 2:
        raise ValueError(f"scores have shape {scores}, expected (N, K, H, W) with K >= 2 classes")
    expected = (scores[0], 1, *scores[2:])
    if tuple(labels) != expected:
        raise ValueError(f"labels have shape {labels}, expected {expected}, the scores' own size")


def divisor(valid, normalization):
    """Return what the sum over the pixels of valid (N, H, W) is divided by, at least 1.

    normalization: "FULL" (all pixels), "VALID" (those not ignored), "BATCH_SIZE" or "NONE".
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}, expected one of {NORMALIZATIONS}")
    counts = {"FULL": valid.size, "VALID": valid.sum(), "BATCH_SIZE": len(valid), "NONE": 1}
    return max(1, int(counts[normalization]))


def violations(scores, labels, margin, ignore_label):
    """Return L_i (N, H, W), the labels and the best other classes (N, 1, H, W), and valid."""
    check_shapes(scores.shape, labels.shape)
    label, valid = read_labels(labels, ignore_label, num_classes=scores.shape[1])
    label = label[:, None]
    others = scores.copy()
    np.put_along_axis(others, label, -np.inf, axis=1)
    other = others.argmax(axis=1, keepdims=True)
    y_label = np.take_along_axis(scores, label, axis=1)
    y_other = np.take_along_axis(scores, other, axis=1)
    L = np.maximum(0, margin - (y_label - y_other))[:, 0]  # Eq. (6)
    return np.where(valid, L, 0), label, other, valid


def forward(scores, labels, *, margin=0.5, ignore_label=None, normalization="VALID"):
    """Return the loss, a number, of scores (N, K, H, W) against labels (N, 1, H, W).

    margin is T. Pixels labelled ignore_label do not count; if all are, the loss is 0.
    """
    L, _, _, valid = violations(scores, labels, margin, ignore_label)
    return L.sum() / divisor(valid, normalization)


def backward(scores, labels, loss_diff=1, *, margin=0.5, ignore_label=None, normalization="VALID"):
    """Return dL/dscores (N, K, H, W); loss_diff is the gradient of the loss, its weight."""
    L, label, other, valid = violations(scores, labels, margin, ignore_label)
    slope = ((L > 0) * loss_diff / divisor(valid, normalization)).astype(scores.dtype)[:, None]
    scores_diff = np.zeros_like(scores)
    np.put_along_axis(scores_diff, label, -slope, axis=1)
    np.put_along_axis(scores_diff, other, slope, axis=1)
    return scores_diff


class MarginLoss(NumpyLayer):
    """forward and backward above, as a layer; normalize is Caffe's older form of normalization."""

    bottoms = ("scores", "labels")
    defaults: ClassVar = {
        "margin": 0.5,
        "ignore_label": None,
        "normalization": None,
        "normalize": None,
    }

    def setup(self, bottom, top):
        super().setup(bottom, top)
        normalize = self.parameters.pop("normalize")
        if self.parameters["normalization"] is None:
            self.parameters["normalization"] = "BATCH_SIZE" if normalize is False else "VALID"

    def top_shape(self, scores, labels):
        check_shapes(scores, labels)
        return ()

    def compute(self, scores, labels):
        return forward(scores, labels, **self.parameters)

    def differentiate(self, top_diff, scores, labels):
        return backward(scores, labels, top_diff, **self.parameters), None
