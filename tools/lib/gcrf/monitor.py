"""The state of a network at a snapshot: its scores, and what the CRF has learned so far."""

import numpy as np

from gcrf.calibration import (
    FILTERS,
    grid_labels,
    mean_similarity,
    separation,
    squared_distances,
)
from gcrf.records import read_samples
from gcrf.scores import confusion_matrix, measure
from gcrf.segmenter import UNARY, Segmenter, labels

IMAGES = 50  # of the test split


class Monitor:
    """Examines the snapshots of stage unary or finetune."""

    def __init__(self, settings, stage):
        """settings: of nets, whose files are written."""
        deploy = "deploy_unary.prototxt" if stage == "unary" else "deploy.prototxt"
        self._deploy, self._whole = settings.output / deploy, stage != "unary"
        self._window = settings.window
        self._samples = list(read_samples(settings.data / settings.test_split, IMAGES))

    def look(self, weights):
        """Return {column of training_log: text} of the snapshot in a .caffemodel."""
        segmenter = Segmenter(self._deploy, weights)
        names = [UNARY, FILTERS, segmenter.mean_name, "compatibility"] if self._whole else [UNARY]
        unary, network, pairs = [], [], []
        for image, label_map in self._samples:
            blobs = segmenter.blobs(image, names)
            truth = grid_labels(label_map, blobs[UNARY].shape[2:])
            unary.append(self._confusion(truth, blobs[UNARY]))
            if self._whole:
                network.append(self._confusion(truth, blobs[segmenter.mean_name]))
                pairs.append(squared_distances(blobs[FILTERS][0], truth, self._window))
        found = {"mean_iou": f"{measure(sum(network or unary))['mean_iou']:.2f}"}
        if self._whole:
            like, unlike = (np.concatenate(each) for each in zip(*pairs, strict=True))
            diagonal = np.diag(blobs["compatibility"])
            found |= {
                "unary_mean_iou": f"{measure(sum(unary))['mean_iou']:.2f}",
                "similarity_like": f"{mean_similarity(like):.4f}",
                "similarity_unlike": f"{mean_similarity(unlike):.4f}",
                "similarity_auc": f"{separation(like, unlike):.4f}",
                "compatibility_least": f"{diagonal.min():.3f}",
                "compatibility_greatest": f"{diagonal.max():.3f}",
            }
        return found

    def _confusion(self, truth, scores):
        return confusion_matrix(truth, labels(scores[0]), scores.shape[1])
