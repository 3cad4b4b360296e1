#!/usr/bin/env python3
"""Show how the Gaussian CRF came to the label of one pixel of an image.

Examples:
    tools/explain.py photo.jpg
    tools/explain.py --deploy prototxt/deploy.prototxt \\
        --weights snapshots/finetune_iter_31000.caffemodel photo.jpg --pixel 120 88 \\
        --output explained.png

The figure has the similarity s of each neighbour to the pixel, the class compatibility C, and of
the unary and each GMF half step the energy (1) and the label map. The pixel is moved to the nearest
cell of the CRF's grid, every 8 image pixels. Without --pixel it is the cell whose scores the CRF
changed most, of those whose label it changed if there are any. Writes the same numbers beside the
picture, as explained.json. Exit codes: 0 done, 1 bad file or pixel, 2 bad usage.
"""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from gcrf import atomic, cli, drawing, network, voc
from gcrf.images import read_photo
from gcrf.nets import STRIDE
from gcrf.segmenter import SCORES, UNARY, Segmenter, labels
from python_layers import gmf
from python_layers.neighbourhood import neighbours, window_of

HALF_STEP = re.compile(r"gmf(\d+)/(even|odd)")  # blobs of the deploy net, in its order


class Explanation(NamedTuple):
    """What the net computed of an image; the grid has h x w cells, cell (0, 0) on pixel (0, 0)."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    labels: np.ndarray  # (H, W) uint8, the net's result
    cell: tuple  # (row, column) of the explained cell
    similarity: np.ndarray  # s, (P, h, w)
    compatibility: np.ndarray  # C, (K, K)
    steps: dict  # {"unary", "1 even", "1 odd", ...: scores (K, h, w)}
    energies: list  # E of each step

    @property
    def cell_labels(self):
        """The label of the cell after each step."""
        return [int(scores[:, *self.cell].argmax()) for scores in self.steps.values()]


def choose_cell(unary, result, size):
    """Return the cell (row, column) whose scores changed most, if possible with another label.

    unary, result: (K, h, w) before and after the CRF; size: (H, W) of the image, for its padding
    is not chosen.
    """
    height, width = (-(-side // STRIDE) for side in size)
    unary, result = unary[:, :height, :width], result[:, :height, :width]
    change = ((result - unary) ** 2).sum(axis=0)
    relabelled = labels(unary) != labels(result)
    if relabelled.any():
        change = np.where(relabelled, change, -1)
    return tuple(map(int, np.unravel_index(change.argmax(), change.shape)))


def explain(segmenter, image, pixel=None):
    """Return the Explanation of an image, (H, W, 3) uint8 BGR, with a Segmenter of a deploy net.

    pixel: (x, y), or None for that of choose_cell. Raises ValueError for one outside the image,
    and for a net without the CRF.
    """
    half_steps = [name for name in segmenter.blob_names if HALF_STEP.fullmatch(name)]
    blobs = segmenter.blobs(image, [UNARY, "similarity", "compatibility", *half_steps, SCORES])
    s, C, r = blobs["similarity"], blobs["compatibility"], blobs[UNARY]
    height, width = image.shape[:2]
    steps = {"unary": r} | {HALF_STEP.sub(r"\1 \2", name): blobs[name] for name in half_steps}
    if pixel is None:
        cell = choose_cell(r[0], blobs[half_steps[-1]][0], (height, width))
    else:
        x, y = pixel
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(
                f"pixel {x} {y} is outside the image of {width} x {height} pixels: expected "
                f"0..{width - 1} from the left and 0..{height - 1} from the top"
            )
        cell = (y + STRIDE // 2) // STRIDE, (x + STRIDE // 2) // STRIDE
    exact = [array.astype(np.float64) for array in (r, s, C)]
    return Explanation(
        image=image,
        labels=labels(blobs[SCORES][0])[:height, :width],
        cell=cell,
        similarity=s[0],
        compatibility=C,
        steps={name: scores[0] for name, scores in steps.items()},
        energies=[
            float(gmf.energy(scores.astype(np.float64), *exact, window=window_of(s.shape[1]))[0])
            for scores in steps.values()
        ],
    )


def numbers(explanation, class_names):
    """Return what the figure shows, as a dictionary for JSON; pixels are [x, y]."""
    row, column = explanation.cell
    label_maps = [labels(scores) for scores in explanation.steps.values()]
    return {
        "pixel": [column * STRIDE, row * STRIDE],
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
    row, column = explanation.cell
    shown = np.full(explanation.similarity.shape[1:], np.nan)  # transparent
    for y, x, similarity in neighbours(explanation.similarity, row, column):
        shown[y, x] = similarity
    axes.imshow(drawing.rgb(explanation.image))
    height, width = (side * STRIDE - STRIDE / 2 for side in shown.shape)
    extent = (-STRIDE / 2, width, height, -STRIDE / 2)  # a square around each cell's pixel
    picture = axes.imshow(shown, extent=extent, cmap="viridis", vmin=0, vmax=1)
    axes.figure.colorbar(picture, shrink=0.6, label="similarity s to the marked pixel")
    x, y = column * STRIDE, row * STRIDE
    axes.plot(x, y, "o", color="red", markersize=9, markeredgecolor="white")
    before, after = (class_names[explanation.cell_labels[step]] for step in (0, -1))
    axes.set_title(f"pixel {x} {y}: unary {before}, GCRF {after}")
    axes.set_axis_off()


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


def names_of_classes(root, num_classes):
    """Return the class names of the data set in root; without a root VOC's, or their numbers."""
    names = voc.class_names(root) if root else voc.CLASSES
    if root and len(names) != num_classes:
        raise ValueError(f"{root} has {len(names)} classes, the net {num_classes}; give its own")
    return names if len(names) == num_classes else [str(label) for label in range(num_classes)]


def run(args):
    """Explain as the arguments say; raise OSError or ValueError for what is wrong."""
    segmenter = Segmenter(*network.chosen_files(args))
    class_names = names_of_classes(args.root, segmenter.num_classes)
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
