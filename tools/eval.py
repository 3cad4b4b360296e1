#!/usr/bin/env python3
"""Score a trained network on a split of a data set in VOC's layout.

Example:
    tools/eval.py --deploy prototxt/deploy.prototxt \\
        --weights snapshots/finetune_iter_31000.caffemodel \\
        --root data/VOCdevkit/VOC2012 --split val --unary --output results/val

Prints a table and writes OUT/results.json, OUT/confusion_NAME.png and OUT/images.jsonl (the
confusion matrices of each image, from which --resume continues). NAME is network, and also unary
with --unary and unary_dense_crf with --dense-crf. trimap in results.json has the mean IoU and the
pixel accuracy within 1, 2, 5, 10 and 20 pixels of a border between labels or of a void pixel.
The class names are read from ROOT/classes.txt, one per line; without that file they are VOC's.
Exit codes: 0 done, 1 bad data (each bad file is named on standard error), 2 bad usage, 130 stopped.
"""

import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

from gcrf import cli, dense_crf, network, voc
from gcrf.evaluation import evaluate
from gcrf.runs import DENSE_CRF, RESULTS, SUBMISSION
from gcrf.scores import MEASURES


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


def run(args):
    """Evaluate as the arguments say; raise OSError or ValueError for what is wrong."""
    list_path = args.list or voc.list_path(args.root, args.split)
    results = evaluate(
        network.chosen(args),
        *(args.root, list_path, args.output),
        label_folder=args.labels,
        unary=args.unary,
        parameters=dense_crf.load(args.dense_crf) if args.dense_crf else None,
        save_predictions=args.save_predictions,
        resume=args.resume,
    )
    print(f"{len(results['network']['images'])} images of {list_path}")
    print(format_table(results, results["network"]["classes"]))


def parse_arguments(argv):
    """Return the command line's arguments."""
    parser = cli.parser(__doc__)
    network.add_arguments(parser)
    cli.add_data_set(parser)
    split = parser.add_mutually_exclusive_group(required=True)
    split.add_argument("--split", help="reads ROOT/ImageSets/Segmentation/SPLIT.txt")
    split.add_argument(
        "--list", type=Path, help="file of ids, or of image and label paths below ROOT"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--unary",
        action="store_true",
        help="also score the deploy net's unary network, from the same pass",
    )
    parser.add_argument(
        "--dense-crf",
        type=Path,
        metavar="PARAMETERS",
        help="with --unary: also score the unary with a dense CRF, whose parameters are in this "
        "JSON file of tools/dense_crf.py",
    )
    parser.add_argument(
        "--save-predictions",
        action="store_true",
        help=f"save label maps as OUTPUT/results/{SUBMISSION}/ID.png, as VOC's server expects "
        "them; those of --unary and --dense-crf below OUTPUT/results_unary and "
        f"OUTPUT/{RESULTS[DENSE_CRF]}",
    )
    parser.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    args = parser.parse_args(argv)
    if args.dense_crf and not args.unary:
        parser.error("--dense-crf refines the unary: give --unary too")
    return args


def main(argv=None):
    return cli.run(
        *("eval", run, parse_arguments(argv)),
        errors=[BrokenExecutor],
        stopped="stopped; continue with --resume",
    )


if __name__ == "__main__":
    sys.exit(main())
