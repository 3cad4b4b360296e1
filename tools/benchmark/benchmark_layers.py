#!/usr/bin/env python3
"""Time the Gaussian CRF layers, forward and backward, and compare with what this machine can do.

Example: tools/benchmark/benchmark_layers.py --threads 2

The sizes are the paper's: 21 classes and features, a 64 x 64 grid (a 505 x 505 image), window 23.
The floor of a layer is its arithmetic at the speed of a large matrix product, or its minimal memory
traffic at the speed of a large copy, whichever takes longer. Both speeds are measured first. The
last column is the layer's NumPy twin. Exit codes: 0 done, 2 bad usage.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import caffe
import numpy as np
from benchmark_speed import machine_speed, milliseconds

from gcrf import cli

CLASSES = 21
GRID = 64
IMAGE = (GRID - 1) * 8 + 1
WINDOW = 23
FLOAT = 4  # bytes


@dataclass
class Case:
    """Layers to time: prototxt with one %(name)s for each type, and their minimal cost."""

    name: str
    layers: list  # (type, name, bottoms, top, parameters as prototxt text, the same as JSON)
    flops: tuple  # forward, backward
    bytes: tuple


def count_pairs(size, window):
    """Return how many pairs of neighbours a size x size grid has."""
    offsets = range(1, window // 2 + 1, 2)
    along = sum(size - offset for offset in offsets if offset < size)
    return 2 * along * along  # dy > 0, dx of either sign


def gmf_layers(count):
    """Return the half steps of count GMF layers, from mu = r."""
    layers, mean = [], "r"
    for i in range(1, count + 1):
        for parity in ("even", "odd"):
            name = f"gmf{i}/{parity}"
            layers.append(
                (f"GMF{parity.title()}", name, [mean, "r", "s", "C"], name, "gmf_param",
                 {"window": WINDOW})
            )  # fmt: skip
            mean = name
    return layers


def cases():
    """Return what is timed, with the minimal number of operations and bytes."""
    pairs, pixels, K = count_pairs(GRID, WINDOW), GRID * GRID, CLASSES
    similarities = FLOAT * 72 * pixels
    couple = pixels * 4 * K * K  # per layer: A^-1 C, two products with U at every pixel
    messages = pairs * 2 * K
    return [
        Case(
            "Similarity",
            [("Similarity", "s1", ["p"], "s1", "similarity_param", {"window": WINDOW})],
            (pairs * 3 * K, pairs * 4 * K),
            (similarities, 2 * similarities),
        ),
        Case(
            "five GMF layers",
            gmf_layers(5),
            (5 * (2 * messages + couple), 5 * (4 * messages + couple + pixels * 2 * K * K)),
            (10 * similarities, 20 * similarities),
        ),
        Case(
            "SimilarityLoss",
            [("SimilarityLoss", "loss1", ["s", "labels"], "loss1", "similarity_loss_param",
              {"window": WINDOW})],
            (0, 0),
            (similarities, similarities),
        ),
        Case(
            "Interp, zoom 8",
            [("Interp", "large", ["r"], "large", "interp_param", {"zoom_factor": 8})],
            (0, 0),
            (FLOAT * K * IMAGE**2, FLOAT * K * IMAGE**2),
        ),
        Case(
            "MarginLoss",
            [("MarginLoss", "loss2", ["scores", "large_labels"], "loss2", "margin_loss_param",
              {"margin": 0.5})],
            (0, 0),
            (FLOAT * K * IMAGE**2, 2 * FLOAT * K * IMAGE**2),
        ),
    ]  # fmt: skip


INPUTS = {
    "p": (1, CLASSES, GRID, GRID),
    "r": (1, CLASSES, GRID, GRID),
    "s": (1, 72, GRID, GRID),
    "C": (CLASSES, CLASSES),
    "labels": (1, 1, GRID, GRID),
    "scores": (1, CLASSES, IMAGE, IMAGE),
    "large_labels": (1, 1, IMAGE, IMAGE),
}
MODULES = {"Similarity": "similarity", "GMFEven": "gmf", "GMFOdd": "gmf", "Interp": "interp",
           "SimilarityLoss": "similarity_loss", "MarginLoss": "margin_loss"}  # fmt: skip


def prototxt(case, twin):
    """Return the net of a case as text; with twin, of Python layers."""
    bottoms = dict.fromkeys(b for layer in case.layers for b in layer[2] if b in INPUTS)
    text = "force_backward: true\n"
    for name in bottoms:
        shape = " ".join(f"dim: {size}" for size in INPUTS[name])
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" '
        text += f"input_param {{ shape {{ {shape} }} }} }}\n"
    for kind, name, names, top, message, parameters in case.layers:
        blobs = " ".join(f'bottom: "{b}"' for b in names) + f' top: "{top}"'
        if twin:
            json = str(parameters).replace("'", '"')
            module = f"python_layers.{MODULES[kind]}"
            body = f'type: "Python" python_param {{ module: "{module}" layer: "{kind}" '
            body += f"param_str: '{json}' }}"
        else:
            fields = " ".join(f"{key}: {value}" for key, value in parameters.items())
            body = f'type: "{kind}" {message} {{ {fields} }}'
        loss = "loss_weight: 1" if kind.endswith("Loss") else ""
        for data in ("labels", "large_labels"):
            if data in names:
                loss += " propagate_down: true propagate_down: false"
        text += f'layer {{ name: "{name}" {blobs} {body} {loss} }}\n'
    return text


def load(case, twin):
    """Return the net of a case, its inputs filled with random numbers."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(prototxt(case, twin))
        file.flush()
        net = caffe.Net(file.name, caffe.TEST)
    rng = np.random.default_rng(0)
    for name in net.inputs:
        data = net.blobs[name].data
        if name == "C":
            data[...] = np.eye(CLASSES) + np.full((CLASSES, CLASSES), 1 / CLASSES)
        elif "labels" in name:
            data[...] = rng.integers(0, CLASSES, data.shape)
        else:
            data[...] = rng.random(data.shape)
    net.forward()
    return net


def passes(net, case):
    """Return two functions, which run the forward and the backward pass of the case's layers."""
    names = list(net._layer_names)
    first, last = names.index(case.layers[0][1]), names.index(case.layers[-1][1])
    net.blobs[case.layers[-1][3]].diff[...] = 1
    return lambda: net._forward(first, last), lambda: net._backward(last, first)


def compare(args):
    """Print the table of all cases."""
    flops, memory = machine_speed()
    print(f"{args.threads} threads: {flops / 1e6:.0f} GFLOP/s in a matrix product, "
          f"{memory / 1e6:.1f} GB/s in a copy\n")  # fmt: skip
    print(f"{'':16} {'':8} {'min ms':>8} {'median':>8} {'max':>8} {'GFLOP/s':>8} {'GB/s':>6} "
          f"{'floor ms':>9} {'of floor':>8} {'NumPy ms':>9}")  # fmt: skip
    for case in cases():
        net = load(case, twin=False)
        twin = None if args.no_twins else load(case, twin=True)
        for i, direction in enumerate(("forward", "backward")):
            times = milliseconds(passes(net, case)[i], args.repeats)
            median = times[len(times) // 2]
            floor = max(case.flops[i] / flops, case.bytes[i] / memory)
            numpy_time = f"{milliseconds(passes(twin, case)[i], 3)[1]:9.1f}" if twin else ""
            print(f"{case.name if i == 0 else '':16} {direction:8} {times[0]:8.2f} {median:8.2f} "
                  f"{times[-1]:8.2f} {case.flops[i] / median / 1e6:8.1f} "
                  f"{case.bytes[i] / median / 1e6:6.1f} {floor:9.2f} {floor / median:8.0%} "
                  f"{numpy_time}")  # fmt: skip


def main(argv=None):
    parser = cli.parser(__doc__)
    for flag, default in (("--threads", os.cpu_count()), ("--repeats", 50)):
        parser.add_argument(flag, type=cli.positive, default=default, help="default: %(default)s")
    parser.add_argument("--no-twins", action="store_true", help="leave the NumPy twins out")
    args = parser.parse_args(argv)
    threads = {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)}
    if any(os.environ.get(name) != value for name, value in threads.items()):
        # The BLAS and the layers read them when they are loaded, which has already happened.
        environment = {"GLOG_minloglevel": "2", **os.environ, **threads}
        command = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv)]
        return subprocess.run(command, env=environment, check=False).returncode
    return cli.run("benchmark_layers", compare, args)


if __name__ == "__main__":
    sys.exit(main())
