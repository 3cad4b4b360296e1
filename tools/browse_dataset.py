#!/usr/bin/env python3
"""Draw what a network will be trained on, straight from the LMDBs: look before a long training.

Example: tools/browse_dataset.py data/voc_lmdb/train_aug --out sheet.png

Each row of the sheet is a record: the image, its label map, an overlay of both, and the crop that
the SegData layer makes of it in the first epoch with this seed, with its label. The legend below
names the classes in these records. Exit codes: 0 done, 1 bad data, 2 bad usage.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from gcrf import atomic, cli, drawing, records
from gcrf.images import decode_image
from gcrf.label_maps import IGNORE_LABEL
from gcrf.nets import MEAN_BGR
from python_layers import seg_data

COLUMNS = ("image", "label", "overlay", "training crop", "its label")
CELL = 240  # pixels, the sides of a picture on the sheet


def shrink(image, label_map):
    """Return an image and its label map at the size at which they fit into a cell."""
    scale = min(CELL / max(label_map.shape), 1)
    size = [max(round(side * scale), 1) for side in label_map.shape[::-1]]
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        cv2.resize(label_map, size, interpolation=cv2.INTER_NEAREST),  # no mixture of classes
    )


def crop_as_layer(image, label_map, crop_size, seed, record):
    """Return the crop (image, label map) that SegData makes of a record, the mean added again.

    image: (H, W, 3) uint8 BGR; label_map: (H, W) uint8; record: its place in the LMDB.
    """
    window = seg_data.choose_window(
        label_map.shape, crop_size, True, random=True, seed=seed, record=record
    )
    data, labels = seg_data.crop_and_mirror(
        image, label_map, crop_size, window, mean=MEAN_BGR, ignore_label=IGNORE_LABEL
    )
    crop = np.rint(data.transpose(1, 2, 0) + MEAN_BGR).astype(np.uint8)
    return crop, labels[0].astype(np.uint8)


def draw_record(image, label_map, crop_size, seed, record):
    """Return the pictures of a record under the titles in COLUMNS."""
    crop, crop_label = shrink(*crop_as_layer(image, label_map, crop_size, seed, record))
    image, label_map = shrink(image, label_map)
    overlay = drawing.overlay(image, label_map)
    return [image, drawing.colour(label_map), overlay, crop, drawing.colour(crop_label)]


def read_record(readers, key):
    """Return a record's (image, label map): (H, W, 3) uint8 BGR and (H, W) uint8."""
    try:
        image, label = (reader.read(key).data for reader in readers)
        image, label_map = decode_image(image), seg_data.decode_label(label)
        if image.shape[:2] != label_map.shape:
            raise ValueError(f"image of {image.shape[:2]}, label map of {label_map.shape} pixels")
    except (OSError, ValueError) as error:
        raise ValueError(f"record {key}: {error}; run prepare_lmdb.py again") from error
    return image, label_map


def draw_split(folder, count, crop_size, seed):
    """Return the sheet of `count` records, drawn by lot, of a split that prepare_lmdb.py made."""
    classes = json.loads((folder / "summary.json").read_text())["classes"]
    readers = [records.RecordReader(folder / name) for name in ("images", "labels")]
    keys = readers[0].keys
    if keys != readers[1].keys:
        raise ValueError("images and labels have other keys; run prepare_lmdb.py again")
    rows, seen = [], set()
    for record in sorted(np.random.default_rng(seed).permutation(len(keys))[:count].tolist()):
        image, label_map = read_record(readers, keys[record])
        rows.append((keys[record], draw_record(image, label_map, crop_size, seed, record)))
        seen.update(np.unique(label_map).tolist())
    names = {row["index"]: row["name"] for row in classes} | {IGNORE_LABEL: "ignored"}
    legend = [(index, names.get(index, "no class!")) for index in sorted(seen)]
    return drawing.sheet(COLUMNS, rows, legend, CELL)


def browse(args):
    """Write the sheet of the arguments; raise OSError or ValueError for what is wrong."""
    try:
        sheet = draw_split(args.folder, args.count, args.crop_size, args.seed)
    except (OSError, ValueError) as error:
        raise ValueError(f"{args.folder}: {error}") from error
    with atomic.new_file(args.out) as path:
        path.write_bytes(cv2.imencode(args.out.suffix, sheet)[1].tobytes())


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("folder", type=Path, help="a split made by prepare_lmdb.py, OUT/SPLIT")
    parser.add_argument(
        "--out", type=Path, required=True, help="sheet to write, a .png or .jpg file"
    )
    parser.add_argument(
        "--count", type=int, default=8, help="number of records (default: %(default)s)"
    )
    parser.add_argument(
        "--crop-size", type=int, default=321, help="in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="for choosing records and crops (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    if args.count < 1 or args.crop_size < 1 or args.seed < 0:
        parser.error("expected --count and --crop-size of at least 1, --seed of at least 0")
    if args.out.suffix not in (".png", ".jpg"):
        parser.error(f"--out is {args.out}, expected a name that ends with .png or .jpg")
    return cli.run("browse_dataset", browse, args)


if __name__ == "__main__":
    sys.exit(main())
