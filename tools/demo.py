#!/usr/bin/env python3
"""Make the paper's comparison on a synthetic data set: unary, dense CRF and Gaussian CRF.

Example: tools/demo.py --output demo

Makes the data, trains all stages of the small networks, tunes a dense CRF to compare with, scores
them all on images that none of them has seen, and writes OUTPUT/report.html and OUTPUT/results.json
(mean IoU in per cent: unary, unary_dense_crf, gcrf_before_finetuning, gcrf). It prints the command
of each step. To resume after a stop, run the same command again: complete steps are skipped.
Exit codes: 0 done, 1 a step failed, 2 bad usage, 130 stopped by Ctrl-C or SIGTERM.
"""

import sys
from pathlib import Path

from gcrf import cli, nets, pipeline

DENSE_CRF_IMAGES = 40  # of the training split, to tune the dense CRF on
PREDICTED_IMAGES = 4


def make_steps(folder, settings=nets.SMALL, train_images=800, val_images=60):
    """Return the steps {name: command, a list}, in order; settings: of the networks."""
    data = folder / "shapes"
    images = range(train_images, train_images + PREDICTED_IMAGES)  # of val, which follows train
    options = {
        "train": ["--small", "--as-published"],
        "dense CRF": ["--images", DENSE_CRF_IMAGES],
    }
    return {
        "data": pipeline.command(
            *("data/shapes/make_shapes.py", "--out", data),
            *("--train", train_images, "--val", val_images),
        ),
        "lmdb": pipeline.command(
            *("tools/prepare_lmdb.py", "--root", data),
            *("--splits", "train", "val", "--out", folder / "lmdb"),
        ),
        **pipeline.comparison_steps(folder, settings, ["--root", data], ("train", "val"), options),
        "predict": pipeline.command(
            *("tools/predict.py", "--output", folder / "predictions"),
            *pipeline.network(*pipeline.trained(folder, settings, "finetune")),
            *(data / f"JPEGImages/shapes_{number:06d}.jpg" for number in images),
        ),
    }


def run(folder):
    """Run what is left of the demo; raises as pipeline.run."""
    pipeline.run(folder, make_steps(folder))
    print(f"Predictions: {folder / 'predictions'}")


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="folder to work in (default: %(default)s)"
    )
    folder = parser.parse_args(argv).output
    cli.raise_on_sigterm()
    return cli.run(
        *("demo", run, folder),
        errors=[pipeline.StepError],
        stopped="stopped; run the same command to resume",
    )


if __name__ == "__main__":
    sys.exit(main())
