#!/usr/bin/env python3
"""Score every snapshot of a training, so that tools/plot_training.py can draw the mean IoU.

Example: tools/score_snapshots.py runs/shapes --root data/shapes/VOC --split val

RUN is the folder of a run of tools/train.py. Runs tools/eval.py, which has the details, on each
snapshot of the stages that give class scores, unary and finetune, and writes
RUN/scores/STAGE_ITERATION/results.json and its companions. To go on after a stop, or with the
snapshots of a training that went on, run the same command again: what is done is not done twice.
Exit codes: 0 done, 1 cannot score, 2 bad usage.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

import eval as evaluation  # the tool, not Python's function
from plot_training import SCORES

DEPLOY = {"unary": "deploy_unary.prototxt", "finetune": "deploy.prototxt"}  # in RUN/nets


def snapshots(run, stage):
    """Return the weights of a stage, [(iteration, path), ...] in order."""
    found = (run / "snapshots").glob(f"{stage}_iter_*.caffemodel")
    return sorted((int(path.stem.rpartition("_")[2]), path) for path in found)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("--root", required=True, help="folder of the data set, in VOC's layout")
    parser.add_argument("--split", default="val", help="default: %(default)s")
    parser.add_argument(
        "--stages", nargs="+", choices=DEPLOY, default=list(DEPLOY), help="default: both"
    )
    parser.add_argument("--gpu", metavar="ID", help="run on this GPU (default: the CPU)")
    args = parser.parse_args(argv)
    found = [(stage, *snapshot) for stage in args.stages for snapshot in snapshots(args.run, stage)]
    if not found:
        expected = (
            f"{args.run / 'snapshots'}/STAGE_iter_N.caffemodel, as tools/train.py writes them"
        )
        print(f"score_snapshots: no snapshot; expected {expected}", file=sys.stderr)
        return 1
    for stage, iteration, weights in found:
        folder = args.run / SCORES / f"{stage}_{iteration}"
        command = ["--deploy", str(args.run / "nets" / DEPLOY[stage]), "--weights", str(weights)]
        command += ["--root", args.root, "--split", args.split, "--resume"]
        command += ["--output", str(folder)]
        command += ["--unary"] if stage == "finetune" else []
        command += ["--gpu", args.gpu] if args.gpu else []
        with contextlib.redirect_stdout(io.StringIO()):  # its table
            failed = evaluation.main(command)
        if failed:
            return 1
        results = json.loads((folder / "results.json").read_text())
        scores = ", ".join(f"{name} {result['mean_iou']:.2f}" for name, result in results.items())
        print(f"{stage} {iteration}: mean IoU of {scores}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
