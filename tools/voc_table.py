#!/usr/bin/env python3
"""Make tables from one or more runs of tools/voc_lite.py, such as several seeds.

Example:
    tools/voc_table.py runs/voc_1 runs/voc_2 runs/voc_3 --ablations runs/ablations/*

Writes them into docs/voc.md, between its two "results" comments: the methods' scores (mean, and
for several runs minimum and maximum), each class, the scores near borders, the gains by image,
times, and what was run, and where. Runs may differ only in the seed. An ablation is another folder
of tools/voc_lite.py, or one with only run/ from tools/train.py and eval/ from tools/eval.py; its
row names the settings that differ from those of the first run.
Exit codes: 0 done, 1 something is missing or does not belong together, 2 bad usage.
"""

import itertools
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gcrf import atomic, cli, markdown, origin, report
from gcrf.report import METHODS, read_json
from gcrf.runs import DENSE_CRF, read_run
from gcrf.scores import TRIMAP

PLACES = ("output", "snapshots", "data")  # settings that say where files are
GAINS = (-20, -10, -5, -2, -0.5, 0.5, 2, 5, 10, 20)  # edges of the histogram, points of mean IoU
LONGEST_BAR = 50  # characters


class Run(NamedTuple):
    """A folder of tools/voc_lite.py, read."""

    folder: Path
    settings: dict  # of the training
    results: dict  # {key of METHODS: results of tools/eval.py}
    steps: dict  # {step: its command, seconds, commit and machine}
    stages: dict  # {stage: (iterations, seconds)}
    times: dict  # {method: seconds an image}


def read_settings(folder):
    """Return the settings of the training in a folder, without PLACES."""
    settings = read_json(folder / "run/settings.json", "tools/train.py")
    return {name: value for name, value in settings.items() if name not in PLACES}


def read(folder):
    """Return a Run; raise OSError or ValueError where it is not complete."""
    evaluations = (folder / name for name in ("eval", "eval_unary", "eval_before"))
    last = {curves.name: curves.rows[-1] for curves in read_run(folder / "run")}
    return Run(
        folder,
        read_settings(folder),
        report.read_results(*evaluations),
        read_json(folder / "steps.json", "tools/voc_lite.py"),
        {name: (int(row["iteration"]), float(row["seconds"])) for name, row in last.items()},
        read_json(folder / "timing.json", "tools/voc_lite.py"),
    )


def differences(settings, others):
    """Return {name: value} of the settings that others lack, or have with another value."""
    return {name: value for name, value in settings.items() if others.get(name) != value}


def check_alike(runs):
    """Raise ValueError if runs differ in more than the seed."""
    first = runs[0]
    for run in runs[1:]:
        changed = differences(run.settings, first.settings).keys() - {"seed"}
        if changed:
            raise ValueError(
                f"{run.folder} and {first.folder} differ in {', '.join(sorted(changed))}: give "
                "runs that differ only in the seed, and others as --ablations"
            )
        if run.results["gcrf"]["images"].keys() != first.results["gcrf"]["images"].keys():
            raise ValueError(f"{run.folder} and {first.folder} scored different images")


# ---- Tables


def spread(values, sign=""):
    """Return the mean of values and, if there are several, the minimum and maximum."""
    mean = f"{np.mean(values):{sign}.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):{sign}.2f} to {max(values):{sign}.2f})"


def comparison(runs):
    """Return the table of the methods' scores."""
    rows = []
    for key in runs[0].results:
        ious, accuracies = (
            np.array([run.results[key][name] for run in runs])
            for name in ("mean_iou", "pixel_accuracy")
        )
        gains = [
            "" if key in ("unary", rival) else spread(ious - _mean_ious(runs, rival), "+")
            for rival in ("unary", DENSE_CRF)
        ]
        if key == DENSE_CRF:
            gains[0] = spread(ious - _mean_ious(runs, "unary"), "+")
        rows.append((METHODS[key], spread(ious), *gains, spread(accuracies)))
    head = ["per cent", "mean IoU", "over the unary", "over the dense CRF", "pixel accuracy"]
    return markdown.table(head, rows)


def _mean_ious(runs, key):
    return np.array([run.results[key]["mean_iou"] for run in runs])


def near_borders(runs):
    """Return the table of the mean IoU in each band along borders."""
    rows = []
    for key in runs[0].results:
        cells = [
            f"{np.mean([run.results[key]['trimap'][str(width)]['mean_iou'] for run in runs]):.2f}"
            for width in TRIMAP
        ]
        rows.append((METHODS[key], *cells))
    return markdown.table(["within, pixels", *map(str, TRIMAP)], rows)


def classes(runs):
    """Return the table of each class's IoU, means over the runs in which it occurs, or "-"."""
    keys, rows = list(runs[0].results), []
    for index, name in enumerate(runs[0].results["gcrf"]["classes"]):
        means = {}
        for key in keys:
            found = [run.results[key]["iou"][index] for run in runs]
            means[key] = np.mean([iou for iou in found if iou is not None] or [np.nan])
        cells = [*(f"{means[key]:.1f}" for key in keys), f"{means['gcrf'] - means['unary']:+.1f}"]
        rows.append((name, *("-" if "nan" in cell else cell for cell in cells)))
    return markdown.table(["IoU", *(METHODS[key] for key in keys), "GCRF over unary"], rows)


def image_gains(runs):
    """Return the gain of the GCRF over the unary, per image and run, in points of mean IoU."""
    pairs = [
        (run.results["gcrf"]["images"][name], before)
        for run in runs
        for name, before in run.results["unary"]["images"].items()
    ]
    return np.array([after - before for after, before in pairs if None not in (after, before)])


def histogram(gains):
    """Return the lines of a histogram of the gains, with the edges GAINS."""
    counts = np.bincount(np.searchsorted(GAINS, gains, "right"), minlength=len(GAINS) + 1)
    edges = [f"{edge:+g}" for edge in GAINS]
    names = [f"below {edges[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(edges))]
    names.append(f"{edges[-1]} and more")
    return "\n".join(
        f"{name:>15} {count:6} {'#' * round(LONGEST_BAR * count / max(counts))}".rstrip()
        for name, count in zip(names, counts, strict=True)
    )


def training_times(runs):
    """Return the table of what was trained and tuned, and how many minutes it took."""
    rows = []
    for stage, (iterations, _) in runs[0].stages.items():
        rows.append((stage, str(iterations), _minutes(run.stages[stage][1] for run in runs)))
    seconds = (run.steps["dense CRF"]["seconds"] for run in runs)
    rows.append(("dense CRF, tuning", "", _minutes(seconds)))
    total = (sum(step["seconds"] for step in run.steps.values()) for run in runs)
    rows.append(("all steps", "", _minutes(total)))
    return markdown.table(["", "iterations", "minutes"], rows)


def _minutes(seconds):
    return spread([each / 60 for each in seconds])


def inference_times(runs):
    """Return the table of the seconds that each method takes per image."""
    rows = [
        (METHODS[name], spread([run.times["seconds"][name] for run in runs]))
        for name in runs[0].times["seconds"]
    ]
    return markdown.table(["", "seconds an image"], rows)


def ablations(folders, first):
    """Return the table of other trainings, named by the settings that differ from the first run."""
    columns = ("unary", DENSE_CRF, "gcrf_unary", "gcrf")
    rows = [("as above", *_scores(first.results, columns))]
    for folder in folders:
        changed = differences(read_settings(folder), first.settings)
        name = ", ".join(f"{name} = {value}" for name, value in changed.items()) or "the same"
        found = read_json(folder / "eval/results.json", "tools/eval.py")
        results = {"gcrf": found["network"], "gcrf_unary": found.get("unary")}
        if (folder / "eval_unary").exists():  # else it started from another one's unary
            results |= read_json(folder / "eval_unary/results.json", "tools/eval.py")
        if results["gcrf"]["images"].keys() != first.results["gcrf"]["images"].keys():
            raise ValueError(f"{folder} and {first.folder} scored different images")
        rows.append((name, *_scores(results, columns)))
    head = ["mean IoU", *(METHODS[key] for key in columns), "its pixel accuracy"]
    return markdown.table(head, rows)


def _scores(results, keys):
    """Return the mean IoU of each method that was scored, and the GCRF's pixel accuracy."""
    ious = [f"{results[key]['mean_iou']:.2f}" if results.get(key) else "" for key in keys]
    return [*ious, f"{results['gcrf']['pixel_accuracy']:.2f}"]


def what_was_run(runs):
    """Return the commands of the first run, and the commits and machines of all."""
    steps = [step for run in runs for step in run.steps.values()]
    commits, machines = (
        ", ".join(dict.fromkeys(step[name] for step in steps)) for name in ("commit", "machine")
    )
    commands = "\n".join(f"    {step['command']}" for step in runs[0].steps.values())
    return f"Commit {commits}; {machines}. The steps of the first run:\n\n{commands}"


def tables(runs, folders, command):
    """Return all tables as Markdown; folders: of ablations; command: the text that made this."""
    seeds = ", ".join(str(run.settings["seed"]) for run in runs)
    images = len(runs[0].results["gcrf"]["images"])
    gains = image_gains(runs)
    better, worse = (gains > GAINS[5]).mean(), (gains < GAINS[4]).mean()
    plural = "s" if len(runs) > 1 else ""
    several = " Means, and in brackets the least and the greatest." if len(runs) > 1 else ""
    parts = [
        f"By `{command}`: {len(runs)} run{plural}, seed{plural} {seeds}, scored on {images} "
        f"images.{several}",
        comparison(runs),
        "**Near borders.** Mean IoU of the pixels within so many of another label, or of void.",
        near_borders(runs),
        "**By class.**",
        classes(runs),
        f"**By image.** The gain of the GCRF over the unary, points of an image's mean IoU: "
        f"{better:.0%} gain more than {GAINS[5]}, {worse:.0%} lose more; the mean is "
        f"{gains.mean():+.2f}, the median {np.median(gains):+.2f}.",
        f"```\n{histogram(gains)}\n```",
        f"**Time.** Inference: {runs[0].times['images']} images on {runs[0].times['machine']}; the "
        "networks use all cores, the dense CRF one.",
        training_times(runs),
        inference_times(runs),
    ]
    if folders:
        parts += ["**Ablations.** As the first run but for the settings that are named."]
        parts += [ablations(folders, runs[0])]
    return "\n\n".join([*parts, f"**What was run.** {what_was_run(runs)}"])


def make(args):
    """Write the tables; raise OSError or ValueError for what is wrong."""
    runs = [read(folder) for folder in args.runs]
    check_alike(runs)
    text = markdown.between_markers(
        args.page.read_text(), "results", tables(runs, args.ablations, args.command)
    )
    with atomic.new_file(args.page) as partial:
        partial.write_text(text)
    print(f"wrote {args.page}")


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="by tools/voc_lite.py")
    parser.add_argument(
        "--ablations", type=Path, nargs="+", default=[], metavar="FOLDER", help="other trainings"
    )
    parser.add_argument(
        "--page",
        type=Path,
        default=origin.ROOT / "docs/voc.md",
        help="Markdown file to write to (default: docs/voc.md)",
    )
    args = parser.parse_args(argv)
    args.command = shlex.join(["tools/voc_table.py", *(sys.argv[1:] if argv is None else argv)])
    return cli.run("voc_table", make, args)


if __name__ == "__main__":
    sys.exit(main())
