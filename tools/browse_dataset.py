#!/usr/bin/env python3
"""Draw what a network will be trained on, straight from the LMDBs: look before a long training.

Example: tools/browse_dataset.py data/voc_lmdb/train_aug --out sheet.png
A row of the sheet is a record: the image, its label map, the two overlaid, and the crop of it that
the SegData layer makes in its first epoch with this seed, with its label. The legend below names
the classes in those records. Exit codes: 0 done, 1 bad data, 2 bad usage.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gcrf import atomic, records, voc
from gcrf.label_maps import IGNORE_LABEL
from gcrf.nets import MEAN_BGR
from python_layers import seg_data

COLUMNS = ("image", "label", "overlay", "training crop", "its label")
CELL = 240  # pixels, the sides of a picture on the sheet
LINE = 22  # pixels, the height of a line of text
ENTRY = 200  # pixels, the width of an entry of the legend


def colour(label_map):
    """Return a label map, (H, W) uint8, in VOC's colours but ignored pixels white: RGB."""
    palette = voc.palette()
    palette[IGNORE_LABEL] = 255
    return palette[label_map]


def overlay(image, label_map):
    """Return an image, (H, W, 3) uint8 RGB, half covered by what is not background."""
    mixed = cv2.addWeighted(image, 0.5, colour(label_map), 0.5, 0)
    return np.where(label_map[:, :, None] == 0, image, mixed)


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

    image: (H, W, 3) uint8 RGB; label_map: (H, W) uint8; record: its place in the LMDB.
    """
    window = seg_data.choose_window(
        label_map.shape, crop_size, True, random=True, seed=seed, record=record
    )
    data, labels = seg_data.crop_and_mirror(
        image[:, :, ::-1], label_map, crop_size, window, mean=MEAN_BGR, ignore_label=IGNORE_LABEL
    )
    crop = np.rint(data.transpose(1, 2, 0) + MEAN_BGR).astype(np.uint8)
    return np.ascontiguousarray(crop[:, :, ::-1]), labels[0].astype(np.uint8)


def draw_record(image, label_map, crop_size, seed, record):
    """Return the pictures of a record, RGB, under the titles in COLUMNS."""
    crop, crop_label = shrink(*crop_as_layer(image, label_map, crop_size, seed, record))
    image, label_map = shrink(image, label_map)
    return [image, colour(label_map), overlay(image, label_map), crop, colour(crop_label)]


def draw_sheet(rows, legend):
    """Return the sheet, a PIL image.

    rows: [(key, pictures), ...]; legend: [(class index, name), ...].
    """
    width = CELL * len(COLUMNS)
    legend_columns = width // ENTRY
    legend_top = LINE + len(rows) * (LINE + CELL)
    height = legend_top + -(-len(legend) // legend_columns) * LINE
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(COLUMNS):
        draw.text((column * CELL + 4, 2), title, "black", font)
    for number, (key, pictures) in enumerate(rows):
        top = LINE + number * (LINE + CELL)
        draw.text((4, top + 2), key, "black", font)
        draw.rectangle((0, top + LINE, width, top + LINE + CELL - 1), "dimgrey")
        for column, picture in enumerate(pictures):
            left = column * CELL + (CELL - picture.shape[1]) // 2
            sheet.paste(Image.fromarray(picture), (left, top + LINE))
    for number, (index, name) in enumerate(legend):
        row, column = divmod(number, legend_columns)
        left, top = column * ENTRY, legend_top + row * LINE
        fill = tuple(colour(np.full((1, 1), index, np.uint8))[0, 0].tolist())
        draw.rectangle((left + 4, top + 3, left + 24, top + LINE - 4), fill, "black")
        draw.text((left + 30, top + 2), f"{index} {name}", "black", font)
    return sheet


def read_record(readers, key):
    """Return a record's (image, label map): (H, W, 3) uint8 RGB and (H, W) uint8."""
    try:
        image, label = (reader.read(key).data for reader in readers)
        image, label_map = seg_data.decode_image(image), seg_data.decode_label(label)
        if image.shape[:2] != label_map.shape:
            raise ValueError(f"image of {image.shape[:2]}, label map of {label_map.shape} pixels")
    except (OSError, ValueError) as error:
        raise ValueError(f"record {key}: {error}; run prepare_lmdb.py again") from error
    return np.ascontiguousarray(image[:, :, ::-1]), label_map


def browse(folder, count, crop_size, seed):
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
    return draw_sheet(rows, [(index, names.get(index, "no class!")) for index in sorted(seen)])


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a split that prepare_lmdb.py made, OUT/SPLIT")
    parser.add_argument("--out", type=Path, required=True, help="the sheet, a .png or .jpg file")
    parser.add_argument("--count", type=int, default=8, help="records (default: %(default)s)")
    parser.add_argument("--crop-size", type=int, default=321, help="pixels (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the choice and the crops (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    if args.count < 1 or args.crop_size < 1 or args.seed < 0:
        parser.error("expected --count and --crop-size of at least 1, --seed of at least 0")
    if args.out.suffix not in (".png", ".jpg"):
        parser.error(f"--out is {args.out}, expected a name that ends with .png or .jpg")
    try:
        sheet = browse(args.folder, args.count, args.crop_size, args.seed)
    except (OSError, ValueError) as error:
        print(f"browse_dataset: {args.folder}: {error}", file=sys.stderr)
        return 1
    try:
        with atomic.new_file(args.out) as path:
            sheet.save(path)
    except OSError as error:
        print(f"browse_dataset: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
