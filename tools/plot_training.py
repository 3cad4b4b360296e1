#!/usr/bin/env python3
"""Draw a training: its loss, its learning rate, and the scores on the validation images.

Example: tools/plot_training.py runs/shapes --output training.png
Example: tools/plot_training.py caffe.log --output training.svg

Reads the folder of a run of tools/train.py, whose stages stand side by side, or logs of `caffe
train` (its standard error). The score is the mean IoU where tools/score_snapshots.py has been, else
the pixel accuracy that Caffe logs. Works while the training still runs.
Exit codes: 0 done, 1 nothing to draw, 2 bad usage.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from gcrf import atomic
from gcrf.nets import PAPER
from gcrf.training_log import read_csv, read_log

FORMATS = (".png", ".svg", ".pdf")
SCORES = "scores"  # folder of a run: tools/score_snapshots.py writes SCORES/STAGE_N/results.json
TRAIN, TEST = "#0072b2", "#d55e00"  # apart for the colour-blind too
MEAN_IOU = ("#d55e00", "#009e73", "#cc79a7")


class Curves(NamedTuple):
    """What is known of one stage: rows as in training_log, and the scores of its snapshots."""

    name: str
    rows: list
    mean_iou: dict  # {what was scored: [(iteration, per cent), ...]}

    def column(self, name):
        """Return the iterations and the values of a column, where it has any."""
        pairs = [(int(row["iteration"]), float(row[name])) for row in self.rows if name in row]
        return np.array(pairs).reshape(-1, 2).T


def read_scores(run_folder, stage):
    """Return the mean IoU of the snapshots of a run's stage, as in Curves."""
    found = {}
    for path in run_folder.glob(f"{SCORES}/{stage}_*/results.json"):
        iteration = path.parent.name.removeprefix(f"{stage}_")
        for name, result in json.loads(path.read_text()).items():
            found.setdefault(name, []).append((int(iteration), result["mean_iou"]))
    return {name: sorted(points) for name, points in found.items()}


def read_run(source):
    """Return the Curves of each stage in the folder of a run, in order, or those of a log."""
    if source.is_dir():
        curves = [
            Curves(stage, read_csv(source / f"{stage}.csv"), read_scores(source, stage))
            for stage in PAPER.stages
            if (source / f"{stage}.csv").is_file()
        ]
        expected = "a folder with STAGE.csv in it, as tools/train.py writes them"
    else:
        curves = [Curves(source.stem, read_log(source), {})]
        expected = "the log that caffe train writes to standard error with GLOG_minloglevel=0"
    if not any(stage.rows for stage in curves):
        raise ValueError(f"{source}: no loss of any iteration; expected {expected}")
    return curves


def draw(curves):
    """Return a Figure of stages, [Curves, ...], a column each."""
    rows = 3 if any(_has_scores(stage) for stage in curves) else 2
    figure = Figure(figsize=(0.4 + 3.2 * len(curves), 1 + 1.7 * rows), layout="constrained")
    grid = figure.subplots(
        rows, len(curves), squeeze=False, sharex="col", height_ratios=[1.6, 1, 1.6][:rows]
    )
    for panels, stage in zip(grid.T, curves, strict=True):
        panels[0].set_title(stage.name.replace("_", " "), fontweight="bold")
        _draw_loss(panels[0], stage)
        _draw_rate(panels[1], stage)
        if rows == 3:
            _draw_scores(panels[2], stage)
        drawn = [panel for panel in panels if panel.axison]
        for panel in drawn:
            panel.grid(color="#e6e6e6")
            panel.spines[["top", "right"]].set_visible(False)
        drawn[-1].set_xlabel("iteration")
        drawn[-1].tick_params(labelbottom=True)
        drawn[-1].xaxis.set_major_locator(MaxNLocator(4, integer=True))
        drawn[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    grid[0, 0].set_ylabel("loss")
    grid[1, 0].set_ylabel("learning rate")
    return figure


def _has_scores(stage):
    return bool(stage.mean_iou) or any("test_accuracy" in row for row in stage.rows)


def _draw_loss(axes, stage):
    axes.plot(*stage.column("loss"), color=TRAIN, label="training")
    if any("test_loss" in row for row in stage.rows):
        axes.plot(*stage.column("test_loss"), color=TEST, label="validation")
    axes.legend(frameon=False)


def _draw_rate(axes, stage):
    iterations, rates = stage.column("learning_rate")
    if rates.size:  # the last rate is that until the last row
        end = int(stage.rows[-1]["iteration"])
        axes.step([*iterations, end], [*rates, rates[-1]], color=TRAIN, where="post")
        axes.set_ylim(rates.min() / 3, rates.max() * 3)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_scores(axes, stage):
    if not _has_scores(stage):
        axes.set_axis_off()  # the similarity loss goes without
        return
    if stage.mean_iou:
        axes.set_prop_cycle(color=MEAN_IOU)
        for name, points in stage.mean_iou.items():
            axes.plot(*zip(*points, strict=True), ".-", label=name)
        axes.set_ylabel("mean IoU, per cent")
        axes.legend(frameon=False)
    else:
        iterations, accuracy = stage.column("test_accuracy")
        axes.plot(iterations, 100 * accuracy, color=TEST)
        axes.set_ylabel("accuracy, per cent")


def training_figure(run_folder):
    """Return a Figure of all stages of a run of tools/train.py; raises ValueError without any."""
    return draw(read_run(Path(run_folder)))


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path, nargs="+", help="folder of a run, or logs")
    parser.add_argument("--output", type=Path, required=True, help=f"picture: {' '.join(FORMATS)}")
    args = parser.parse_args(argv)
    if args.output.suffix not in FORMATS:
        parser.error(f"--output is {args.output}, expected a name ending with {' '.join(FORMATS)}")
    try:
        figure = draw([stage for source in args.sources for stage in read_run(source)])
        with atomic.new_file(args.output) as partial:
            figure.savefig(partial, dpi=150)
    except (OSError, ValueError) as error:
        print(f"plot_training: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
