#!/usr/bin/env python3
"""Train the Gaussian CRF network on a data set: all stages in order, each by `caffe train`.

Examples:
    tools/train.py --output runs/shapes --small
    tools/train.py --output runs/lite --trunk efficientnet_lite2 --set finetune.max_iter=4000
    tools/train.py --output runs/voc --unary DeepLab-MSc-LargeFOV.caffemodel --gpu 0
    tools/train.py --output runs/camvid --data data/camvid_lmdb --num-classes 11 \\
        --train-split train --test-size 481 --vgg VGG_ILSVRC_16_layers.caffemodel

Stages: unary, pretrain_phase1, pretrain_phase2, finetune. A stage that is complete is skipped, one
that was stopped goes on from its last whole snapshot: to resume, run the same command again.
Finetuning starts from the scale of the filters f_m, and the R, that suit some training images best,
and says which: from another it may never recover. --as-published does without.
Writes OUTPUT/settings.json, OUTPUT/nets, OUTPUT/snapshots, and for each stage OUTPUT/STAGE.log,
Caffe's own log, and OUTPUT/STAGE.csv: iteration, seconds, learning_rate, loss, test_loss and
test_accuracy, a line for each time that Caffe shows or tests; and at each snapshot, on 50 test
images, mean_iou and unary_mean_iou, the mean similarity of pairs of one label and of two, how well
it tells them apart (similarity_auc, 0.5 to 1), and the least and greatest of C's diagonal.
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
        help="default: all, but with --unary those after unary, and with a light trunk pretrain "
        "only --as-published",
    )
    parser.add_argument("--unary", type=Path, help=".caffemodel of a trained unary network")
    parser.add_argument("--vgg", type=Path, help=".caffemodel of VGG-16, to start stage unary from")
    parser.add_argument("--gpu", help="device of caffe, such as 0; default: the CPU")
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
        stopped="stopped; run the same command to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
