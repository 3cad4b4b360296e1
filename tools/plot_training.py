#!/usr/bin/env python3
"""Plot a training: loss, learning rate, and scores on the validation images.

Example: tools/plot_training.py runs/shapes --output training.png
Example: tools/plot_training.py caffe.log --output training.svg

Reads the folder of a run of tools/train.py, whose stages are plotted side by side, or logs of
`caffe train` (its standard error). The score is the mean IoU found by tools/score_snapshots.py, or
else by tools/train.py on some images, or else the pixel accuracy that Caffe logs. Works while the
training is running. Exit codes: 0 done, 1 nothing to draw, 2 bad usage.
"""

import sys
from pathlib import Path

from gcrf import cli, drawing
from gcrf.runs import read_run


def plot(args):
    """Draw what the arguments name; raise OSError or ValueError for what is wrong."""
    figure = drawing.training_figure([stage for path in args.sources for stage in read_run(path)])
    drawing.save(figure, args.output, dpi=150)


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("sources", type=Path, nargs="+", help="folder of a run, or logs")
    cli.add_picture(parser)
    return cli.run("plot_training", plot, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
