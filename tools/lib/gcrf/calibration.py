"""Where finetuning starts from: the scale of the filters f_m, and R.

The filters start from the score layers. At their scale, the similarities of all pairs may be near
1, which drowns out the unary, or near 0, which leaves the CRF without effect and gradient.
Finetuning does not recover from the former. So we try a few scales on training images: those at
which pairs with the same label have a given mean similarity, whatever the scale was before.
"""

import operator
import tempfile
from typing import NamedTuple

import caffe
import numpy as np
from google.protobuf import text_format

from gcrf import nets
from gcrf.label_maps import IGNORE_LABEL
from gcrf.nets import STRIDE
from gcrf.scores import confusion_matrix, measure
from gcrf.segmenter import UNARY, labels
from python_layers.neighbourhood import pair_ends

FILTERS = "pairwise/filters"  # f_m' z in a deploy net
MEAN_SIMILARITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)  # of pairs with the same label
DIAGONALS = (0.5, 1.0, 2.0)


class Case(NamedTuple):
    """What the CRF of one image is computed from, on the grid."""

    unary: np.ndarray  # r, (K, H, W)
    filters: np.ndarray  # f_m' z, (M, H, W)
    labels: np.ndarray  # (H, W) uint8, 0..K-1 or IGNORE_LABEL


class Start(NamedTuple):
    """A start for finetuning, and how the CRF does from there on some cases."""

    scale: float  # of the filters
    diagonal: float  # R is this times the identity
    like: float  # mean similarity of pairs with the same label
    unlike: float  # mean similarity of pairs with different labels
    loss: float  # margin loss
    mean_iou: float  # per cent, on the grid

    def describe(self, num_images, unary):
        """Return the start in words; unary: the mean IoU of the unary alone, per cent."""
        return (
            f"starts with the filters times {self.scale:.3g} and R = {self.diagonal:g} I: mean "
            f"similarity {self.like:.3f} for equal labels, {self.unlike:.4f} for different ones; "
            f"mean IoU on {num_images} training images {self.mean_iou:.1f}, unary alone {unary:.1f}"
        )


def make_case(segmenter, image, truth):
    """Return the Case of an image, (H, W, 3) uint8 BGR, and its label map, (H, W) uint8."""
    blobs = segmenter.blobs(image, [UNARY, FILTERS])
    unary, filters = blobs[UNARY][0], blobs[FILTERS][0]
    return Case(unary, filters, grid_labels(truth, unary.shape[1:]))


def grid_labels(truth, shape):
    """Return the labels of the cells of a grid of a shape (height, width), uint8.

    truth: label map, (H, W) uint8; cells in the padding of its image have IGNORE_LABEL.
    """
    cells = truth[::STRIDE, ::STRIDE]
    padded = np.full(shape, IGNORE_LABEL, np.uint8)
    padded[: cells.shape[0], : cells.shape[1]] = cells
    return padded


def squared_distances(filters, labels, window):
    """Return the squared distances of f_m' z for (like pairs, unlike pairs), two 1-D arrays.

    filters: (M, H, W) float32; labels: (H, W) uint8, where pairs with IGNORE_LABEL do not count.
    """
    like, unlike = [], []
    for _, first, second in pair_ends(*labels.shape, window):
        distances = np.square(filters[first] - filters[second]).sum(axis=0)
        valid = (labels[first] != IGNORE_LABEL) & (labels[second] != IGNORE_LABEL)
        same = labels[first] == labels[second]
        like.append(distances[valid & same])
        unlike.append(distances[valid & ~same])
    return np.concatenate(like), np.concatenate(unlike)


def mean_similarity(distances, scale=1.0):
    """Return the mean of eq. (5) for filters times scale; NaN where there is no pair."""
    return (
        float(np.exp(-(scale**2) * distances.astype(np.float64)).mean())
        if len(distances)
        else np.nan
    )


def separation(like, unlike):
    """Return the share of (like pair, unlike pair) in which the like pair is the more similar one.

    That is the area under the ROC curve: 0.5 for useless similarities, 1 for perfect ones.
    """
    like = np.sort(like)
    below = np.searchsorted(like, unlike, "left") + np.searchsorted(like, unlike, "right")
    return float(below.mean() / 2 / len(like))


def scale_for(distances, target):
    """Return the scale of the filters at which the mean similarity is `target`, in (0, 1)."""
    positive = distances[distances > 0]
    if len(positive) < (1 - target) * len(distances):
        raise ValueError(
            f"{len(distances) - len(positive)} of {len(distances)} pairs with the same label have "
            "equal features: the filters are zero, or the images blank"
        )
    low, high = np.log(1e-6 / np.sqrt(positive.max())), np.log(1e6 / np.sqrt(positive.min()))
    for _ in range(60):  # the mean falls with the scale
        middle = (low + high) / 2
        if mean_similarity(distances, np.exp(middle)) > target:
            low = middle
        else:
            high = middle
    return float(np.exp(middle))


class Calibrator:
    """The CRF of some cases from any start."""

    def __init__(self, settings, cases):
        """settings: of nets; cases: [Case, ...]."""
        self._settings, self._cases = settings, cases
        pairs = [squared_distances(case.filters, case.labels, settings.window) for case in cases]
        self._like, self._unlike = (np.concatenate(each) for each in zip(*pairs, strict=True))
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(text_format.MessageToString(nets.crf_net(settings)))
            file.flush()
            self._crf = caffe.Net(file.name, caffe.TEST)

    def start(self, scale, diagonal):
        """Return the Start with this scale and R."""
        like, unlike = (mean_similarity(each, scale) for each in (self._like, self._unlike))
        return Start(scale, diagonal, like, unlike, *self._run(scale, diagonal))

    def starts(self):
        """Yield a Start for each mean similarity and R to try."""
        for target in MEAN_SIMILARITIES:
            scale = scale_for(self._like, target)
            for diagonal in DIAGONALS:
                yield self.start(scale, diagonal)

    def best_start(self):
        """Return the Start with the least loss."""
        return min(self.starts(), key=operator.attrgetter("loss"))

    def unary_mean_iou(self):
        """Return the mean IoU of the unary alone, per cent, on the grid."""
        confusions = (
            confusion_matrix(case.labels, labels(case.unary), self._settings.num_classes)
            for case in self._cases
        )
        return measure(sum(confusions))["mean_iou"]

    def _run(self, scale, diagonal):
        """Return the CRF's (margin loss, mean IoU) over the cases."""
        loss, confusion = 0.0, 0
        for case in self._cases:
            inputs = {
                "unary/softmax": case.unary[None],
                "pairwise/filters": scale * case.filters[None],
                "compatibility": diagonal**2 * np.eye(self._settings.num_classes),
                "label": case.labels[None, None],
            }
            for name, values in inputs.items():
                self._crf.blobs[name].reshape(*values.shape)
                self._crf.blobs[name].data[...] = values
            self._crf.forward()
            loss += float(self._crf.blobs["loss"].data)
            found = labels(self._crf.blobs["scores"].data[0])
            confusion = confusion + confusion_matrix(case.labels, found, self._settings.num_classes)
        return loss / len(self._cases), measure(confusion)["mean_iou"]
