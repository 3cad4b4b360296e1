"""gcrf.images: one reading of a file, BGR, the pixels that training sees."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from small_voc import encode, make_photo

from gcrf import images

RED, BLUE = (255, 0, 0), (0, 0, 255)  # as PIL has them


def halves(left, right, size=(16, 32)):
    """Return a picture of two colours side by side, of PIL."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, : size[1] // 2], pixels[:, size[1] // 2 :] = left, right
    return Image.fromarray(pixels)


def saved(picture, image_format, orientation=1):
    """Return a picture as the bytes of a file with an EXIF orientation."""
    exif, buffer = picture.getexif(), io.BytesIO()
    exif[images.EXIF_ORIENTATION] = orientation
    picture.save(buffer, image_format, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_blue_is_first_and_red_is_last(image_format):
    image = images.decode_image(encode(np.asarray(halves(RED, BLUE)), image_format, lossless=True))
    assert image.dtype == np.uint8 and image.shape == (16, 32, 3)
    assert image[0, 0].tolist() == [0, 0, 255] and image[0, -1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_only_a_photo_is_turned_upright(tmp_path, image_format):
    quarter_turn = 6  # the left side of the pixels is the top of the photo
    path = tmp_path / "photo"
    path.write_bytes(saved(halves(RED, BLUE), image_format, quarter_turn))
    stored, upright = images.decode_image(path.read_bytes()), images.read_photo(path)
    assert stored.shape == (16, 32, 3) and upright.shape == (32, 16, 3)
    assert stored[8, 4, 2] > 200 > stored[8, 28, 2]  # red on the left
    assert upright[4, 8, 2] > 200 > upright[28, 8, 2]  # red at the top


def test_of_16_bits_the_upper_8_count():
    grey = np.array([[0, 255, 256, 65535]], np.uint16)
    image = images.decode_image(cv2.imencode(".png", grey)[1].tobytes())
    assert image[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_half_a_file_is_no_image(tmp_path, image_format):
    data = encode(make_photo(np.random.default_rng(0)), image_format)
    path = tmp_path / "photo"
    path.write_bytes(data[: len(data) // 2])
    for read in (images.read_photo, images.read_image):
        with pytest.raises(images.BadFileError, match=f"^{path}: "):
            read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "cannot decode the image"), (b"no image", "cannot decode the image")],
)
def test_what_is_no_image_at_all_is_named(tmp_path, data, message):
    path = tmp_path / "photo"
    path.write_bytes(data)
    with pytest.raises(images.BadFileError, match=f"^{path}: {message}"):
        images.read_photo(path)


def test_a_jpeg_for_print_is_refused():
    data = encode(make_photo(np.random.default_rng(0)), "JPEG", "CMYK")
    with pytest.raises(ValueError, match="JPEG in CMYK, expected RGB or grey; save it as RGB"):
        images.decode_image(data)
