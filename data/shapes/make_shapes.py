#!/usr/bin/env python3
"""Make a small data set in VOC's layout on which only distant pixels tell a class.

Example: data/shapes/make_shapes.py --out data/shapes/VOC
Each object is a long textured body with a coloured badge near one end. The badge alone tells the
class; the body's colours and texture are drawn anew for each object. So a part of the body far
from the badge can be any class by its looks, but looks like the rest of its own object.
Writes OUT/{JPEGImages,SegmentationClass,ImageSets,classes.txt}; the same seed gives the same
pixels. Exit codes: 0 done, 1 cannot write, 2 bad usage.
"""

import functools
import math
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from gcrf import atomic, cli, label_maps, voc

BADGES = {  # class name: colour of its badge, RGB; in the order of VOC's palette
    "red": (220, 30, 30),
    "green": (20, 190, 40),
    "yellow": (240, 220, 20),
    "blue": (40, 60, 230),
    "magenta": (225, 30, 200),
    "cyan": (20, 210, 220),
}
CLASS_NAMES = ["background", *BADGES]
BADGE_RADIUS = 12  # pixels
SIZES = 161, 241  # least and greatest height and width, pixels
LENGTHS, WIDTHS = (110, 180), (50, 70)  # of a body, pixels
NUM_OBJECTS = 2, 3  # least and greatest number in an image
LEAST_VISIBLE = 0.6  # of a body, under the objects in front of it
LEAST_CHROMA = 70  # of a body's colour, greatest less least of red, green and blue
LEAST_CONTRAST = 40  # between the colours of two bodies of an image, a distance in CIE Lab
JPEG_QUALITY = 92


def make_sample(random):
    """Return (image, label_map): (H, W, 3) uint8 RGB and (H, W) uint8.

    random: a numpy Generator; the sample depends on nothing else.
    """
    height, width = random.integers(SIZES[0], SIZES[1] + 1, 2)
    image = draw_ground(height, width, random)
    owner = np.zeros((height, width), np.uint8)  # the object that a pixel shows, 0 for the ground
    classes, areas, colours = [0], [], []
    all_badges = np.zeros((height, width), bool)
    num_objects = random.integers(NUM_OBJECTS[0], NUM_OBJECTS[1] + 1)
    for _ in range(60):  # tries: a crowded image ends with fewer objects
        body, badge = draw_outline(height, width, random)
        colour = random_colour(random)
        visible = [np.count_nonzero((owner == k + 1) & ~body) for k in range(len(areas))]
        if (
            badge.sum() < 3 * BADGE_RADIUS**2  # partly outside
            or body.sum() < 0.6 * LENGTHS[0] * WIDTHS[0]
            or (body & all_badges).any()
            or any(left < LEAST_VISIBLE * area for left, area in zip(visible, areas, strict=True))
            or any(contrast(colour, other) < LEAST_CONTRAST for other in colours)
        ):
            continue
        classes.append(random.integers(1, len(CLASS_NAMES)))
        areas.append(body.sum())
        colours.append(colour)
        all_badges |= badge
        owner[body] = len(areas)
        image[body] = draw_texture(height, width, colour, random)[body]
        draw_badge(image, badge, BADGES[CLASS_NAMES[classes[-1]]])
        if len(areas) == num_objects:
            break
    image = cv2.GaussianBlur(image, (3, 3), 0) + 6 * random.standard_normal(image.shape, np.float32)
    label_map = np.array(classes, np.uint8)[owner]
    neighbours = np.ones((3, 3), np.uint8)
    border = cv2.dilate(owner, neighbours) != cv2.erode(owner, neighbours)
    label_map[border] = label_maps.IGNORE_LABEL
    return np.clip(image, 0, 255).astype(np.uint8), label_map


def draw_outline(height, width, random):
    """Return (body, badge), (H, W) bool: a bent, uneven sausage and a disc near one end."""
    length, thickness = random.uniform(*LENGTHS), random.uniform(*WIDTHS)
    along = np.linspace(-0.5, 0.5, 40)
    turn = random.uniform(0, 2 * np.pi)
    angle = turn + random.uniform(-0.8, 0.8) * along
    steps = np.stack([np.cos(angle), np.sin(angle)], 1) * length / len(along)
    spine = np.cumsum(steps, 0)
    spine += random.uniform((0, 0), (width, height)) - spine.mean(0)
    bulge = 1 + 0.2 * np.sin(random.uniform(0, 6) + random.uniform(5, 9) * along)
    body = np.zeros((height, width), np.uint8)
    for (x, y), factor in zip(spine, bulge, strict=True):
        cv2.circle(body, (round(x), round(y)), round(thickness / 2 * factor), 1, -1)
    badge = np.zeros((height, width), np.uint8)
    x, y = spine[2]
    cv2.circle(badge, (round(x), round(y)), BADGE_RADIUS, 1, -1)
    return body > 0, badge > 0


def draw_texture(height, width, colour, random):
    """Return stripes, checks, dots or grain around a colour, (H, W, 3) uint8, at any angle."""
    turn, period = random.uniform(0, math.pi), random.uniform(7, 14)
    y, x = np.mgrid[:height, :width].astype(np.float32) * (2 * math.pi / period)
    across = np.sin(math.cos(turn) * x + math.sin(turn) * y)
    down = np.sin(-math.sin(turn) * x + math.cos(turn) * y)
    kind = random.integers(4)
    if kind == 3:
        grain = random.standard_normal((height, width), np.float32)
        pattern = cv2.GaussianBlur(grain, (0, 0), period / 5) * period / 2
    else:
        pattern = (across, across * down, across + down - 1)[kind]
    shade = random.integers(-55, 56, 3).astype(np.float32)
    texture = np.float32(colour) + np.tanh(2 * pattern)[:, :, None] * shade
    return np.clip(texture, 0, 255).astype(np.uint8)


def draw_ground(height, width, random):
    """Return a dull ground with patches of many textures, (H, W, 3) uint8."""
    grey = random.integers(70, 186)
    textures = [draw_texture(height, width, grey + random.integers(-15, 16, 3), random)]
    textures += [draw_texture(height, width, random_colour(random), random) for _ in range(5)]
    which = np.zeros((height, width), np.uint8)
    for _ in range(random.integers(40, 70)):
        centre = random.uniform((0, 0), (width, height))
        points = centre + random.normal(0, random.uniform(5, 14), (random.integers(3, 7), 2))
        cv2.fillPoly(which, [points.astype(np.int32)], int(random.integers(len(textures))))
    return np.choose(which[:, :, None], textures)


def random_colour(random):
    """Return an RGB colour that is not grey."""
    while True:
        colour = random.integers(40, 216, 3)
        if np.ptp(colour) >= LEAST_CHROMA:
            return colour


def draw_badge(image, badge, colour):
    """Paint a disc of that colour with a white ring on the image."""
    image[badge] = (250, 250, 250)
    image[cv2.erode(badge.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = colour


def contrast(one, other):
    """Return the distance in CIE Lab of two RGB colours, 0..255."""
    pair = np.array([[one, other]], np.float32) / 255
    lab = cv2.cvtColor(pair, cv2.COLOR_RGB2Lab)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


def write_data_set(folder, num_train, num_val, seed, progress):
    """Write the data set to an empty folder; progress wraps the iteration over the samples."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    ids = [f"shapes_{number:06d}" for number in range(num_train + num_val)]
    voc.list_path(folder, "train").write_text("\n".join(ids[:num_train]) + "\n")
    voc.list_path(folder, "val").write_text("\n".join(ids[num_train:]) + "\n")
    for number, name in enumerate(progress(ids)):
        image, label_map = make_sample(np.random.default_rng((seed, number)))
        jpeg = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg.tobytes())
        png = label_maps.encode_palette_png(label_map, voc.palette())
        (folder / "SegmentationClass" / f"{name}.png").write_bytes(png)


def make(args):
    """Write the data set of the arguments; raise OSError where it cannot be."""
    with atomic.new_folder(args.out) as folder:
        progress = functools.partial(tqdm, unit="image")
        write_data_set(folder, args.train, args.val, args.seed, progress)


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    for flag, default in (("--train", 800), ("--val", 60)):
        parser.add_argument(
            flag, type=cli.positive, default=default, help="images (default: %(default)s)"
        )
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    return cli.run("make_shapes", make, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
