"""gcrf.label_maps: label maps are read as the indices that were stored, or not at all."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_voc import encode, make_label_map

from gcrf import label_maps, voc

LABEL_MAP = make_label_map(np.random.default_rng(1))
PALETTE_PNG = label_maps.encode_palette_png(LABEL_MAP, voc.palette())


def test_a_palette_png_gives_its_indices_where_a_plain_decoder_gives_colours():
    """This is the trap that the module avoids."""
    colours = cv2.imdecode(np.frombuffer(PALETTE_PNG, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (colours != LABEL_MAP).any()
    np.testing.assert_array_equal(label_maps.read_label_map(PALETTE_PNG), LABEL_MAP)


def test_a_palette_png_keeps_its_compressed_pixels():
    """Only the header and the palette differ."""
    chunks = dict(label_maps.read_png_chunks(PALETTE_PNG))
    grey = dict(label_maps.read_png_chunks(label_maps.to_grey_png(PALETTE_PNG)))
    assert grey[b"IDAT"] == chunks[b"IDAT"]
    assert set(grey) == {b"IHDR", b"IDAT", b"IEND"}


def test_a_grey_png_is_returned_byte_by_byte():
    data = encode(LABEL_MAP, "PNG")
    assert label_maps.to_grey_png(data) is data


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_fewer_bits_give_their_indices(bits, tmp_path):
    """Some programs shrink the palettes of label maps with few classes."""
    few = LABEL_MAP % (1 << bits)
    image = Image.fromarray(few)
    image.putpalette(voc.palette()[: 1 << bits].tobytes())
    image.save(tmp_path / "few.png", bits=bits)
    data = (tmp_path / "few.png").read_bytes()
    assert label_maps.read_png_chunks(data)[0][1][8] == bits
    np.testing.assert_array_equal(label_maps.read_label_map(data), few)


@pytest.mark.parametrize("palette", [None, voc.palette().tobytes()])
def test_transparency_changes_no_index(palette, tmp_path):
    """Neither that of a grey value nor that of a palette entry does."""
    image = Image.fromarray(LABEL_MAP)
    if palette:
        image.putpalette(palette)
    image.save(tmp_path / "clear.png", transparency=0)
    data = (tmp_path / "clear.png").read_bytes()
    np.testing.assert_array_equal(label_maps.read_label_map(data), LABEL_MAP)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"in colours \(RGB\).*convert_rgb_labels"),
        (np.zeros((4, 4, 4), np.uint8), r"in colours \(RGBA\)"),
        (np.zeros((4, 4), np.uint16), "16 bits per pixel, expected 8"),
        (np.zeros((4, 4), bool), "1 bits per pixel, expected 8"),
    ],
)
def test_other_pixels_are_refused_with_the_mend(pixels, message):
    with pytest.raises(ValueError, match=message):
        label_maps.read_label_map(encode(pixels, "PNG"))


def test_other_formats_are_refused():
    """JPEG would blur the indices."""
    with pytest.raises(ValueError, match="not a PNG"):
        label_maps.read_label_map(encode(LABEL_MAP, "JPEG"))


@given(st.integers(0, 8 * len(PALETTE_PNG) - 1))
def test_any_flipped_bit_is_noticed(bit):
    data = bytearray(PALETTE_PNG)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="PNG"):
        label_maps.read_label_map(bytes(data))


@given(st.integers(0, len(PALETTE_PNG) - 1))
def test_any_truncation_is_noticed(length):
    with pytest.raises(ValueError, match="PNG"):
        label_maps.read_label_map(PALETTE_PNG[:length])


def test_counts_are_those_of_each_class_and_of_ignore():
    counts = label_maps.count_labels(np.array([[0, 2, 255], [0, 255, 255]], np.uint8), 3)
    assert counts.tolist() == [2, 0, 1, 3]


def test_an_index_that_is_no_class_is_named_with_its_place():
    """The last of 21 classes is 20."""
    label_map = np.zeros((3, 4), np.uint8)
    label_map[1, 2], label_map[2, 3] = 21, 254
    with pytest.raises(ValueError, match=r"label 21 at row 1, column 2.*0\.\.20.*\[21, 254\]"):
        label_maps.count_labels(label_map, 21)


def test_the_palette_is_vocs():
    """Some entries of the table in VOC's development kit."""
    colours = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    for index, colour in (colours | {255: (224, 224, 192)}).items():
        assert tuple(voc.palette()[index]) == colour
    assert len(voc.CLASSES) == 21
