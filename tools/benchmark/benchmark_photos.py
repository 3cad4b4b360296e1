"""Noise that is as hard to decode as photographs and their label maps."""

import cv2
import numpy as np

HEIGHT, WIDTH = 375, 500  # the commonest size in VOC 2012
NUM_CLASSES = 21


def make_noise(random, cells):
    """Return a map (HEIGHT, WIDTH) of smooth noise; cells: its detail, in cells across."""
    coarse = random.standard_normal((cells * HEIGHT // WIDTH + 2, cells + 2)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def make_photo(random):
    """Return a JPEG of noise of all scales, as many bytes as VOC's photographs of that size."""
    cells = 2 ** np.arange(1, 10)
    channels = [sum(make_noise(random, n) / n**0.3 for n in cells) for _ in range(3)]
    pixels = np.clip(128 + 40 * np.stack(channels, axis=2), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def make_label(random):
    """Return a label PNG of a few smooth regions, compressed as VOC's are: without filters."""
    scores = np.stack([make_noise(random, 4) for _ in range(4)])
    classes = random.integers(0, NUM_CLASSES, len(scores))[scores.argmax(0)]
    options = {
        cv2.IMWRITE_PNG_FILTER: cv2.IMWRITE_PNG_FILTER_NONE,
        cv2.IMWRITE_PNG_STRATEGY: cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
        cv2.IMWRITE_PNG_COMPRESSION: 6,
    }
    flags = [value for option in options.items() for value in option]
    return cv2.imencode(".png", classes.astype(np.uint8), flags)[1].tobytes()
