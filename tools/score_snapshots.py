#!/usr/bin/env python3
"""Score every snapshot of a training, so that tools/plot_training.py can plot the mean IoU.

Example: tools/score_snapshots.py runs/shapes --root data/shapes/VOC --split val

RUN is the folder of a run of tools/train.py. Scores each snapshot of the stages that give class
scores, unary and finetune, as tools/eval.py does, and writes RUN/scores/STAGE_ITERATION, which
holds results.json and what tools/eval.py writes with it. To resume after a stop, or to score the
snapshots of a training that has gone on, run the same command again: nothing is scored twice.
Exit codes: 0 done, 1 cannot score, 2 bad usage.
"""

import sys
from pathlib import Path

from gcrf import cli, voc
from gcrf.evaluation import evaluate
from gcrf.network import Network
from gcrf.runs import SCORES, snapshots

DEPLOY = {"unary": "deploy_unary.prototxt", "finetune": "deploy.prototxt"}  # in RUN/nets


def score(args):
    """Score as the arguments say; raise OSError or ValueError for what is wrong."""
    found = [(stage, *each) for stage in args.stages for each in snapshots(args.run, stage)]
    if not found:
        folder = args.run / "snapshots"
        raise ValueError(
            f"no snapshot; expected {folder}/STAGE_iter_N.caffemodel, as tools/train.py writes them"
        )
    list_path = voc.list_path(args.root, args.split)
    for stage, iteration, weights in found:
        results = evaluate(
            Network(args.run / "nets" / DEPLOY[stage], weights, gpu=args.gpu),
            *(args.root, list_path, args.run / SCORES / f"{stage}_{iteration}"),
            unary=stage == "finetune",
            resume=True,
        )
        scores = ", ".join(f"{name} {result['mean_iou']:.2f}" for name, result in results.items())
        print(f"{stage} {iteration}: mean IoU of {scores}", flush=True)


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--root", type=Path, required=True, help="folder of the data set, in VOC's layout"
    )
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument(
        "--stages", nargs="+", choices=DEPLOY, default=list(DEPLOY), help="default: both"
    )
    parser.add_argument("--gpu", type=int, metavar="ID", help="run on this GPU (default: the CPU)")
    return cli.run("score_snapshots", score, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
