#!/usr/bin/env python3
"""Time unary, dense CRF and Gaussian CRF on photographs: the seconds that each takes per image.

Example:
    tools/time_methods.py --unary nets/deploy_unary.prototxt unary_iter_3000.caffemodel \\
        --gcrf nets/deploy.prototxt finetune_iter_2200.caffemodel --dense-crf dense_crf.json \\
        --root data/VOCdevkit/VOC2012 --split val --output timing.json

Times are from the image in memory to its labels: medians over the first images of a split, and for
each image the better of two passes, since the first may see a new size. The networks use all cores,
the dense CRF one.
Exit codes: 0 done, 1 bad data, 2 bad usage.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

from tqdm import tqdm

from gcrf import atomic, cli, dense_crf, origin, voc
from gcrf.images import read_image
from gcrf.runs import DENSE_CRF
from gcrf.segmenter import Segmenter


def timed(work, *arguments):
    """Return (seconds of the faster of two calls, result) of work(*arguments)."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result = work(*arguments)
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def time_methods(unary, gcrf, parameters, images):
    """Return {method: median seconds per image}.

    unary, gcrf: Segmenters; parameters: of the dense CRF; images: iterable of (H, W, 3) uint8 BGR.
    """
    found = {"unary": [], DENSE_CRF: [], "gcrf": []}
    for image in images:
        network, (probabilities,) = timed(unary.scores, image)
        refined, _ = timed(dense_crf.refine, probabilities, image, parameters)
        found["unary"].append(timed(unary.predict, image)[0])
        found[DENSE_CRF].append(network + refined)
        found["gcrf"].append(timed(gcrf.predict, image)[0])
    return {name: median(seconds) for name, seconds in found.items()}


def run(args):
    """Time as the arguments say; raise OSError or ValueError for what is wrong."""
    samples = voc.read_samples(voc.list_path(args.root, args.split), args.root, args.labels)
    samples = samples[: args.images]
    found = {
        "machine": origin.machine(),
        "images": len(samples),
        "seconds": time_methods(
            *(Segmenter(*files) for files in (args.unary, args.gcrf)),
            dense_crf.load(args.dense_crf),
            (read_image(sample.image) for sample in tqdm(samples, unit="image")),
        ),
    }
    with atomic.new_file(args.output) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n")
    for name, seconds in found["seconds"].items():
        print(f"{name:20}{seconds:7.3f} s per image")


def main(argv=None):
    parser = cli.parser(__doc__)
    files = {"type": Path, "nargs": 2, "metavar": ("DEPLOY", "WEIGHTS"), "required": True}
    parser.add_argument("--unary", **files, help="the unary network")
    parser.add_argument("--gcrf", **files, help="the whole network")
    parser.add_argument(
        "--dense-crf", type=Path, required=True, help="JSON file of tools/dense_crf.py"
    )
    cli.add_data_set(parser)
    parser.add_argument(
        "--split", required=True, help="reads ROOT/ImageSets/Segmentation/SPLIT.txt"
    )
    parser.add_argument("--images", type=cli.positive, default=20, help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the times")
    return cli.run("time_methods", run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
