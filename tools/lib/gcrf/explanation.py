"""What the Gaussian CRF computes for an image, and how similar a pixel's neighbours are to it."""

import re
from typing import NamedTuple

import numpy as np

from gcrf import drawing
from gcrf.nets import STRIDE
from gcrf.segmenter import SCORES, UNARY, labels
from python_layers import gmf
from python_layers.neighbourhood import neighbours, window_of

HALF_STEP = re.compile(r"gmf(\d+)/(even|odd)")  # blobs of the deploy net, in its order


class Explanation(NamedTuple):
    """What the net computes for an image; the grid has h x w cells, cell (0, 0) on pixel (0, 0)."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    labels: np.ndarray  # (H, W) uint8, the net's result
    cell: tuple  # (row, column) of the explained cell
    similarity: np.ndarray  # s, (P, h, w)
    compatibility: np.ndarray  # C, (K, K)
    steps: dict  # {"unary", "1 even", "1 odd", ...: scores (K, h, w)}
    energies: list  # E of each step

    @property
    def pixel(self):
        """The image pixel (x, y) that the cell lies on."""
        row, column = self.cell
        return column * STRIDE, row * STRIDE

    @property
    def cell_labels(self):
        """The label of the cell after each step."""
        return [int(scores[:, *self.cell].argmax()) for scores in self.steps.values()]


def choose_cell(unary, result, size):
    """Return the cell (row, column) whose scores changed most, if possible with another label.

    unary, result: (K, h, w) before and after the CRF; size: (H, W) of the image, so that no cell
    in its padding is chosen.
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


def draw_similarities(axes, explanation, label):
    """Draw the image, and how similar the cell's neighbours are to it, on axes of matplotlib.

    label: of the colour bar, which goes up to the greatest similarity.
    """
    shown = np.full(explanation.similarity.shape[1:], np.nan)  # transparent
    for y, x, similarity in neighbours(explanation.similarity, *explanation.cell):
        shown[y, x] = similarity
    axes.imshow(drawing.rgb(explanation.image))
    height, width = (side * STRIDE - STRIDE / 2 for side in shown.shape)
    extent = (-STRIDE / 2, width, height, -STRIDE / 2)  # a square around each cell's pixel
    picture = axes.imshow(shown, extent=extent, cmap="viridis", vmin=0)
    axes.figure.colorbar(picture, shrink=0.6, label=label)
    axes.plot(*explanation.pixel, "o", color="red", markersize=6, markeredgecolor="white")
    axes.set_axis_off()
