"""The measures of semantic segmentation, from label maps.

A confusion matrix counts pixels: rows are true classes, columns predicted ones. The matrices of all
images add up to that of the set, from which the measures are computed (not as means over images).
"""

import cv2
import numpy as np

from gcrf.label_maps import IGNORE_LABEL

TRIMAP = (1, 2, 5, 10, 20)  # pixels: the widths of the bands along the borders of labels

MEASURES = {  # of `measure`, as tables name them
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency weighted IoU",
}


def confusion_matrix(truth, prediction, num_classes):
    """Return the pixels of each true and predicted class, (num_classes, num_classes) int64.

    truth: (H, W) uint8, 0..num_classes-1 or IGNORE_LABEL, whose pixels do not count;
    prediction: (H, W) uint8, 0..num_classes-1 wherever the truth counts.
    Raises ValueError for two sizes, and for any other label.
    """
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {prediction.shape}, expected (H, W)")
    if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
        raise ValueError(f"labels are {truth.dtype} and {prediction.dtype}, expected uint8")
    pairs = (truth.astype(np.uint16) << 8 | prediction).ravel()
    counts = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    counts[IGNORE_LABEL] = 0
    for name, found in (("truth", counts.any(axis=1)), ("prediction", counts.any(axis=0))):
        wrong = np.flatnonzero(found[num_classes:]) + num_classes
        if wrong.size:
            ignored = f" or {IGNORE_LABEL}" if name == "truth" else ""
            raise ValueError(
                f"{name} has the labels {wrong.tolist()}, expected 0..{num_classes - 1}{ignored}"
            )
    return counts[:num_classes, :num_classes]


def border_distances(label_map):
    """Return how far each pixel is from the nearest one of another label, (H, W) float32, or inf.

    label_map: (H, W) uint8, in which IGNORE_LABEL is a label like any other: VOC has it along the
    borders of objects. A pixel next to another label is 1 away.
    """
    distances = np.full(label_map.shape, np.inf, np.float32)
    for label in np.unique(label_map):
        inside = label_map == label
        if not inside.all():
            found = cv2.distanceTransform(
                inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
            )
            distances[inside] = found[inside]
    return distances


def trimap(truth):
    """Return {width: truth in the band along the borders of labels}, with everything else ignored.

    The bands of P. Kohli et al., "Robust higher order potentials for enforcing label consistency",
    2009: how good the labels are near the borders of objects. truth: (H, W) uint8.
    """
    distances = border_distances(truth)
    return {width: np.where(distances <= width, truth, np.uint8(IGNORE_LABEL)) for width in TRIMAP}


def measure(confusion):
    """Return the measures of a confusion matrix, a dictionary for JSON; shares in per cent.

    iou: TP / (TP + FP + FN) of each class, None for one in neither the truth nor the predictions
    mean_iou: over the other classes
    pixel_accuracy: of all pixels; mean_accuracy: TP / (TP + FN) over the classes in the truth
    frequency_weighted_iou: the classes weighted by their pixels in the truth
    Raises ValueError if no pixel was counted.
    """
    confusion = np.asarray(confusion, np.float64)
    hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    pixels = true.sum()
    if not pixels:
        raise ValueError("no pixel to score: the truth is empty or all ignored")
    union = true + predicted - hits
    occurs, in_truth = union > 0, true > 0
    iou = 100 * hits / np.maximum(union, 1)
    return {
        "mean_iou": float(iou[occurs].mean()),
        "pixel_accuracy": float(100 * hits.sum() / pixels),
        "mean_accuracy": float(100 * (hits[in_truth] / true[in_truth]).mean()),
        "frequency_weighted_iou": float((iou * true).sum() / pixels),
        "iou": [float(value) if there else None for value, there in zip(iou, occurs, strict=True)],
    }
