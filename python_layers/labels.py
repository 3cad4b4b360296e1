"""Label blobs, as the loss layers read them: class indices stored as floating-point numbers."""

import numpy as np


def read_labels(labels, ignore_label=None, num_classes=None):
    """Return the class indices (N, H, W), int64, and where they count (N, H, W), bool.

    labels: (N, 1, H, W), whole numbers in 0..num_classes-1 (without num_classes: any >= 0) or
    ignore_label. Ignored pixels have class 0 in the result.
    Raises ValueError for any other shape, and for the first invalid label, with its position.
    """
    if labels.ndim != 4 or labels.shape[1] != 1:
        raise ValueError(f"labels have shape {labels.shape}, expected (N, 1, H, W)")
    labels = labels[:, 0]
    valid = np.ones(labels.shape, bool) if ignore_label is None else labels != ignore_label
    limit = np.inf if num_classes is None else num_classes
    with np.errstate(invalid="ignore"):  # a label that is not a number is reported below
        wrong = valid & ~((labels >= 0) & (labels < limit) & (labels == np.floor(labels)))
    if wrong.any():
        n, y, x = np.argwhere(wrong)[0]
        expected = "a whole number >= 0" if num_classes is None else f"0..{num_classes - 1}"
        if ignore_label is None:
            remedy = "correct the label map, or set ignore_label"
        else:
            expected, remedy = f"{expected} or {ignore_label} (ignored)", "correct the label map"
        found = f"label {labels[n, y, x]:g} at image {n}, row {y}, column {x}"
        raise ValueError(f"{found}, expected {expected}; {remedy}")
    return np.where(valid, labels, 0).astype(np.int64), valid
