#!/usr/bin/env python3
"""Score a trained network on a split of a data set in VOC's layout.

Example:
    tools/eval.py --deploy prototxt/deploy.prototxt \\
        --weights snapshots/finetune_iter_31000.caffemodel \\
        --root data/VOCdevkit/VOC2012 --split val --unary --output results/val

Prints a table and writes OUT/results.json, OUT/confusion_NAME.png and OUT/images.jsonl (the
confusion matrix of each image, from which --resume goes on). NAME is network, with --unary also
unary, and with --dense-crf also unary_dense_crf. The class names are those in ROOT/classes.txt, one
a line, or, without that file, VOC's.
Exit codes: 0 done, 1 bad data (each bad file is named on standard error), 2 bad usage.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # errors only, not every layer

import dense_crf
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from gcrf import atomic, label_maps, voc
from gcrf.inputs import BadFileError, add_network_arguments, load_network, read_image, read_truth
from gcrf.scores import confusion_matrix, measure
from gcrf.segmenter import SCORES, UNARY, labels

SUBMISSION = Path("VOC2012/Segmentation/comp6_test_cls")  # VOC 2012 devkit, section 6.2
DENSE_CRF = "unary_dense_crf"
RESULTS = {  # folders of saved predictions
    "network": "results",
    "unary": "results_unary",
    DENSE_CRF: f"results_{DENSE_CRF}",
}
MEASURES = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency weighted IoU",
}


# ---- One image, in threads beside the network


def score(sample, predictions, refined, num_classes, folders):
    """Return {name: confusion matrix} of the predictions {name: label map} of a sample.

    refined: {name: future label map}, more predictions; folders: {name: where to save its
    predictions}, empty to save none.
    """
    predictions = predictions | {name: future.result() for name, future in refined.items()}
    truth = read_truth(sample)
    try:
        matrices = {
            name: confusion_matrix(truth, prediction, num_classes)
            for name, prediction in predictions.items()
        }
    except ValueError as error:
        raise BadFileError(f"{sample.label}: {error}") from error
    for name, folder in folders.items():
        with atomic.new_file(folder / f"{sample.id}.png") as path:
            path.write_bytes(label_maps.encode_palette_png(predictions[name], voc.palette()))
    return matrices


def in_order(pool, function, calls, ahead):
    """Yield (sample, future) of function(sample, ...) for each of the calls.

    At most `ahead` are under way while the consumer works on one.
    """
    pending = collections.deque()
    for call in calls:
        pending.append((call[0], pool.submit(function, *call)))
        if len(pending) > ahead or pending[0][1].done():
            yield pending.popleft()
    yield from pending


# ---- The images done so far: a line of JSON each


class Progress:
    """The confusion matrices of the images done, in a file that outlives a killed run.

    The first line holds the settings that they were made with, each other line an image.
    """

    def __init__(self, path, settings, resume):
        """Open the file, keeping what is in it to resume; raise ValueError where it may not be."""
        self.done, path = {}, Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # its run was killed while it wrote
        if lines and not resume:
            raise ValueError(
                f"{path} holds {len(lines) - 1} scored images: go on with --resume, remove the "
                "file, or choose another --output"
            )
        if lines:
            before = json.loads(lines[0])
            changed = [name for name in settings if before.get(name) != settings[name]]
            if changed:
                raise ValueError(
                    f"{path} was made with another {', '.join(changed)}: remove it, or choose "
                    "another --output"
                )
        for line in lines[1:]:
            row = json.loads(line)
            self.done[row.pop("id")] = row
        with atomic.new_file(path) as partial:
            partial.write_text("".join(lines or [json.dumps(settings) + "\n"]))
        self._file = path.open("a")
        self._num_classes = settings["num_classes"]

    def add(self, image_id, matrices):
        """Keep {name: confusion matrix} of an image, as [true class, predicted class, pixels]."""
        row = {}
        for name, matrix in matrices.items():
            places = np.argwhere(matrix)
            row[name] = np.column_stack([places, matrix[tuple(places.T)]]).tolist()
        self._file.write(json.dumps({"id": image_id, **row}) + "\n")
        self._file.flush()
        self.done[image_id] = row

    def matrix(self, image_id, name):
        """Return the confusion matrix of an image that is done."""
        matrix = np.zeros((self._num_classes, self._num_classes), np.int64)
        for true, predicted, pixels in self.done[image_id][name]:
            matrix[true, predicted] = pixels
        return matrix


# ---- All images


def evaluate(segmenter, samples, blobs, folders, progress, *, refine):
    """Score the samples that are not done yet; return how many are bad, each named on the way.

    blobs: {name: blob with its scores}; refine: function from the unary's probabilities and the
    image to a future label map, the dense CRF's, or None. Files are read, written and scored in
    threads.
    """
    bad = 0
    bar = tqdm(total=len(samples), unit="image")

    def report(error):
        nonlocal bad
        bad += 1
        bar.write(f"eval: {error}", file=sys.stderr)
        bar.update()

    def predictions():
        waiting = [(sample,) for sample in samples if sample.id not in progress.done]
        bar.initial = bar.n = len(samples) - len(waiting)
        for sample, reading in in_order(readers, read_image, waiting, ahead=4):
            try:
                image = reading.result()
            except BadFileError as error:
                report(error)
                continue
            found = dict(zip(blobs, segmenter.scores(image, blobs.values()), strict=True))
            maps = {name: labels(scores) for name, scores in found.items()}
            refined = {DENSE_CRF: refine(found["unary"], image)} if refine else {}
            yield sample, maps, refined, segmenter.num_classes, folders

    ahead = len(os.sched_getaffinity(0))  # as many as dense_crf.worker_processes has
    with bar, ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as scorers:
        for sample, matrices in in_order(scorers, score, predictions(), ahead):
            try:
                progress.add(sample.id, matrices.result())
                bar.update()
            except BadFileError as error:
                report(error)
    return bad


def summarise(samples, names, progress, class_names):
    """Return the results, {name: measures, class names, matrix and each image's mean IoU}."""
    results = {}
    for name in names:
        matrices = {sample.id: progress.matrix(sample.id, name) for sample in samples}
        total = sum(matrices.values())
        found = measure(total)
        absent = [c for c, iou in zip(class_names, found["iou"], strict=True) if iou is None]
        results[name] = {
            **found,
            "classes": class_names,
            "absent_classes": absent,
            "confusion": total.tolist(),
            "images": {  # an image whose pixels are all ignored has none
                image_id: measure(matrix)["mean_iou"] if matrix.any() else None
                for image_id, matrix in matrices.items()
            },
        }
    return results


def format_table(results, class_names):
    """Return the results as a table for reading."""
    label_width = max(len(label) for label in [*class_names, *MEASURES.values()])
    widths = [max(9, len(name) + 2) for name in results]

    def line(label, cells):
        aligned = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{label:{label_width}}{''.join(aligned)}"

    lines = [line("IoU, per cent", results)]
    for index, class_name in enumerate(class_names):
        ious = [result["iou"][index] for result in results.values()]
        lines.append(line(class_name, ["-" if iou is None else f"{iou:.2f}" for iou in ious]))
    lines.append("-" * len(lines[0]))
    for key, label in MEASURES.items():
        lines.append(line(label, [f"{result[key]:.2f}" for result in results.values()]))
    for name, result in results.items():
        if result["absent_classes"]:
            lines.append(
                f"{name}: left out of the mean, in neither the truth nor the predictions: "
                + ", ".join(result["absent_classes"])
            )
    return "\n".join(lines)


def draw_confusion(path, confusion, class_names, title):
    """Draw a confusion matrix, each row in per cent of its true class."""
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
    with atomic.new_file(path) as partial:
        figure.savefig(partial, dpi=110)


def digest(path):
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def parse_arguments(argv):
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_network_arguments(parser)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    split = parser.add_mutually_exclusive_group(required=True)
    split.add_argument("--split", help="reads ROOT/ImageSets/Segmentation/SPLIT.txt")
    split.add_argument(
        "--list", type=Path, help="file of ids, or of image and label paths below ROOT"
    )
    parser.add_argument(
        "--labels",
        default="SegmentationClass",
        metavar="FOLDER",
        help="folder below ROOT with the label maps of ids (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--unary",
        action="store_true",
        help="score the deploy net's unary network beside the whole, from the same pass",
    )
    parser.add_argument(
        "--dense-crf",
        type=Path,
        metavar="PARAMETERS",
        help="with --unary: score the unary with a dense CRF too, whose parameters this JSON file "
        "of tools/dense_crf.py holds",
    )
    parser.add_argument(
        "--save-predictions",
        action="store_true",
        help=f"save label maps as OUTPUT/results/{SUBMISSION}/ID.png, as VOC's server expects "
        "them; those of --unary and --dense-crf below OUTPUT/results_unary and "
        f"OUTPUT/{RESULTS[DENSE_CRF]}",
    )
    parser.add_argument("--resume", action="store_true", help="go on where a run was stopped")
    args = parser.parse_args(argv)
    if args.dense_crf and not args.unary:
        parser.error("--dense-crf refines the unary: give --unary too")
    return args


def run(args):
    """Evaluate as the arguments say; raise OSError or ValueError for what is wrong."""
    class_names = voc.class_names(args.root)
    list_path = args.list or voc.list_path(args.root, args.split)
    samples = voc.read_samples(list_path, args.root, args.labels)
    parameters = dense_crf.load(args.dense_crf) if args.dense_crf else None
    blobs = {"network": SCORES} | ({"unary": UNARY} if args.unary else {})
    names = [*blobs, *([DENSE_CRF] if parameters else [])]
    folders = {
        name: args.output / RESULTS[name] / SUBMISSION for name in names if args.save_predictions
    }
    with dense_crf.worker_processes() if parameters else contextlib.nullcontext() as pool:
        refine = pool and functools.partial(pool.submit, dense_crf.refine, parameters=parameters)
        segmenter = load_network(args)
        if segmenter.num_classes != len(class_names):
            raise ValueError(
                f"{args.deploy} has {segmenter.num_classes} classes, the data set {args.root} "
                f"{len(class_names)}; give its own net, or correct classes.txt"
            )
        settings = {
            "deploy": digest(args.deploy),
            "weights": digest(args.weights),
            "root": str(args.root.resolve()),
            "labels": args.labels,
            "scales": args.scales,
            "mirror": args.mirror,
            "unary": args.unary,
            "dense_crf": parameters and dataclasses.asdict(parameters),
            "save_predictions": args.save_predictions,
            "num_classes": segmenter.num_classes,
        }
        progress = Progress(args.output / "images.jsonl", settings, args.resume)
        bad = evaluate(segmenter, samples, blobs, folders, progress, refine=refine)
    if bad:
        raise ValueError(
            f"{bad} of {len(samples)} images are bad, named above; the others are kept: mend the "
            "files and run again with --resume"
        )
    results = summarise(samples, names, progress, class_names)
    with atomic.new_file(args.output / "results.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n")
    for name, result in results.items():
        picture = args.output / f"confusion_{name}.png"
        draw_confusion(picture, result["confusion"], class_names, f"{name}, {list_path.stem}")
    print(f"{len(samples)} images of {list_path}")
    print(format_table(results, class_names))


def main(argv=None):
    args = parse_arguments(argv)
    try:
        run(args)
    except KeyboardInterrupt:
        print("eval: stopped; go on with --resume", file=sys.stderr)
        return 1
    except (OSError, ValueError, BrokenExecutor) as error:
        print(f"eval: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
