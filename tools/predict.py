#!/usr/bin/env python3
"""Segment images with a trained network.

Examples:
    tools/predict.py photo.jpg
    tools/predict.py --deploy prototxt/deploy.prototxt \\
        --weights snapshots/finetune_iter_31000.caffemodel --output segmented photo.jpg 'more/*.png'

For each image it writes OUT/STEM.png, the class indices in VOC's colours, OUT/STEM_overlay.jpg, and
with --probabilities OUT/STEM_probabilities.npy. Without --deploy and --weights, the network is the
trained model that comes with the project, which knows VOC's classes.
Exit codes: 0 done, 1 a file is bad (it is named on standard error, the others are segmented), 2 bad
usage.
"""

import glob
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from gcrf import atomic, cli, drawing, label_maps, network, voc
from gcrf.images import read_photo
from gcrf.segmenter import labels, probabilities


def find_images(arguments):
    """Return the files that the arguments name: files, all files of folders, matches of globs.

    Raises ValueError for an argument that names none, and for two files of one stem.
    """
    paths = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
        elif path.exists():
            found = [path]
        else:
            found = [Path(name) for name in glob.glob(argument, recursive=True)]
            found = [p for p in found if p.is_file()]
        if not found:
            raise ValueError(f"{argument}: no such file, folder with files, or match")
        paths += sorted(found)
    paths, stems = list(dict.fromkeys(paths)), {}
    for path in paths:
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise ValueError(
                f"{other} and {path} would both be written as {path.stem}.png; "
                "segment them into two folders"
            )
    return paths


def segment(segmenter, path, output, with_probabilities):
    """Segment one image file and write the results."""
    image = read_photo(path)
    scores = segmenter.scores(image)[0]
    label_map = labels(scores)
    with atomic.new_file(output / f"{path.stem}.png") as partial:
        partial.write_bytes(label_maps.encode_palette_png(label_map, voc.palette()))
    with atomic.new_file(output / f"{path.stem}_overlay.jpg") as partial:
        partial.write_bytes(cv2.imencode(".jpg", drawing.overlay(image, label_map))[1].tobytes())
    if with_probabilities:
        with atomic.new_file(output / f"{path.stem}_probabilities.npy") as partial:
            np.save(partial, probabilities(scores).astype(np.float16))


def predict(args):
    """Segment what the arguments name; raise OSError or ValueError for what is wrong."""
    paths = find_images(args.images)
    if any(path.parent.resolve() == args.output.resolve() for path in paths):
        raise ValueError(f"--output {args.output} holds images to segment; choose another")
    segmenter, bad = network.chosen(args).load(), 0
    bar = tqdm(paths, unit="image")
    for path in bar:
        try:
            segment(segmenter, path, args.output, args.probabilities)
        except (OSError, ValueError) as error:
            bad += 1
            bar.write(f"predict: {error}", file=sys.stderr)
    print(f"{len(paths) - bad} of {len(paths)} images segmented into {args.output}/")
    if bad:
        raise ValueError(f"{bad} of {len(paths)} files are bad, named above")


def main(argv=None):
    parser = cli.parser(__doc__)
    network.add_arguments(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="file, folder or quoted glob")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("segmented"),
        metavar="OUT",
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--probabilities", action="store_true", help="also save these, (K, H, W) float16"
    )
    return cli.run("predict", predict, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
