"""Draw a contact sheet of what a network will see, straight from the LMDBs, with a legend.

Example: tools/browse_dataset.py data/voc_lmdb/train_aug --out sheet.png --count 12
A row shows a record: image, coloured label map, the two overlaid, and a training crop with its
label, mirrored and padded as the SegData layer does it. White pixels are ignored ones.
Exit codes: 0 done, 1 bad data, 2 bad usage.
"""

import argparse
import json
import sys
from pathlib import Path

import atomic
import cv2
import label_maps
import numpy as np
import records
import voc
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python_layers"))
import seg_data

CELL = 240  # pixels, the sides of a picture on the sheet
TEXT = 22  # pixels, the height of a line
COLUMNS = "image", "label", "overlay", "training crop", "its label"
MEAN_BGR = 104.008, 116.669, 122.675  # of the nets; the colour of the padding


def colour(label_map):
    """Return a label map, (H, W) uint8, in VOC's colours with ignored pixels white, BGR."""
    palette = voc.palette()
    palette[label_maps.IGNORE_LABEL] = 255
    return palette[label_map][:, :, ::-1]


def overlay(image, label_map):
    """Return an image, (H, W, 3) uint8 BGR, under its half transparent label map."""
    mixed = cv2.addWeighted(image, 0.5, colour(label_map), 0.5, 0)
    return np.where(label_map[:, :, None] == 0, image, mixed)


def draw_record(image, label_map, crop_size, seed):
    """Return the five pictures of a record, (H, W, 3) uint8 BGR, under the names in COLUMNS."""
    window = seg_data.choose_window(label_map.shape, crop_size, True, random=True, seed=seed)
    data, classes = seg_data.crop_and_mirror(image, label_map, crop_size, window, mean=MEAN_BGR)
    crop = np.round(data.transpose(1, 2, 0) + MEAN_BGR).astype(np.uint8)
    crop_label = classes[0].astype(np.uint8)
    return [image, colour(label_map), overlay(image, label_map), crop, colour(crop_label)]


def fit(picture):
    """Return a picture scaled down to a cell, centred on grey."""
    cell = np.full((CELL, CELL, 3), 64, np.uint8)
    scale = min(CELL / max(picture.shape[:2]), 1)
    height, width = (max(round(size * scale), 1) for size in picture.shape[:2])
    small = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA)
    top, left = (CELL - height) // 2, (CELL - width) // 2
    cell[top : top + height, left : left + width] = small
    return cell


def draw_sheet(rows, class_names):
    """Return the sheet, a PIL image.

    rows: [(key, five pictures), ...]; class_names: [(class index, name), ...] for the legend.
    """
    width = CELL * len(COLUMNS)
    per_line = width // 200
    legend = [*class_names, (label_maps.IGNORE_LABEL, "ignored")]
    legend_lines = -(-len(legend) // per_line)
    height = TEXT + len(rows) * (TEXT + CELL) + legend_lines * TEXT
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, title in enumerate(COLUMNS):
        draw.text((column * CELL + 4, 2), title, "black", font)
    for number, (key, pictures) in enumerate(rows):
        top = TEXT + number * (TEXT + CELL)
        draw.text((4, top + 2), key, "black", font)
        strip = np.hstack([fit(picture) for picture in pictures])
        sheet.paste(Image.fromarray(strip[:, :, ::-1]), (0, top + TEXT))
    for number, (index, name) in enumerate(legend):
        left, top = number % per_line * 200, height - (legend_lines - number // per_line) * TEXT
        swatch = tuple(int(value) for value in colour(np.array([[index]], np.uint8))[0, 0, ::-1])
        draw.rectangle((left + 4, top + 3, left + 24, top + TEXT - 3), swatch, "black")
        draw.text((left + 30, top + 2), f"{index} {name}", "black", font)
    return sheet


def browse(folder, count, crop_size, seed):
    """Return the sheet of `count` records drawn from the LMDBs that prepare_lmdb made in folder."""
    summary = json.loads((folder / "summary.json").read_text())
    images, labels = (records.RecordReader(folder / name) for name in ("images", "labels"))
    if images.keys != labels.keys:
        raise ValueError(f"{folder}: images and labels differ in their keys; prepare them again")
    chosen = np.random.default_rng(seed).permutation(len(images.keys))[:count]
    rows, seen = [], set()
    for record in sorted(chosen):
        key = images.keys[record]
        image = cv2.imdecode(np.frombuffer(images.read(key).data, np.uint8), cv2.IMREAD_COLOR)
        label_map = label_maps.read_label_map(labels.read(key).data)
        if image is None or image.shape[:2] != label_map.shape:
            raise ValueError(f"{folder}: {key} does not decode, or to two sizes; prepare it again")
        seen.update(np.unique(label_map).tolist())
        rows.append((key, draw_record(image, label_map, crop_size, seed + int(record))))
    names = [(row["index"], row["name"]) for row in summary["classes"] if row["index"] in seen]
    return draw_sheet(rows, names)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="OUT/SPLIT of prepare_lmdb.py")
    parser.add_argument("--out", type=Path, required=True, help="the sheet, a PNG or JPEG file")
    parser.add_argument("--count", type=int, default=8, help="records (default: %(default)s)")
    parser.add_argument("--crop-size", type=int, default=321, help="pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="draws them (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.count < 1 or args.crop_size < 1 or args.seed < 0:
        parser.error("--count and --crop-size must be at least 1, --seed at least 0")
    if args.out.suffix not in (".png", ".jpg"):
        parser.error(f"--out is {args.out}, expected a name that ends with .png or .jpg")
    try:
        sheet = browse(args.folder, args.count, args.crop_size, args.seed)
        with atomic.new_file(args.out) as path:
            sheet.save(path)
    except (OSError, ValueError) as error:
        print(f"browse_dataset: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
