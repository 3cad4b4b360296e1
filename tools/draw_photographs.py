#!/usr/bin/env python3
"""Draw photographs beside their label maps by the unary, a dense CRF and the Gaussian CRF.

Example:
    tools/draw_photographs.py cat.jpg street.jpg --pixel 120 88 --pixel 40 200 \\
        --dense-crf dense_crf.json --output photographs.png

Each row is a photograph. The last column shows how similar its neighbours are to one pixel: the
one given by --pixel, or the one whose scores the CRF changed most. Without --deploy and --weights,
the network is the trained model that comes with the project. tools/dense_crf.py writes the dense
CRF's parameters.
Exit codes: 0 done, 1 bad file or pixel, 2 bad usage.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gcrf import cli, dense_crf, drawing, network, voc
from gcrf.explanation import draw_similarities, explain
from gcrf.images import read_photo
from gcrf.segmenter import UNARY, Segmenter, labels

CELL = 2.2  # inches, the width of a picture


def photographs_figure(segmenter, images, pixels, parameters=None):
    """Return the Figure.

    images: [(H, W, 3) uint8 BGR, ...]; pixels: (x, y) in each, or None; parameters: of the dense
    CRF, which has no column without them.
    """
    rows = [_row(segmenter, *each, parameters) for each in zip(images, pixels, strict=True)]
    titles = ["photograph", *rows[0][1], "similarity s to one pixel"]
    heights = [CELL * image.shape[0] / image.shape[1] for image in images]
    figure = Figure(figsize=(CELL * len(titles) + 0.6, sum(heights) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), len(titles), squeeze=False, height_ratios=heights)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    for panels, (explanation, maps) in zip(grid, rows, strict=True):
        pictures = [explanation.image, *map(drawing.colour, maps.values())]
        for axes, picture in zip(panels, pictures, strict=False):  # the last panel is no picture
            axes.imshow(drawing.rgb(picture), interpolation="nearest")
            axes.set_axis_off()
        draw_similarities(panels[-1], explanation, "s")
    occurring = {label for _, maps in rows for each in maps.values() for label in np.unique(each)}
    names = voc.names_of_classes(None, segmenter.num_classes)
    drawing.add_legend(figure, occurring, names, columns=7)
    return figure


def _row(segmenter, image, pixel, parameters):
    """Return (the image's Explanation, {title: label map})."""
    explanation = explain(segmenter, image, pixel)
    unary = segmenter.scores(image, [UNARY])[0]
    maps = {"unary": labels(unary)}
    if parameters:
        maps["unary + dense CRF"] = dense_crf.refine(unary, image, parameters)
    return explanation, maps | {"GCRF": explanation.labels}


def draw(args):
    """Draw what the arguments name; raise OSError or ValueError for what is wrong."""
    pixels = args.pixel or [None] * len(args.images)
    if len(pixels) != len(args.images):
        raise ValueError(
            f"{len(pixels)} times --pixel for {len(args.images)} photographs, expected one for "
            "each, or none at all"
        )
    parameters = dense_crf.load(args.dense_crf) if args.dense_crf else None
    segmenter = Segmenter(*network.chosen_files(args))
    images = [read_photo(path) for path in args.images]
    figure = photographs_figure(segmenter, images, pixels, parameters)
    drawing.save(figure, args.output, dpi=90)


def main(argv=None):
    parser = cli.parser(__doc__)
    network.add_files(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image file")
    parser.add_argument(
        "--pixel",
        type=int,
        nargs=2,
        action="append",
        metavar=("X", "Y"),
        help="a pixel of each photograph, in their order; give one for each, or none",
    )
    parser.add_argument(
        "--dense-crf",
        type=Path,
        metavar="PARAMETERS",
        help="JSON file written by tools/dense_crf.py",
    )
    cli.add_picture(parser)
    return cli.run("draw_photographs", draw, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
