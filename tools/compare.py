#!/usr/bin/env python3
"""Draw images, their label maps and the predictions of several networks side by side.

Example:
    tools/compare.py --root demo/shapes --ids shapes_000800 shapes_000801 \\
        --predictions unary=demo/eval_unary/results_unary GCRF=demo/eval/results \\
        --output comparison.png

Each row is an image. After the truth comes one column for each NAME=FOLDER, a folder of label maps
written by tools/eval.py --save-predictions.
Exit codes: 0 done, 1 missing or bad file, 2 bad usage.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gcrf import cli, drawing, voc
from gcrf.images import read_image, read_truth
from gcrf.label_maps import IGNORE_LABEL
from gcrf.runs import SUBMISSION

CELL = 1.9  # inches, the width and height of a picture


def comparison_figure(root, ids, predictions, label_folder="SegmentationClass"):
    """Return the Figure. predictions: {name of a column: folder of tools/eval.py's label maps}."""
    names, occurring = dict(enumerate(voc.class_names(root))), set()
    names[IGNORE_LABEL] = "not scored"
    titles = ["image", "truth", *predictions]
    size = CELL * len(titles), CELL * len(ids) + 0.6
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(ids), len(titles), squeeze=False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    for row, image_id in zip(grid, ids, strict=True):
        sample = voc.sample(root, image_id, label_folder)
        maps = [read_truth(sample.label)]
        for folder in predictions.values():
            maps.append(read_truth(folder / SUBMISSION / f"{image_id}.png"))
        occurring.update(*(np.unique(label_map).tolist() for label_map in maps))
        pictures = [read_image(sample.image), *map(drawing.colour, maps)]
        for axes, picture in zip(row, pictures, strict=True):
            axes.imshow(drawing.rgb(picture), interpolation="nearest")
            axes.set_axis_off()
    drawing.add_legend(figure, occurring, names, columns=len(titles))
    return figure


def column(text):
    """A column NAME=FOLDER, for argparse."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FOLDER")
    return name, Path(folder)


def compare(args):
    """Draw what the arguments name; raise OSError or ValueError for what is wrong."""
    figure = comparison_figure(args.root, args.ids, dict(args.predictions))
    drawing.save(figure, args.output, dpi=90)


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="data set in VOC's layout")
    parser.add_argument("--ids", nargs="+", required=True, metavar="ID", help="ids of the images")
    parser.add_argument(
        "--predictions", type=column, nargs="+", required=True, metavar="NAME=FOLDER"
    )
    cli.add_picture(parser)
    return cli.run("compare", compare, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
