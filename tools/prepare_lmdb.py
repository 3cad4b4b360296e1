#!/usr/bin/env python3
"""Check every file of a data set, and store its splits as LMDBs for the SegData layer.

Example:
    tools/prepare_lmdb.py --root data/VOCdevkit/VOC2012 --labels SegmentationClassAug \\
        --splits train_aug=data/lists/train_aug.txt val --out data/voc_lmdb

Writes OUT/SPLIT/images, OUT/SPLIT/labels and OUT/SPLIT/summary.json. The two LMDBs have the same
keys in the same, shuffled order. Images keep their bytes; labels become one-channel PNGs. OUT
appears only when everything is done. The class names are read from ROOT/classes.txt, one per line;
without that file they are VOC's 21.
Exit codes: 0 done, 1 bad data (each bad file is named on standard error), 2 bad usage.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from gcrf import atomic, cli, label_maps, pools, records, voc
from gcrf.images import check_image, read_bytes

MAX_KEY_BYTES = 511  # LMDB's own limit


class Split(NamedTuple):
    """A named list of samples."""

    name: str
    list_path: Path
    samples: list


class CheckedSample(NamedTuple):
    """The encoded image and label of a sample found right, and what the summary needs of them."""

    image: bytes
    label: bytes
    channels: int
    height: int
    width: int
    label_counts: np.ndarray  # pixels of each class and, last, the ignored ones


class BadSampleError(ValueError):
    """A sample not to be stored; the message names the file, what is wrong and how to mend it."""


def check_sample(sample, num_classes):
    """Read both files of a sample and return a CheckedSample, or raise BadSampleError."""
    if len(sample.id.encode()) + len("00000000_") > MAX_KEY_BYTES:
        raise BadSampleError(f"{sample.id}: id too long for a key; shorten the file's name")
    path = sample.image
    try:
        image = read_bytes(path)
        channels, height, width = check_image(image)
        path = sample.label
        label = label_maps.to_grey_png(read_bytes(path))
        label_map = label_maps.decode_grey_png(label)
        if label_map.shape != (height, width):
            raise ValueError(
                f"label map is {label_map.shape[1]} x {label_map.shape[0]} pixels, its image "
                f"{sample.image} is {width} x {height}; export one of them again"
            )
        label_counts = label_maps.count_labels(label_map, num_classes)
    except (OSError, ValueError) as error:
        raise BadSampleError(f"{path}: {error}") from error
    return CheckedSample(image, label, channels, height, width, label_counts)


def prepare_split(split, class_names, args, out):
    """Check a split and, given its folder `out`, store it there; return the number of bad samples.

    Each bad sample is named on standard error and in `out`/skipped.txt.
    """
    samples = list(split.samples)
    random.Random(args.seed).shuffle(samples)
    check = functools.partial(check_sample, num_classes=len(class_names))
    measured, bad = [], []
    with contextlib.ExitStack() as stack:
        writers = []
        if out:
            out.mkdir()
            for name in ("images", "labels"):
                writer = records.RecordWriter(out / name)
                writers.append(stack.enter_context(contextlib.closing(writer)))
        # Threads will do: reading and decoding run outside of Python
        pool = stack.enter_context(ThreadPoolExecutor(args.jobs))
        results = pools.in_order(pool, check, samples, ahead=4 * args.jobs)
        progress = tqdm(results, split.name, len(samples), unit="image")
        for sample, checked in progress:
            try:
                image, label, channels, height, width, label_counts = checked.result()
            except BadSampleError as error:
                bad.append(str(error))
                progress.write(f"prepare_lmdb: {error}", file=sys.stderr)
                continue
            if writers and (args.skip_bad or not bad):
                key = f"{len(measured):08d}_{sample.id}"
                writers[0].write(key, records.encode_record(image, channels, height, width))
                writers[1].write(key, records.encode_record(label, 1, height, width))
            measured.append([height, width, len(image), len(label), *label_counts])
    if not measured:
        raise ValueError(f"split {split.name}: all of its {len(bad)} samples are bad")
    summary = summarise(split, np.array(measured), class_names, args.seed)
    print_summary(summary)
    if out:
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        if bad:
            (out / "skipped.txt").write_text("\n".join(bad) + "\n")
    return len(bad)


def summarise(split, measured, class_names, seed):
    """Return the summary of a split as a dictionary for JSON.

    measured: a row a sample: height, width, bytes of the image and of the label, pixels of each
    class and, last, ignored pixels.
    """
    heights, widths, image_bytes, label_bytes = measured[:, :4].T
    pixels = measured[:, 4:]
    return {
        "split": split.name,
        "count": len(measured),
        "skipped": len(split.samples) - len(measured),
        "list": split.list_path.name,
        "list_sha256": hashlib.sha256(split.list_path.read_bytes()).hexdigest(),
        "seed": seed,
        "height": {"min": int(heights.min()), "max": int(heights.max())},
        "width": {"min": int(widths.min()), "max": int(widths.max())},
        "image_bytes": int(image_bytes.sum()),
        "label_bytes": int(label_bytes.sum()),
        "ignore_share": round(float(pixels[:, -1].sum() / pixels.sum()), 6),
        "classes": [
            {
                "index": index,
                "name": name,
                "pixels": int(pixels[:, index].sum()),
                "images": int(np.count_nonzero(pixels[:, index])),
            }
            for index, name in enumerate(class_names)
        ],
    }


def print_summary(summary):
    """Print a summary for reading."""
    height, width = summary["height"], summary["width"]
    print(
        f"{summary['split']}: {summary['count']} images, {summary['skipped']} left out, "
        f"{width['min']}-{width['max']} x {height['min']}-{height['max']} pixels, "
        f"{summary['image_bytes'] / 1e6:.1f} MB of images, "
        f"{summary['label_bytes'] / 1e6:.1f} MB of labels, {summary['ignore_share']:.2%} ignored"
    )
    total = sum(row["pixels"] for row in summary["classes"])
    for row in summary["classes"]:
        share = row["pixels"] / total if total else 0
        print(f"{row['index']:4d} {row['name']:20s} {row['images']:7d} images {share:8.3%} pixels")


def read_splits(args):
    """Return the splits of the command line; raise ValueError where two share an image."""
    splits = []
    for argument in args.splits:
        name, _, path = argument.partition("=")
        path = Path(path) if path else voc.list_path(args.root, name)
        splits.append(Split(name, path, voc.read_samples(path, args.root, args.labels)))
    for one, other in itertools.combinations(splits, 2):
        if one.name == other.name:
            raise ValueError(f"two splits are named {one.name}; give each a name of its own")
        images = {sample.image for sample in one.samples}
        shared = [sample.id for sample in other.samples if sample.image in images]
        if shared:
            raise ValueError(
                f"{len(shared)} images stand in both {one.name} ({one.list_path}) and {other.name} "
                f"({other.list_path}), the first is {shared[0]}; remove them from one of the two"
            )
    return splits


def parse_arguments(argv):
    """Return the command line's arguments."""
    parser = cli.parser(__doc__)
    cli.add_data_set(parser)
    parser.add_argument(
        "--splits",
        nargs="+",
        required=True,
        metavar="NAME[=LIST]",
        help="NAME reads ROOT/ImageSets/Segmentation/NAME.txt, NAME=LIST the file LIST. A line is "
        "an id, or an image path and a label path below ROOT",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    parser.add_argument("--seed", type=int, default=1, help="for shuffling (default: %(default)s)")
    cli.add_jobs(parser, "files checked at once")
    parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="store the good samples, list the others in OUT/SPLIT/skipped.txt, exit with 1",
    )
    parser.add_argument("--exit-zero", action="store_true", help="with --skip-bad: exit with 0")
    args = parser.parse_args(argv)
    if args.exit_zero and not args.skip_bad:
        parser.error("--exit-zero needs --skip-bad")
    return args


def prepare(args):
    """Prepare what the arguments say; return the exit code, raise OSError or ValueError."""
    class_names = voc.class_names(args.root)
    splits = read_splits(args)
    with contextlib.ExitStack() as stack:
        out = None if args.dry_run else stack.enter_context(atomic.new_folder(args.out))
        bad = sum(
            prepare_split(split, class_names, args, out and out / split.name) for split in splits
        )
        if bad and not args.skip_bad:
            raise ValueError(f"{bad} bad samples, named above: nothing was written")
    if bad:
        print(f"prepare_lmdb: {bad} bad samples left out, named above", file=sys.stderr)
    return 1 if bad and not args.exit_zero else 0


def main(argv=None):
    return cli.run("prepare_lmdb", prepare, parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
