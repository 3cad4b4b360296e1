"""The network that a command runs: its arguments, and how it is loaded."""

import argparse
from pathlib import Path
from typing import NamedTuple

import caffe

from gcrf import shipped
from gcrf.segmenter import Segmenter


class Network(NamedTuple):
    """A deploy net, its weights, and how to run it: see Segmenter."""

    deploy: Path
    weights: Path
    scales: list = (1.0,)
    mirror: bool = False
    gpu: int | None = None  # its number; None: the CPU

    def load(self):
        """Return its Segmenter."""
        if self.gpu is not None:
            caffe.set_device(self.gpu)
            caffe.set_mode_gpu()
        return Segmenter(self.deploy, self.weights, scales=self.scales, mirror=self.mirror)


def add_files(parser):
    """Add the arguments that `chosen_files` returns."""
    parser.add_argument(
        "--deploy", type=Path, help="deploy prototxt (default: of the trained model in models/)"
    )
    parser.add_argument("--weights", type=Path, help=".caffemodel trained for it (default: its)")


def chosen_files(args):
    """Return (deploy prototxt, .caffemodel) of `add_files`, by default those of the trained model.

    Raises FileNotFoundError if `make` has not made that, ValueError for one without the other.
    """
    files = args.deploy, args.weights
    if files == (None, None):
        return shipped.network_files()
    if None in files:
        raise ValueError("--deploy and --weights belong together: give both, or neither")
    return files


def add_arguments(parser):
    """Add the arguments that `chosen` makes a Network of."""
    add_files(parser)
    parser.add_argument("--mirror", action="store_true", help="average with the mirror image")
    parser.add_argument(
        "--scales",
        type=_scale,
        nargs="+",
        default=[1.0],
        metavar="FACTOR",
        help="average over the image resized by each (default: 1)",
    )
    parser.add_argument("--gpu", type=int, metavar="ID", help="run on this GPU (default: the CPU)")


def chosen(args):
    """Return the Network of the arguments of `add_arguments`; raises as `chosen_files`."""
    return Network(*chosen_files(args), args.scales, args.mirror, args.gpu)


def _scale(text):
    """A factor above 0, for argparse."""
    factor = float(text)
    if not 0 < factor <= 4:
        raise argparse.ArgumentTypeError(f"{factor} is not between 0 and 4")
    return factor
