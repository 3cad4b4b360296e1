"""Image and label crops from two LMDBs: the NumPy twin of the `SegData` layer.

Every random choice is a function of (seed, epoch, record) alone, where record is the place of the
key in the database:

    u_p = f(p ^ f(record ^ f(epoch ^ f(seed)))),  f = splitmix64 (Steele et al., 2014)      (1)
    a choice among n:  floor(floor(u_p / 2^32) n / 2^32)                                    (2)

With shuffle, an epoch visits the records by increasing u_0, otherwise by increasing key. The
layer's header explains the rest. The stream of batches is the same, bit for bit.
"""

import io
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from gcrf.images import decode_image
from gcrf.label_maps import IGNORE_LABEL
from gcrf.records import RecordReader

ORDER, ROW, COLUMN, MIRROR, SKIP, SCALE = range(6)  # p in Eq. (1)
SCALE_ONE = 65536  # factors are in units of 1 / 65536


def mix(x):
    """Return splitmix64 of x, uint64 (an array or a number)."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def draw(seed, epoch, record, choice):
    """Return u_p of Eq. (1), uint64; record may be an array."""
    u = mix(seed)
    for value in (epoch, record, choice):
        u = mix(np.asarray(value, np.uint64) ^ u)
    return u


def below(u, n):
    """Return the choice 0..n-1 that u makes, Eq. (2)."""
    return ((int(u) >> 32) * n) >> 32


def epoch_order(seed, epoch, num_records):
    """Return the order in which a shuffled epoch visits the records, a permutation."""
    return np.argsort(draw(seed, epoch, np.arange(num_records), ORDER), kind="stable")


class Window(NamedTuple):
    """The part of an image that a crop shows, its size in the crop, and whether it is mirrored."""

    rows: slice
    columns: slice
    size: tuple  # (k, k') of Eq. (3): height and width
    mirrored: bool


def divide_rounded(numerator, denominator):
    """Return the quotient of two natural numbers, rounded, at least 1."""
    return max(1, (numerator + denominator // 2) // denominator)


def fit_axis(image, crop, scale):
    """Return m and k of the layer's Eq. (3), from n, c and 65536 z."""
    part = min(image, divide_rounded(crop * SCALE_ONE, scale))
    return part, crop if part < image else min(crop, divide_rounded(image * scale, SCALE_ONE))


def choose_window(shape, crop_size, mirror, *, random, scale=(1.0, 1.0), seed=0, epoch=0, record=0):
    """Return the Window of a crop from an image of shape (H, W, ...).

    crop_size: in pixels, 0 for the whole image; random: a random place and a random factor from
    scale (as in the TRAIN phase), not the centre and 1 (TEST); mirror: mirror with probability one
    half, in both phases; scale: smallest and largest factor, 1/8 to 8, 1 without crop_size.
    """

    def choose(choice, n):
        return below(draw(seed, epoch, record, choice), n)

    low, high = (int(factor * SCALE_ONE + 0.5) for factor in scale)
    factor = low + choose(SCALE, high - low + 1) if random else SCALE_ONE
    parts, sizes = [], []
    for image, choice in zip(shape[:2], (ROW, COLUMN), strict=True):
        part, size = fit_axis(image, crop_size, factor) if crop_size else (image, image)
        free = image - part
        start = choose(choice, free + 1) if random else free // 2
        parts.append(slice(start, start + part))
        sizes.append(size)
    return Window(*parts, tuple(sizes), mirror and bool(choose(MIRROR, 2)))


def resize_label(label, size):
    """Return the nearest pixels of a label map, (H, W), at the size (h, w)."""
    rows, columns = (
        (2 * np.arange(k) + 1) * m // (2 * k) for m, k in zip(label.shape, size, strict=True)
    )
    return label[np.ix_(rows, columns)]


def crop_and_mirror(image, label, crop_size, window, *, mean=0, ignore_label=IGNORE_LABEL):
    """Return the crop (data, label) of an image and its label map.

    image: (H, W, 3) uint8, BGR; label: (H, W) uint8; crop_size: in pixels, 0 for the whole image;
    window: from choose_window; mean: a number or three, BGR. Returns data (3, h, w) and label
    (1, h, w), float32. Where a crop exceeds the image, at the bottom and on the right, data is 0
    (the mean) and label ignore_label.
    """
    height, width = window.size
    image = np.ascontiguousarray(image[window.rows, window.columns])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    label = resize_label(label[window.rows, window.columns], window.size)
    if window.mirrored:
        image, label = image[:, ::-1], label[:, ::-1]
    shape = (crop_size, crop_size) if crop_size else label.shape
    data = np.zeros((3, *shape), np.float32)
    classes = np.full((1, *shape), ignore_label, np.float32)
    centred = image.astype(np.float32) - np.asarray(mean, np.float32)
    data[:, :height, :width] = centred.transpose(2, 0, 1)
    classes[0, :height, :width] = label
    return data, classes


def decode_label(encoded):
    """Return the classes of an encoded label map, (H, W) uint8; raise ValueError for any other."""
    with Image.open(io.BytesIO(encoded)) as label:
        if label.format != "PNG" or label.mode != "L":
            raise ValueError(f"a {label.format} of mode {label.mode}, expected a greyscale PNG")
        return np.asarray(label)


class SegDataStream:
    """The endless stream of batches (data, label) of one solver.

    parameters: a SegDataParameter message; train: the TRAIN phase. In that phase, solver r of R
    (solver_rank, solver_count) takes every R-th record of the stream, starting with the r-th.
    """

    def __init__(self, parameters, train=True, solver_rank=0, solver_count=1):
        """Open the databases; raise ValueError unless they have the same keys."""
        self.parameters, self.train = parameters, train
        self.images = RecordReader(parameters.image_source)
        self.labels = RecordReader(parameters.label_source)
        if self.images.keys != self.labels.keys:
            sources = f"{parameters.image_source} and {parameters.label_source}"
            raise ValueError(f"the keys of {sources} differ, expected the same")
        self.position = below(draw(parameters.seed, 0, 0, SKIP), parameters.rand_skip)
        self.step = solver_count if train else 1
        if train:
            self.position += solver_rank

    def __iter__(self):
        """Return self."""
        return self

    def __next__(self):
        """Return the next batch, data (N, 3, h, w) and label (N, 1, h, w), float32."""
        samples = []
        for _ in range(self.parameters.batch_size):
            samples.append(self.sample(*divmod(self.position, len(self.images.keys))))
            self.position += self.step
        data, labels = zip(*samples, strict=True)
        return np.stack(data), np.stack(labels)

    def sample(self, epoch, place):
        """Return the crop (data, label) at a place of an epoch."""
        p = self.parameters
        record = place
        if p.shuffle:
            record = int(epoch_order(p.seed, epoch, len(self.images.keys))[place])
        key = self.images.keys[record]
        image = decode_image(self.images.read(key).data)
        label = decode_label(self.labels.read(key).data)
        window = choose_window(
            label.shape,
            p.crop_size,
            p.mirror,
            random=self.train,
            scale=(p.scale_min, p.scale_max),
            seed=p.seed,
            epoch=epoch,
            record=record,
        )
        mean = list(p.mean_value) or 0
        return crop_and_mirror(
            image, label, p.crop_size, window, mean=mean, ignore_label=p.ignore_label
        )
