#!/usr/bin/env python3
"""Tune a dense CRF on a network's unary, to compare the Gaussian CRF with.

Example:
    tools/dense_crf.py --deploy prototxt/deploy_unary.prototxt \\
        --weights snapshots/finetune_iter_31000.caffemodel \\
        --root data/VOCdevkit/VOC2012 --split train --images 40 --output dense_crf.json

Searches for the parameters with the best mean IoU on random images of a split. To score them on
another split: tools/eval.py --dense-crf dense_crf.json. Random candidates are tried on some of the
images, the better ones on more, the best on all; then the best one is varied. The published
parameters and no CRF at all are among the candidates. OUTPUT holds the parameters and the mean IoU
with and without them. The same seed gives the same result.
Exit codes: 0 done, 1 bad data, 2 bad usage, 130 stopped.
"""

import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gcrf import cli, dense_crf, network, pools, voc
from gcrf.images import BadFileError, read_image, read_truth
from gcrf.scores import confusion_matrix
from gcrf.segmenter import UNARY, labels


def read_cases(segmenter, samples):
    """Return the cases of `dense_crf.tune` that samples make, with a progress bar."""
    cases = []
    for sample in tqdm(samples, desc="unary", unit="image"):
        image, truth = read_image(sample.image), read_truth(sample.label)
        probabilities = segmenter.scores(image, [UNARY])[0]
        try:
            confusion_matrix(truth, labels(probabilities), segmenter.num_classes)
        except ValueError as error:
            raise BadFileError(f"{sample.label}: {error}") from error
        cases.append((probabilities, image, truth))
    return cases


def tune(args):
    """Tune as the arguments say; raise OSError or ValueError for what is wrong."""
    samples = voc.read_samples(voc.list_path(args.root, args.split), args.root, args.labels)
    np.random.default_rng(args.seed).shuffle(samples)
    with pools.worker_processes() as pool:
        cases = read_cases(network.chosen(args).load(), samples[: args.images])
        parameters, mean_iou = dense_crf.tune(cases, args.seed, pool, args.candidates)
    unary = dense_crf.unary_mean_iou(cases)
    tuning = {
        "split": args.split,
        "images": len(cases),
        "seed": args.seed,
        "candidates": args.candidates,
        "unary_mean_iou": unary,
        "mean_iou": mean_iou,
    }
    dense_crf.save(args.output, parameters, tuning)
    print(f"{len(cases)} images of {args.split}: mean IoU of the unary {unary:.2f},", end=" ")
    print(f"with the dense CRF {mean_iou:.2f}; its parameters are in {args.output}")


def main(argv=None):
    parser = cli.parser(__doc__)
    network.add_arguments(parser)
    cli.add_data_set(parser)
    parser.add_argument(
        "--split", required=True, help="reads ROOT/ImageSets/Segmentation/SPLIT.txt"
    )
    parser.add_argument(
        "--images",
        type=cli.positive,
        default=100,
        help="number of random images of the split (default: %(default)s, as DeepLab)",
    )
    parser.add_argument(
        "--candidates",
        type=cli.positive,
        default=dense_crf.ROUNDS[0][0],
        help="to begin with; five times as many take not quite twice as long (default: "
        "%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the parameters")
    return cli.run("dense_crf", tune, parser.parse_args(argv), errors=[BrokenExecutor])


if __name__ == "__main__":
    sys.exit(main())
