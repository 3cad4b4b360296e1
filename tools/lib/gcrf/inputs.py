"""What the tools that run a network on a data set take: the network's arguments, and samples."""

import argparse
from pathlib import Path

import caffe
import cv2
import numpy as np
from prepare_lmdb import check_image, read_bytes

from gcrf import label_maps
from gcrf.segmenter import Segmenter


class BadFileError(ValueError):
    """A file that cannot be used; the message names it."""


def read_image(sample):
    """Return a sample's image, (H, W, 3) uint8 BGR."""
    try:
        data = read_bytes(sample.image)
        check_image(data)
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, ValueError) as error:
        raise BadFileError(f"{sample.image}: {error}") from error


def read_truth(sample):
    """Return a sample's label map, (H, W) uint8."""
    try:
        return label_maps.read_label_map(read_bytes(sample.label))
    except (OSError, ValueError) as error:
        raise BadFileError(f"{sample.label}: {error}") from error


def add_network_arguments(parser):
    """Add the arguments that name a network and how to run it."""
    parser.add_argument("--deploy", type=Path, required=True, help="deploy prototxt")
    parser.add_argument("--weights", type=Path, required=True, help=".caffemodel trained for it")
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


def load_network(args):
    """Return the Segmenter of the arguments of `add_network_arguments`."""
    if args.gpu is not None:
        caffe.set_device(args.gpu)
        caffe.set_mode_gpu()
    return Segmenter(args.deploy, args.weights, scales=args.scales, mirror=args.mirror)


def _scale(text):
    """A factor above 0, for argparse."""
    factor = float(text)
    if not 0 < factor <= 4:
        raise argparse.ArgumentTypeError(f"{factor} is not between 0 and 4")
    return factor
