"""Small data sets in VOC's layout."""

import io

import cv2
import numpy as np
from PIL import Image

from gcrf import label_maps, voc


def make_photo(random, height=48, width=64):
    """Return smooth colour noise, (height, width, 3) uint8."""
    coarse = random.uniform(0, 255, (6, 8, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + random.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def encode(pixels, image_format, mode=None, **options):
    """Return pixels as the bytes of an image file, in a mode of PIL if one is given."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, image_format, **options)
    return buffer.getvalue()


def make_label_map(random, height=48, width=64):
    """Return a label map with two classes of VOC, background and ignored pixels."""
    label_map = np.zeros((height, width), np.uint8)
    label_map[height // 4 :, : width // 2] = random.integers(1, 21)
    label_map[height // 2 :, width // 3 :] = random.integers(1, 21)
    label_map[height // 2 - 1] = label_maps.IGNORE_LABEL
    return label_map


def write_voc(root, splits):
    """Write noise in VOC's layout; splits: {name: ids}."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, ids in splits.items():
        voc.list_path(root, name).write_text("\n".join(ids) + "\n")
        for image_id in ids:
            photo, label_map = make_photo(random), make_label_map(random)
            image_path(root, image_id).write_bytes(encode(photo, "JPEG", quality=90))
            data = label_maps.encode_palette_png(label_map, voc.palette())
            label_path(root, image_id).write_bytes(data)


def image_path(root, image_id):
    """Return where VOC's layout keeps an image."""
    return root / "JPEGImages" / f"{image_id}.jpg"


def label_path(root, image_id):
    """Return where VOC's layout keeps a label map."""
    return root / "SegmentationClass" / f"{image_id}.png"
