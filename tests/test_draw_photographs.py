"""tools/draw_photographs.py: photographs beside what the unary, a dense CRF and the GCRF make."""

import cv2
import draw_photographs
import numpy as np
import pytest
from small_voc import encode, make_photo
from tiny_nets import write_deploy_nets

from gcrf import dense_crf, drawing, shipped
from gcrf.segmenter import UNARY, Segmenter, labels

PARAMETERS = dense_crf.Parameters(3.0, 3.0, 4.0, 80.0, 13.0, 5)
SIZES = [(48, 64), (70, 41)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_deploy_nets(tmp_path_factory.mktemp("nets"))


@pytest.fixture
def photos(tmp_path):
    """The paths of two images, PNG to be exact."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, size in zip(paths, SIZES, strict=True):
        path.write_bytes(encode(make_photo(np.random.default_rng(size[0]), *size), "PNG"))
    return paths


def run(photos, tmp_path, *more):
    arguments = ["--output", tmp_path / "out.png", *more, *photos]
    return draw_photographs.main([str(argument) for argument in arguments])


def test_each_column_shows_what_its_title_says(files, photos):
    segmenter = Segmenter(*files)
    images = [cv2.imread(str(path)) for path in photos]
    pixels = [(8, 16), None]
    figure = draw_photographs.photographs_figure(segmenter, images, pixels, PARAMETERS)
    panels = np.reshape(figure.axes[:10], (2, 5))  # then the bars of the colours
    titles = ["photograph", "unary", "unary + dense CRF", "GCRF", "similarity s to one pixel"]
    assert [panel.get_title() for panel in panels[0]] == titles
    for row, image in zip(panels, images, strict=True):
        unary = segmenter.scores(image, [UNARY])[0]
        maps = [labels(unary), dense_crf.refine(unary, image, PARAMETERS), segmenter.predict(image)]
        expected = [image, *map(drawing.colour, maps)]
        for panel, picture in zip(row[:4], expected, strict=True):
            np.testing.assert_array_equal(panel.images[0].get_array(), drawing.rgb(picture))
    assert [line.get_xydata().tolist() for line in panels[0, 4].lines] == [[[8, 16]]]
    assert np.ma.count(panels[0, 4].images[1].get_array()) > 4


def test_the_command_takes_the_trained_model(files, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "network_files", lambda: files)
    dense_crf.save(tmp_path / "crf.json", PARAMETERS, {})
    assert run(photos, tmp_path, "--dense-crf", tmp_path / "crf.json") == 0
    with_dense_crf = cv2.imread(str(tmp_path / "out.png")).shape
    assert run(photos, tmp_path) == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape[1] < with_dense_crf[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--pixel", 8, 8], "1 times --pixel for 2 photographs, expected one for each"),
        (["--pixel", 8, 8, "--pixel", 41, 8], "pixel 41 8 is outside the image of 41 x 70"),
        (["none.png"], "none.png"),
        (["--dense-crf", "none.json"], "none.json"),
    ],
    ids=["pixels", "outside", "photograph", "dense CRF"],
)
def test_bad_arguments_are_named(more, message, *, files, photos, tmp_path, capsys):
    network = ["--deploy", files[0], "--weights", files[1]]
    assert run(photos, tmp_path, *network, *more) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()
