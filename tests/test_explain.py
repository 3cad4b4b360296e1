"""tools/explain.py: the figures show the net's numbers, and these obey the formulas."""

import itertools
import json

import cv2
import explain
import numpy as np
import pytest
from small_voc import encode, make_photo
from tiny_nets import write_deploy_nets

from gcrf import drawing, explanation, shipped, voc
from gcrf.segmenter import UNARY, Segmenter, labels
from python_layers import gmf, similarity

WINDOW = 7  # of the tiny nets: 16 neighbours


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_deploy_nets(tmp_path_factory.mktemp("nets"))


@pytest.fixture(scope="module")
def network(files):
    return Segmenter(*files)


@pytest.fixture(scope="module")
def photo():
    return make_photo(np.random.default_rng(0), 76, 90)  # grid of 11 x 13, some in the padding


@pytest.fixture
def arguments(files, photo, tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(photo[:, :, ::-1], "PNG"))
    network = ["--deploy", str(files[0]), "--weights", str(files[1])]
    return [*network, str(tmp_path / "photo.png"), "--output", str(tmp_path / "out.png")]


def found_numbers(network, photo, pixel=None):
    return explain.numbers(explain.explain(network, photo, pixel), voc.CLASSES)


def test_the_energies_fall_and_are_those_of_the_twin(network, photo):
    found = explain.explain(network, photo)
    assert list(found.steps) == ["unary"] + [
        f"{layer} {half}" for layer in range(1, 6) for half in ("even", "odd")
    ]
    assert all(lower < energy for energy, lower in itertools.pairwise(found.energies))
    mu = r = found.steps["unary"][None].astype(float)
    s, C = found.similarity[None].astype(float), found.compatibility.astype(float)
    for step, energy in enumerate(found.energies):
        assert energy == pytest.approx(gmf.energy(mu, r, s, C, window=WINDOW)[0], rel=1e-5)
        mu = gmf.forward(mu, r, s, C, window=WINDOW, parity=step % 2)


def test_both_ends_of_a_pair_show_the_blob_s_similarity(network, photo):
    names = ["pairwise/filters", "similarity"]
    blobs = network.blobs(photo, names)
    s = similarity.forward(blobs["pairwise/filters"].astype(float), window=WINDOW)[0]
    np.testing.assert_allclose(blobs["similarity"][0], s, atol=1e-5)
    here = found_numbers(network, photo, (48, 40))
    assert here["pixel"] == [48, 40] and len(here["neighbours"]) == 16
    for neighbour in here["neighbours"]:
        x, y = neighbour["pixel"]
        dy, dx = (y - 40) // 8, (x - 48) // 8
        assert dy % 2 == 1 and dx % 2 == 1 and max(abs(dy), abs(dx)) <= 3
        # Channels are dy = 1, 3 and in each dx = -3, -1, 1, 3, stored at the upper end.
        sign = 1 if dy > 0 else -1
        channel = 4 * (abs(dy) // 2) + (sign * dx + 3) // 2
        upper = (5, 6) if dy > 0 else (y // 8, x // 8)
        assert neighbour["similarity"] == blobs["similarity"][0, channel, *upper]
        if x < 90 and y < 76:
            there = found_numbers(network, photo, (x, y))["neighbours"]
            back = [other["similarity"] for other in there if other["pixel"] == [48, 40]]
            assert back == [neighbour["similarity"]]


def test_a_corner_has_the_neighbours_that_exist(network, photo):
    pixels = [
        neighbour["pixel"] for neighbour in found_numbers(network, photo, (0, 0))["neighbours"]
    ]
    assert sorted(pixels) == [[8, 8], [8, 24], [24, 8], [24, 24]]


def test_the_pixel_goes_to_the_nearest_cell(network, photo):
    assert found_numbers(network, photo, (43, 44))["pixel"] == [40, 48]
    assert found_numbers(network, photo, (89, 75))["pixel"] == [88, 72]


def test_scores_and_labels_are_the_net_s(network, photo):
    found = found_numbers(network, photo, (40, 48))
    blobs = network.blobs(photo, [UNARY, "gmf5/odd", "compatibility"])
    for step, name in ((0, UNARY), (-1, "gmf5/odd")):
        scores = blobs[name][0, :, 6, 5]
        assert found["steps"][step]["scores"] == scores.tolist()
        assert found["steps"][step]["label"] == voc.CLASSES[scores.argmax()]
    assert found["compatibility"] == blobs["compatibility"].tolist()
    whole = explain.explain(network, photo)
    np.testing.assert_array_equal(whole.labels, network.predict(photo))


def test_the_cell_chosen_is_the_most_changed_with_another_label():
    unary = np.zeros((2, 3, 4))
    unary[0] = 1
    result = unary.copy()
    result[:, 0, 1] = 5, 0  # the greatest change, but the label stays
    result[:, 1, 2] = 0, 1
    result[:, 2, 0] = 0, 2
    result[:, 2, 3] = 0, 9  # beyond an image 24 pixels wide
    assert explanation.choose_cell(unary, result, (17, 24)) == (2, 0)
    result[:, 1:] = unary[:, 1:]
    assert explanation.choose_cell(unary, result, (17, 24)) == (0, 1)


def test_the_command_draws_and_writes_the_numbers(arguments, network, photo, tmp_path):
    assert explain.main(arguments) == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape[:2] == (990, 1210)
    assert json.loads((tmp_path / "out.json").read_text()) == found_numbers(network, photo)


def test_the_trained_model_and_a_file_name_are_the_defaults(
    arguments, files, tmp_path, monkeypatch
):
    assert explain.main(arguments) == 0
    monkeypatch.setattr(shipped, "network_files", lambda: files)
    monkeypatch.chdir(tmp_path)
    assert explain.main(["photo.png"]) == 0
    assert (tmp_path / "explained.json").read_text() == (tmp_path / "out.json").read_text()
    assert (tmp_path / "explained.png").exists()


def test_the_figure_shows_each_neighbour_at_its_place(network, photo):
    found = explain.explain(network, photo, (48, 40))
    figure = explain.explain_figure(found, voc.CLASSES)
    axes = figure.subfigs[0].axes[0]
    shown, extent = axes.images[1].get_array(), axes.images[1].get_extent()
    for neighbour in found_numbers(network, photo, (48, 40))["neighbours"]:
        x, y = neighbour["pixel"]
        assert shown[y // 8, x // 8] == neighbour["similarity"]
    assert np.ma.count(shown) == 16
    assert extent == [-4, 13 * 8 - 4, 11 * 8 - 4, -4]  # a square of 8 pixels around each cell
    maps = [axes.images[0].get_array() for axes in figure.subfigs[1].subfigs[1].axes]
    np.testing.assert_array_equal(maps[0], voc.palette()[labels(found.steps["unary"])])
    np.testing.assert_array_equal(maps[5], voc.palette()[labels(found.steps["5 even"])])
    np.testing.assert_array_equal(maps[6], voc.palette()[found.labels])
    np.testing.assert_array_equal(maps[-1], voc.palette()[labels(found.steps["5 odd"])])


def test_compatibility_is_drawn_with_its_numbers():
    C = np.array([[1, -0.25, 0], [-0.25, 2, -0.001], [0, -0.001, 1]])
    axes = drawing.compatibility_figure(C, ["sky", "road", "car"]).axes[0]
    texts = "1.00 -0.25 0.00 -0.25 2.00 0.00 0.00 0.00 1.00"
    assert " ".join(text.get_text() for text in axes.texts) == texts
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sky", "road", "car"]


@pytest.mark.parametrize("pixel", [(90, 0), (0, 76), (-1, 0)])
def test_a_pixel_outside_the_image_is_an_error(arguments, pixel, capsys):
    assert explain.main([*arguments, "--pixel", *map(str, pixel)]) == 1
    expected = f"pixel {pixel[0]} {pixel[1]} is outside the image of 90 x 76 pixels: expected 0..89"
    assert expected in capsys.readouterr().err


def test_wrong_files_are_explained(arguments, files, tmp_path, capsys):
    unary = ["--deploy", str(files[0].with_name("deploy_unary.prototxt"))]
    assert explain.main([*arguments, *unary]) == 1
    assert "no blob similarity; expected the whole deploy net" in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    assert explain.main([*arguments, "--root", str(tmp_path)]) == 1
    assert "has 2 classes, the net 21" in capsys.readouterr().err
    (tmp_path / "photo.png").write_text("no image")
    assert explain.main(arguments) == 1
    assert "photo.png" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
