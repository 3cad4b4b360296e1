"""gcrf.drawing: colours of label maps, overlays and sheets; its figures have their own tests."""

import numpy as np
from small_voc import make_label_map, make_photo

from gcrf import drawing, voc

AEROPLANE, IGNORED = 1, 255


def test_colours_are_vocs_in_the_order_of_images_but_ignored_pixels_white():
    label_map = np.array([[0, AEROPLANE, IGNORED]], np.uint8)
    assert voc.palette()[AEROPLANE].tolist() == [128, 0, 0]  # dark red
    found = drawing.colour(label_map)
    assert found.tolist() == [[[0, 0, 0], [0, 0, 128], [255, 255, 255]]]
    assert drawing.rgb(found)[0, 1].tolist() == [128, 0, 0]


def test_an_overlay_is_half_colour_half_image_and_leaves_the_background():
    random = np.random.default_rng(0)
    photo, label_map = make_photo(random), make_label_map(random)
    overlay = drawing.overlay(photo, label_map)
    np.testing.assert_array_equal(overlay[label_map == 0], photo[label_map == 0])
    half = photo.astype(int) / 2 + drawing.colour(label_map) / 2
    np.testing.assert_allclose(overlay[label_map != 0], half[label_map != 0], atol=1)


def test_a_sheet_shows_its_pictures_and_its_legend():
    red = np.zeros((20, 20, 3), np.uint8)
    red[:, :, 2] = 200
    sheet = drawing.sheet(["a", "b"], [("row", [red, red])], [(AEROPLANE, "aeroplane")], cell=200)
    line = drawing.LINE
    assert sheet.shape == (line + (line + 200) + line, 400, 3)
    for left in (90, 290):  # in the middle of its place
        np.testing.assert_array_equal(sheet[2 * line : 2 * line + 20, left : left + 20], red)
    assert sheet[-line // 2, 14].tolist() == [0, 0, 128]
