"""Everything that draws: label maps in colours, overlays, legends, sheets, and figures.

Images are (H, W, 3) uint8 BGR, as Segmenter takes them, and so are the results. `rgb` converts one
for matplotlib and PIL.
"""

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter
from PIL import Image, ImageDraw, ImageFont

from gcrf import atomic, voc
from gcrf.label_maps import IGNORE_LABEL

TRAIN, TEST = "#0072b2", "#d55e00"  # distinct for the colour-blind too
MEAN_IOU = ("#d55e00", "#009e73", "#cc79a7")
LINE = 22  # pixels, the height of a line of text on a sheet
ENTRY = 200  # pixels, the width of an entry of a sheet's legend


# ---- Images and label maps


def rgb(image):
    """Return an image with its colours in the other order."""
    return image[..., ::-1]


def colour(label_map):
    """Return a label map, (H, W) uint8, in VOC's colours, with ignored pixels white."""
    palette = voc.palette()
    palette[IGNORE_LABEL] = 255
    return rgb(palette)[label_map]


def overlay(image, label_map):
    """Return an image half covered by the colours of everything but the background."""
    mixed = cv2.addWeighted(image, 0.5, colour(label_map), 0.5, 0)
    return np.where(label_map[:, :, None] == 0, image, mixed)


def sheet(titles, rows, legend, cell):
    """Return pictures in a grid, (H, W, 3) uint8, with a legend below.

    titles: of the columns; rows: [(name, [picture, ...]), ...]; legend: [(class index, name), ...];
    cell: the sides of a picture's place in the grid, in pixels.
    """
    width = cell * len(titles)
    legend_columns = width // ENTRY
    legend_top = LINE + len(rows) * (LINE + cell)
    height = legend_top + -(-len(legend) // legend_columns) * LINE
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        draw.text((column * cell + 4, 2), title, "black", font)
    for number, (name, pictures) in enumerate(rows):
        top = LINE + number * (LINE + cell)
        draw.text((4, top + 2), name, "black", font)
        draw.rectangle((0, top + LINE, width, top + LINE + cell - 1), "dimgrey")
        for column, picture in enumerate(pictures):
            left = column * cell + (cell - picture.shape[1]) // 2
            canvas.paste(Image.fromarray(rgb(picture)), (left, top + LINE))
    for number, (index, name) in enumerate(legend):
        row, column = divmod(number, legend_columns)
        left, top = column * ENTRY, legend_top + row * LINE
        fill = tuple(rgb(colour(np.uint8(index))).tolist())
        draw.rectangle((left + 4, top + 3, left + 24, top + LINE - 4), fill, "black")
        draw.text((left + 30, top + 2), f"{index} {name}", "black", font)
    return rgb(np.asarray(canvas))


# ---- Figures of matplotlib


def add_legend(figure, labels, names, columns):
    """Add the colours of the class indices `labels` below a figure; names: {index: name}."""
    patches = [
        Patch(facecolor=rgb(colour(np.uint8(label))) / 255, edgecolor="black", label=names[label])
        for label in sorted(labels)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False)


def save(figure, path, dpi):
    """Write a figure to a file in the format of its suffix, completely or not at all."""
    with atomic.new_file(path) as partial:
        figure.savefig(partial, dpi=dpi)


def compatibility_figure(C, class_names):
    """Return a Figure of the class compatibility C (K, K)."""
    side = 2.5 + 0.3 * len(C)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    draw_compatibility(figure.subplots(), C, class_names)
    return figure


def draw_compatibility(axes, C, class_names):
    """Draw the class compatibility C (K, K) on axes of matplotlib."""
    limit = np.abs(C).max() or 1
    picture = axes.imshow(C, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.figure.colorbar(picture, shrink=0.6)
    axes.set_xticks(range(len(C)), class_names, rotation=90)
    axes.set_yticks(range(len(C)), class_names)
    axes.set_title("class compatibility C")
    if len(C) <= 12:  # else there is no room
        for i, j in np.ndindex(*C.shape):
            colour = "white" if abs(C[i, j]) > 0.6 * limit else "black"
            axes.text(
                j, i, f"{C[i, j].round(2) + 0:.2f}", color=colour, ha="center", va="center", size=8
            )


def confusion_figure(confusion, class_names, title):
    """Return a Figure of a confusion matrix (K, K), each row in per cent of its true class."""
    confusion = np.array(confusion, float)
    share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    count = len(class_names)
    figure = Figure(figsize=(3 + 0.4 * count, 2.5 + 0.4 * count), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(count), class_names, rotation=90)
    axes.set_yticks(range(count), class_names)
    axes.set(xlabel="predicted", ylabel="truth", title=title)
    for true, predicted in np.argwhere(share >= 0.5):
        value = share[true, predicted]
        colour = "white" if value > 50 else "black"
        axes.text(predicted, true, f"{value:.0f}", color=colour, ha="center", va="center", size=8)
    figure.colorbar(picture, shrink=0.6, label="per cent of the true class")
    return figure


def training_figure(curves):
    """Return a Figure of a training's stages, [runs.Curves, ...], a column each."""
    panels = [_draw_loss, _draw_rate]
    if any(_has_scores(stage) for stage in curves):
        panels.append(_draw_scores)
    if any(_has_similarities(stage) for stage in curves):
        panels.append(_draw_similarities)
    rows = len(panels)
    figure = Figure(figsize=(0.4 + 3.2 * len(curves), 1 + 1.7 * rows), layout="constrained")
    heights = [1.6, 1, 1.6, 1.6][:rows]
    grid = figure.subplots(rows, len(curves), squeeze=False, sharex="col", height_ratios=heights)
    for column, stage in zip(grid.T, curves, strict=True):
        column[0].set_title(stage.name.replace("_", " "), fontweight="bold")
        for draw, axes in zip(panels, column, strict=True):
            draw(axes, stage)
        drawn = [axes for axes in column if axes.axison]
        for axes in drawn:
            axes.grid(color="#e6e6e6")
            axes.spines[["top", "right"]].set_visible(False)
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


def _has_similarities(stage):
    return any("similarity_like" in row for row in stage.rows)


def _draw_similarities(axes, stage):
    if not _has_similarities(stage):
        axes.set_axis_off()
        return
    for column, label, colour in (
        ("similarity_like", "equal labels", TRAIN),
        ("similarity_unlike", "different labels", TEST),
    ):
        axes.plot(*stage.column(column), ".-", label=label, color=colour)
    axes.set_yscale("log")
    axes.set_ylabel("mean similarity")
    axes.legend(frameon=False)
