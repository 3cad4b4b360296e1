"""The dense CRF as a contender of benchmark_networks.py."""

import cv2
import numpy as np

from gcrf.dense_crf import PUBLISHED, Parameters, refine


class Runner:
    """The dense CRF on the image and the unary of the benchmark; see benchmark_worker.py.

    setting: the number of iterations.
    """

    def __init__(self, folder, task, setting):
        inputs = np.load(f"{folder}/{task}.npz")
        self._image = inputs["image"]
        size = self._image.shape[1::-1]
        self._probabilities = np.stack([cv2.resize(plane, size) for plane in inputs["r"][0]])
        self._parameters = Parameters(*PUBLISHED[1], int(setting))

    def run(self):
        refine(self._probabilities, self._image, self._parameters)
