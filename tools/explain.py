#!/usr/bin/env python3
"""Show how one pixel of an image got its label from the Gaussian CRF.

Examples:
    tools/explain.py photo.jpg
    tools/explain.py --deploy prototxt/deploy.prototxt \\
        --weights snapshots/finetune_iter_31000.caffemodel photo.jpg --pixel 120 88 \\
        --output explained.png

The figure shows the similarity s of each neighbour to the pixel, the class compatibility C, and,
for the unary and after each GMF half step, the energy (1) and the label map. The pixel is moved to
the nearest cell of the CRF's grid, every 8 image pixels. Without --pixel, the cell is the one whose
scores the CRF changed most, among those whose label it changed, if any. The numbers are written
beside the picture, as explained.json. Exit codes: 0 done, 1 bad file or pixel, 2 bad usage.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gcrf import atomic, cli, drawing, network, voc
from gcrf.explanation import draw_similarities, explain
from gcrf.images import read_photo
from gcrf.nets import STRIDE
from gcrf.segmenter import Segmenter, labels
from python_layers.neighbourhood import neighbours


def numbers(explanation, class_names):
    """Return what the figure shows, as a dictionary for JSON; pixels are [x, y]."""
    row, column = explanation.cell
    label_maps = [labels(scores) for scores in explanation.steps.values()]
    return {
        "pixel": list(explanation.pixel),
        "neighbours": [
            {
                "pixel": [x * STRIDE, y * STRIDE],
                "similarity": similarity,
                "label": class_names[label_maps[-1][y, x]],
            }
            for y, x, similarity in neighbours(explanation.similarity, row, column)
        ],
        "steps": [
            {
                "step": name,
                "energy": energy,
                "label": class_names[label],
                "scores": explanation.steps[name][:, row, column].tolist(),
            }
            for name, energy, label in zip(
                explanation.steps, explanation.energies, explanation.cell_labels, strict=True
            )
        ],
        "classes": class_names,
        "compatibility": explanation.compatibility.tolist(),
    }


# ---- The figure and its panels


def explain_figure(explanation, class_names):
    """Return a Figure of an Explanation."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[5, 4])
    left, right = top.subplots(1, 2)
    _draw_neighbours(left, explanation, class_names)
    drawing.draw_compatibility(right, explanation.compatibility, class_names)
    left, right = bottom.subfigures(1, 2, width_ratios=[1, 2])
    _draw_energies(left.subplots(), explanation)
    _draw_label_maps(right, explanation, class_names)
    return figure


def _draw_neighbours(axes, explanation, class_names):
    draw_similarities(axes, explanation, "similarity s to the marked pixel")
    x, y = explanation.pixel
    before, after = (class_names[explanation.cell_labels[step]] for step in (0, -1))
    axes.set_title(f"pixel {x} {y}: unary {before}, GCRF {after}")


def _draw_energies(axes, explanation):
    axes.plot(list(explanation.steps), explanation.energies, "o-", color="#0072b2")
    axes.tick_params("x", rotation=90)
    axes.grid(color="#e6e6e6")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("energy E")


def _draw_label_maps(figure, explanation, class_names):
    """Draw the unary and the result at the left, then a column for each GMF layer."""
    maps = {name: labels(scores) for name, scores in explanation.steps.items()}
    grid = figure.subplots(2, 1 + len(maps) // 2)
    shown = [("unary", maps["unary"]), *list(maps.items())[1::2]]
    shown += [("result", explanation.labels), *list(maps.items())[2::2]]
    for axes, (name, label_map) in zip(grid.flat, shown, strict=True):
        axes.imshow(drawing.rgb(drawing.colour(label_map)), interpolation="nearest")
        axes.set_title(name, size="medium")
        axes.set_axis_off()
    occurring = np.unique([*maps.values()]).tolist()
    drawing.add_legend(figure, occurring, class_names, columns=5)


# ---- The command


def run(args):
    """Explain as the arguments say; raise OSError or ValueError for what is wrong."""
    segmenter = Segmenter(*network.chosen_files(args))
    class_names = voc.names_of_classes(args.root, segmenter.num_classes)
    explanation = explain(segmenter, read_photo(args.image), args.pixel)
    drawing.save(explain_figure(explanation, class_names), args.output, dpi=110)
    with atomic.new_file(args.output.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(numbers(explanation, class_names), indent=1) + "\n")


def main(argv=None):
    parser = cli.parser(__doc__)
    network.add_files(parser)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image file")
    parser.add_argument("--pixel", type=int, nargs=2, metavar=("X", "Y"), help="in the image")
    parser.add_argument(
        "--root", type=Path, help="data set with classes.txt (default: VOC's names)"
    )
    cli.add_picture(parser, default="explained.png")
    return cli.run("explain", run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
