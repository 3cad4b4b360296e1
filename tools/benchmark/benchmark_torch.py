"""PyTorch as a contender of benchmark_networks.py."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch
from google.protobuf import text_format
from torch_twin import TorchTwin

# Caffe's messages without Caffe, whose libraries would count as PyTorch's memory.
sys.path.append(str(Path(importlib.util.find_spec("caffe").origin).parent / "proto"))
import caffe_pb2


class Runner:
    """The twin of a net of the benchmark, or a training step of it; see benchmark_worker.py.

    setting: "NCHW", "channels-last", or "compiled", which is channels-last too.
    """

    def __init__(self, folder, task, setting):
        net = read(f"{folder}/{task}_CAFFE.prototxt", caffe_pb2.NetParameter())
        twin = TorchTwin(net, Weights(f"{folder}/weights.npz"))
        layout = torch.contiguous_format if setting == "NCHW" else torch.channels_last
        twin = twin.to(memory_format=layout)
        self._inputs = {
            name: torch.from_numpy(array).contiguous(memory_format=layout)
            for name, array in np.load(f"{folder}/{task}.npz").items()
        }
        self._optimizer = None
        if task.startswith("step"):
            solver = read(f"{folder}/{task}_CAFFE_solver.prototxt", caffe_pb2.SolverParameter())
            self._optimizer, self._twin = optimizer(twin, net, solver), twin
        else:
            twin.eval()
        self._call = twin
        if setting == "compiled":
            torch._inductor.config.freezing = not self._optimizer  # packs constant weights
            self._call = torch.compile(twin)

    def run(self):
        if self._optimizer:
            self._optimizer.zero_grad()
            self._call(**self._inputs)["loss"].backward()
            self._optimizer.step()
        else:
            with torch.no_grad():
                self._scores = self._call(**self._inputs)["scores"]

    def result(self):
        """Return the scores, or the update of each parameter by the first step."""
        if not self._optimizer:
            return {"scores": self._scores.contiguous().numpy()}
        rates = {group["params"][0]: group["lr"] for group in self._optimizer.param_groups}
        return {
            name: (self._optimizer.state[blob]["momentum_buffer"] * rates[blob]).numpy()
            for name, blob in self._twin.weights.items()
        }


class Weights:
    """The arrays of an .npz file as TorchTwin wants them, each read when it is asked for."""

    def __init__(self, path):
        self._file = np.load(path)

    def get(self, layer, default):
        names = [name for name in self._file.files if name.rpartition(":")[0] == layer]
        return [self._file[name] for name in names] or default


def read(path, message):
    return text_format.Parse(Path(path).read_text(), message)


def optimizer(twin, net, solver):
    """Return the SGD of a Caffe solver, with the rates that each layer has for its parameters."""
    groups = []
    for layer in net.layer:
        for index, param in enumerate(layer.param):
            groups.append(
                {
                    "params": [twin.weights[f"{layer.name}:{index}"]],
                    "lr": solver.base_lr * param.lr_mult,
                    "weight_decay": solver.weight_decay * param.decay_mult,
                }
            )
    return torch.optim.SGD(groups, momentum=solver.momentum)
