"""Loss that pre-trains the similarities: the NumPy twin of the `SimilarityLoss` layer.

    L_ij = -s_ij if l_i = l_j, else max(0, s_ij - h)                                        (7)

Mean over the valid pairs: both ends inside the image and neither label ignored. Without a valid
pair the loss is 0. At s_ij = h an unlike pair has gradient 0.

Erratum: the paper prints min(0, s_ij - h) for unlike pairs. Its gradient is 0 wherever s_ij > h,
for the very pairs that the text wants to push below the threshold h.
"""

from typing import ClassVar

import numpy as np

from python_layers.labels import read_labels
from python_layers.neighbourhood import pair_ends, pair_offsets
from python_layers.numpy_layer import NumpyLayer

THRESHOLD = 4.5399930e-05  # h = e^-10, the paper's section 5.1


def check_shapes(s, labels, window):
    """Raise ValueError unless s is (N, P, H, W) and labels (N, 1, H, W)."""
    num_pairs = len(pair_offsets(window))
    if len(s) != 4 or s[1] != num_pairs:
        expected = f"(N, {num_pairs}, H, W) for window {window}"
        raise ValueError(f"s has shape {s}, expected {expected}; give both layers one window")
    expected = (s[0], 1, *s[2:])
    if tuple(labels) != expected:
        raise ValueError(f"labels have shape {labels}, expected {expected}, the size of s")


def pair_labels(s, labels, window, ignore_label):
    """Return which pairs are valid and which have unlike labels, two bool arrays like s."""
    check_shapes(s.shape, labels.shape, window)
    label, labelled = read_labels(labels, ignore_label)
    valid, unlike = np.zeros(s.shape, bool), np.zeros(s.shape, bool)
    for p, first, second in pair_ends(*s.shape[2:], window):
        valid[:, p][first] = labelled[first] & labelled[second]
        unlike[:, p][first] = label[first] != label[second]
    return valid, unlike


def forward(s, labels, *, window, threshold=THRESHOLD, ignore_label=None):
    """Return the loss, a number, of similarities s (N, P, H, W) against labels (N, 1, H, W).

    threshold is h, a similarity in [0, 1].
    """
    valid, unlike = pair_labels(s, labels, window, ignore_label)
    L = np.where(unlike, np.maximum(0, s - threshold), -s)  # Eq. (7)
    return L[valid].sum() / max(1, int(valid.sum()))


def backward(s, labels, loss_diff=1, *, window, threshold=THRESHOLD, ignore_label=None):
    """Return dL/ds (N, P, H, W); loss_diff is the gradient of the loss, its weight."""
    valid, unlike = pair_labels(s, labels, window, ignore_label)
    slope = np.where(unlike, s > threshold, -1.0)
    return (valid * slope * loss_diff / max(1, int(valid.sum()))).astype(s.dtype)


class SimilarityLoss(NumpyLayer):
    """forward and backward above, as a layer."""

    bottoms = ("s", "labels")
    defaults: ClassVar = {"window": 23, "threshold": THRESHOLD, "ignore_label": None}

    def top_shape(self, s, labels):
        check_shapes(s, labels, self.parameters["window"])
        return ()

    def compute(self, s, labels):
        return forward(s, labels, **self.parameters)

    def differentiate(self, top_diff, s, labels):
        return backward(s, labels, top_diff, **self.parameters), None
