"""Results do not depend on the number of threads, to the last bit.

The gradients of a convolution's parameters are the exception: oneDNN gives each thread a share of
the pixels to sum over, so they agree only up to rounding.

The number is set as a user sets it, before the program starts, because a BLAS may choose its
algorithm at that moment and never look at the number again.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layer_runner import CaffeLayer
from test_gmf import random_bottoms

WINDOW = 23
SHAPE = (2, 21, 41, 41)  # VOC's classes and the paper's training crop: work for several threads

CONVOLUTION = """type: "Convolution" phase: TRAIN
convolution_param {{
  num_output: 32 kernel_size: 3 pad: {0} dilation: {0} weight_filler {{ value: 0.1 }}
}}"""


def fingerprints():
    """Return a line for each array that the layers compute: its name and a hash of its bits."""
    lines = []
    for dtype in (np.float32, np.float64):
        bottoms = [x.astype(dtype) for x in random_bottoms(SHAPE, WINDOW)]
        for name in ("GMFEven", "GMFOdd", "Similarity"):
            inputs = [bottoms[0] / 10] if name == "Similarity" else bottoms
            layer = CaffeLayer(f'type: "{name}"', dtype, num_bottoms=len(inputs))
            top = layer.forward(*inputs)
            for i, array in enumerate([top, *layer.backward(top)]):
                what = f"{name} {layer.dtype} {'gradient of bottom ' + str(i - 1) if i else 'top'}"
                lines.append(f"{what}: {hashlib.sha256(array.tobytes()).hexdigest()}")
    for channels, dilation in ((16, 1), (32, 1), (32, 2)):  # direct, and by Winograd's algorithm
        pixels = np.random.default_rng(0).normal(size=(2, channels, 41, 41)).astype(np.float32)
        layer = CaffeLayer(CONVOLUTION.format(dilation), np.float32)
        top = layer.forward(pixels)
        for what, array in (("top", top), ("gradient of bottom 0", layer.backward(top)[0])):
            hashed = hashlib.sha256(array.tobytes()).hexdigest()
            lines.append(f"Convolution {channels} {dilation} {what}: {hashed}")
    return lines


def fingerprints_with(threads):
    folder = Path(__file__).resolve().parent
    path = os.pathsep.join([str(folder), *sys.path])
    output = subprocess.check_output(
        [
            sys.executable,
            "-c",
            "import test_threads; print(*test_threads.fingerprints(), sep='\\n')",
        ],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path},
        text=True,
    )
    return output.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_bits_of_one(threads):
    assert fingerprints_with(threads) == fingerprints_with(1)
