"""Images and label maps in files: one reader for all, which returns what training sees.

An image is (H, W, 3) uint8 with colours in the order blue, green, red, as the SegData layer decodes
it: the pixels as stored, 16 bits cut to 8, transparency dropped.
"""

import io

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from gcrf import label_maps

JPEG_SIGNATURE = b"\xff\xd8\xff"
EXIF_ORIENTATION = 0x0112  # EXIF 2.3, section 4.6.4; 1 is upright


class BadFileError(ValueError):
    """A file that cannot be used; the message names it."""


def read_image(path):
    """Return an image of a data set, a JPEG or PNG file; raise BadFileError for any other."""
    try:
        data = read_bytes(path)
        check_image(data)
        return _decode(data)
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: {error}") from error


def read_photo(path):
    """Return an image in any format, turned upright as its EXIF tag says; raise BadFileError."""
    try:
        return decode_image(path.read_bytes(), upright=True)
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: {error}") from error


def read_truth(path):
    """Return a label map, (H, W) uint8; raise BadFileError if the file is none."""
    try:
        return label_maps.read_label_map(read_bytes(path))
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: {error}") from error


def read_bytes(path):
    """Return the bytes of a file, which must exist and not be empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError("no such file; correct the list, --root or --labels") from error
    if not data:
        raise ValueError("empty file; copy it again from its source")
    return data


def check_image(data):
    """Return (channels, height, width) of an encoded image that is fit for training.

    Raises ValueError if a decoder would fail, only warn, or turn the image.
    """
    if data.startswith(JPEG_SIGNATURE):
        shape = _check_jpeg(data)
        # A viewer turns such an image, but not its label map
        orientation = Image.open(io.BytesIO(data)).getexif().get(EXIF_ORIENTATION, 1)
        if orientation != 1:
            raise ValueError(
                f"EXIF orientation {orientation}, expected 1 (upright); turn the pixels and drop "
                "the tag, e.g. with exiftran -ai, and check the label map against the result"
            )
        return shape
    if not data.startswith(label_maps.PNG_SIGNATURE):
        raise ValueError("neither a JPEG nor a PNG image; convert it to one")
    height, width, channels = decode_image(data).shape
    return channels, height, width


def decode_image(data, upright=False):
    """Return a complete encoded image in any format that OpenCV knows; raise ValueError for others.

    upright: turn it as its EXIF tag says.
    """
    if data.startswith(JPEG_SIGNATURE):
        _check_jpeg(data)
    elif data.startswith(label_maps.PNG_SIGNATURE):
        label_maps.read_png_chunks(data)
    return _decode(data, upright)


def _check_jpeg(data):
    """Return (channels, height, width) of a JPEG; raise ValueError for damage OpenCV accepts."""
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    if colours not in ("Gray", "YCbCr", "RGB"):
        raise ValueError(f"JPEG in {colours}, expected RGB or grey; save it as RGB")
    # An eighth of the size is faster, and still reads every coded bit
    simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    return (1 if colours == "Gray" else 3), height, width


def _decode(data, upright=False):
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"cannot decode the image: {error}") from error
    if image is None:
        raise ValueError("cannot decode the image; save it as JPEG or PNG")
    return image
