#!/usr/bin/env python3
"""Convert label maps painted in colours to palette PNGs of class indices.

Example: tools/convert_rgb_labels.py --labels painted --out SegmentationClass

A colour that is not in the table stops the run. White and VOC's void colour become ignore (255).
OUT appears only when everything is done. Exit codes: 0 done, 1 bad data, 2 bad usage.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from gcrf import atomic, cli, label_maps, voc

WHITE = (255, 255, 255)


def index_colours(image, colours):
    """Return the class index of each pixel, (H, W) uint8.

    image: (H, W, 3) uint8 RGB; colours: (K, 3) uint8 RGB, the colour of each class.
    Raises ValueError for a colour that stands neither in `colours` nor for ignore.
    """
    table = np.full(1 << 24, -1, np.int16)
    table[_codes(np.array([WHITE, voc.palette()[label_maps.IGNORE_LABEL]]))] = (
        label_maps.IGNORE_LABEL
    )
    table[_codes(colours)] = np.arange(len(colours))
    label_map = table[_codes(image)]
    if (label_map < 0).any():
        y, x = np.argwhere(label_map < 0)[0]
        raise ValueError(
            f"colour {image[y, x].tolist()} at row {y}, column {x} stands for no class; add it to "
            "--colours, or export the file without smoothing"
        )
    return label_map.astype(np.uint8)


def _codes(colours):
    """Return red, green and blue, the last axis of `colours`, as one number."""
    return colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def read_colours(path):
    """Return the colours in a file of lines "red green blue", the line number being the class."""
    colours = np.loadtxt(path, int, ndmin=2, usecols=(0, 1, 2))
    if not 1 <= len(colours) <= 255 or colours.min() < 0 or colours.max() > 255:
        raise ValueError(f"{path}: expected 1 to 255 lines of three numbers, 0 to 255")
    return colours.astype(np.uint8)


def convert(args):
    """Convert what the arguments name; raise OSError or ValueError for what is wrong."""
    colours = read_colours(args.colours) if args.colours else voc.palette()[: len(voc.CLASSES)]
    paths = sorted(args.labels.glob("*.png"))
    if not paths:
        raise ValueError(f"{args.labels}: no PNG files in this folder; correct --labels")
    with atomic.new_folder(args.out) as out:
        for path in tqdm(paths, unit="file"):
            try:
                label_map = index_colours(np.asarray(Image.open(path).convert("RGB")), colours)
            except (OSError, ValueError) as error:
                raise ValueError(f"{path}: {error}") from error
            data = label_maps.encode_palette_png(label_map, voc.palette())
            (out / path.name).write_bytes(data)


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="folder of coloured PNGs")
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    parser.add_argument(
        "--colours",
        type=Path,
        help='text file, one line "red green blue" per class (default: the 21 classes of VOC)',
    )
    return cli.run("convert_rgb_labels", convert, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
