"""Caffe as a contender of benchmark_networks.py."""

import time
from pathlib import Path

import caffe
import numpy as np
from benchmark_speed import machine_speed


class Runner:
    """A net of the benchmark, forward or as a training step; see benchmark_worker.py.

    setting: the engine, which names the prototxt files.
    """

    def __init__(self, folder, task, setting):
        path = Path(folder) / f"{task}_{setting}.prototxt"
        self._solver = None
        if task.startswith("step"):
            self._solver = caffe.SGDSolver(str(path.with_name(f"{path.stem}_solver.prototxt")))
            self._net = self._solver.net
        else:
            self._net = caffe.Net(str(path), caffe.TEST)
        self._net.copy_from(f"{folder}/weights.caffemodel")
        for name, array in np.load(f"{folder}/{task}.npz").items():
            if name in self._net.blobs:
                self._net.blobs[name].data[...] = array

    def run(self):
        if self._solver:
            self._solver.step(1)
        else:
            self._net.forward()

    def result(self):
        """Return the scores, or the update of each parameter by the first step."""
        if not self._solver:
            return {"scores": self._net.blobs["scores"].data}
        return {
            f"{name}:{index}": blob.diff.copy()
            for name, blobs in self._net.params.items()
            for index, blob in enumerate(blobs)
        }

    def layer_times(self, repeats):
        """Return [the least milliseconds of each layer's forward pass, ...]."""
        times = np.full((repeats, len(self._net.layers)), np.inf)
        for row in times:
            for index in range(len(row)):
                start = time.perf_counter()
                self._net._forward(index, index)
                row[index] = 1e3 * (time.perf_counter() - start)
        return times.min(axis=0).tolist()

    def machine_speed(self):
        """Return floating point operations and bytes per millisecond."""
        return machine_speed()
