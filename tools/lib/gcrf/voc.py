"""The layout of PASCAL VOC: folders, lists, class names and colours."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

CLASSES = [  # VOC 2012 devkit, VOCinit.m; index 0 is the background
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


class Sample(NamedTuple):
    """One image with its label map."""

    id: str
    image: Path
    label: Path


def sample(root, image_id, label_folder="SegmentationClass"):
    """Return the Sample of an id in the data set in `root`."""
    image = Path(root) / "JPEGImages" / f"{image_id}.jpg"
    return Sample(image_id, image, Path(root) / label_folder / f"{image_id}.png")


def palette():
    """Return VOC's colours for the 256 indices, (256, 3) uint8 RGB.

    VOC 2012 devkit, VOClabelcolormap.m: the bits of the index, three at a time, fill the high
    bits of red, green and blue.
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), int)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def list_path(root, split):
    """Return where the data set in `root` keeps the list of a split."""
    return Path(root) / "ImageSets" / "Segmentation" / f"{split}.txt"


def read_ids(path):
    """Return the image ids in a list file, one per line."""
    lines = [line.split() for line in Path(path).read_text().splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path}: the list is empty, expected one image id per line")
    for number, words in enumerate(lines, 1):
        if len(words) != 1:
            raise ValueError(f"{path}: entry {number} is '{' '.join(words)}', expected one id")
    return [words[0] for words in lines]


def read_samples(path, root, label_folder):
    """Return the samples in a list file: ids in VOC's layout, or pairs of paths below `root`.

    A line is an id, for `root`/JPEGImages/ID.jpg and `root`/`label_folder`/ID.png, or an image
    and a label path. The id of a pair is its image path as written, without the suffix.
    Raises ValueError for an empty list, a wrong number of words, and an image listed twice.
    """
    samples, seen, root = [], {}, Path(root)
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        words = line.split()
        if len(words) == 1:
            samples.append(sample(root, words[0], label_folder))
        elif len(words) == 2:
            name = str(Path(words[0]).with_suffix(""))
            samples.append(Sample(name, root / words[0], root / words[1]))
        elif words:
            raise ValueError(
                f"{path}: line {number} has {len(words)} words, expected an id, or an image and a "
                "label path (neither with spaces)"
            )
        else:
            continue
        first = seen.setdefault(samples[-1].id, number)
        if first != number:
            raise ValueError(
                f"{path}: {samples[-1].id} is in line {first} and again in line {number}; "
                "remove one"
            )
    if not samples:
        raise ValueError(f"{path}: the list is empty, expected one image per line")
    return samples


def class_names(root):
    """Return the class names of the data set in `root`: the lines of its classes.txt, or VOC's.

    The line's number, from 0, is the class index.
    """
    path = Path(root) / "classes.txt"
    if not path.exists():
        return list(CLASSES)
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not 2 <= len(names) <= 255:
        raise ValueError(f"{path}: {len(names)} class names, expected 2 to 255, one per line")
    return names


def names_of_classes(root, num_classes):
    """Return as many class names as a net has classes: those of the data set in `root`.

    With root None they are VOC's or, for another number of classes, the indices. Raises ValueError
    if the data set has another number.
    """
    names = class_names(root) if root else CLASSES
    if root and len(names) != num_classes:
        raise ValueError(f"{root} has {len(names)} classes, the net {num_classes}; give its own")
    return names if len(names) == num_classes else [str(label) for label in range(num_classes)]
