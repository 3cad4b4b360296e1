#!/usr/bin/env python3
"""Train the Gaussian CRF network on a data set: all stages in order, each by `caffe train`.

Examples:
    tools/train.py --output runs/shapes --small
    tools/train.py --output runs/lite --trunk efficientnet_lite2 --set finetune.max_iter=4000
    tools/train.py --output runs/voc --unary DeepLab-MSc-LargeFOV.caffemodel --gpu 0
    tools/train.py --output runs/camvid --data data/camvid_lmdb --num-classes 11 \\
        --train-split train --test-size 481 --vgg VGG_ILSVRC_16_layers.caffemodel

Stages: unary, pretrain_phase1, pretrain_phase2, finetune. Complete stages are skipped, and a
stopped one resumes from its last complete snapshot: run the same command again.
Before finetuning, the scale of the filters f_m and the R that suit some training images best are
found and printed; from a bad start finetuning may never recover. --as-published leaves this out.
Writes OUTPUT/settings.json, OUTPUT/nets and OUTPUT/snapshots, and for each stage OUTPUT/STAGE.log,
Caffe's own log, and OUTPUT/STAGE.csv. This has a line whenever Caffe displays or tests: iteration,
seconds, learning_rate, loss, test_loss and test_accuracy. For each snapshot it also has, on 50 test
images, mean_iou and unary_mean_iou, the mean similarity of pairs with the same and with different
labels, how well it tells the two apart (similarity_auc, 0.5 to 1), and the smallest and largest
diagonal entry of C.
Exit codes: 0 done, 1 cannot train, 2 bad usage, 130 stopped by Ctrl-C or SIGTERM.
"""

import sys
from functools import partial
from pathlib import Path

from gcrf import cli, nets, training


def main(argv=None):
    parser = cli.parser(__doc__)
    names = list(nets.PAPER.stages)
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=names,
        metavar="STAGE",
        help="default: all; with --unary, those after unary; with a light trunk, pretrain only if "
        "--as-published",
    )
    parser.add_argument("--unary", type=Path, help=".caffemodel of a trained unary network")
    parser.add_argument(
        "--vgg", type=Path, help=".caffemodel of VGG-16, for stage unary to start from"
    )
    parser.add_argument("--gpu", help="caffe's device, such as 0; default: the CPU")
    nets.add_arguments(parser.add_argument_group("networks and data"))
    options = vars(parser.parse_args(argv))
    folder = options.pop("output")
    unary, vgg, gpu = (options.pop(name) for name in ("unary", "vgg", "gpu"))
    stages = options.pop("stages")
    try:
        settings = nets.chosen(
            {**options, "output": folder / "nets", "snapshots": folder / "snapshots"}
        )
    except ValueError as error:
        parser.error(str(error))
    if not stages:
        left_out = {"unary"} if unary else set()
        if not settings.pretrain:
            left_out |= {"pretrain_phase1", "pretrain_phase2"}
        stages = [name for name in names if name not in left_out]
    cli.raise_on_sigterm()
    return cli.run(
        "train",
        partial(training.train, settings, folder, stages, unary=unary, vgg=vgg, gpu=gpu),
        errors=[RuntimeError, FloatingPointError],
        stopped="stopped; run the same command to resume",
    )


if __name__ == "__main__":
    sys.exit(main())
