"""tools/predict.py: a user's images through a deploy net."""

import cv2
import numpy as np
import predict
import pytest
from PIL import Image
from skimage import data
from small_voc import encode, make_photo
from tiny_nets import write_deploy_nets

from gcrf import label_maps, shipped, voc
from gcrf.segmenter import Segmenter


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    deploy, weights = write_deploy_nets(tmp_path_factory.mktemp("nets"))
    return ["--deploy", str(deploy), "--weights", str(weights)]


@pytest.fixture
def photos(tmp_path):
    """A folder of two images, PNG to be exact."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(48, 64), (30, 70)]):
        photo = make_photo(np.random.default_rng(number), *size)
        (folder / f"photo{number}.png").write_bytes(encode(photo, "PNG"))
    return folder


def run(network, out, *more):
    return predict.main([*network, "--output", str(out), *map(str, more)])


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_label_map_overlay_and_probabilities(network, photos, tmp_path):
    out = tmp_path / "out"
    assert run(network, out, photos / "photo0.png", "--probabilities") == 0
    assert names(out) == ["photo0.png", "photo0_overlay.jpg", "photo0_probabilities.npy"]
    expected = Segmenter(network[1], network[3]).predict(cv2.imread(str(photos / "photo0.png")))
    assert Image.open(out / "photo0.png").mode == "P"
    label_map = label_maps.read_label_map((out / "photo0.png").read_bytes())
    np.testing.assert_array_equal(label_map, expected)
    assert cv2.imread(str(out / "photo0_overlay.jpg")).shape == (48, 64, 3)
    probabilities = np.load(out / "photo0_probabilities.npy").astype(np.float32)
    assert probabilities.shape == (21, 48, 64)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=0.01)


def test_the_overlay_has_the_colours_of_the_classes(network, tmp_path, monkeypatch):
    aeroplane = 1  # dark red
    monkeypatch.setattr(
        predict, "labels", lambda scores: np.full(scores.shape[1:], aeroplane, np.uint8)
    )
    Image.new("RGB", (64, 48), (100, 50, 200)).save(tmp_path / "photo.png")
    assert run(network, tmp_path / "out", tmp_path / "photo.png") == 0
    overlay = np.asarray(Image.open(tmp_path / "out/photo_overlay.jpg"))  # red, green, blue
    np.testing.assert_allclose(overlay[24, 32], ((100 + 128) / 2, 50 / 2, 200 / 2), atol=3)


def test_the_trained_model_is_the_default(network, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "network_files", lambda: (network[1], network[3]))
    monkeypatch.chdir(tmp_path)
    assert predict.main([str(photos / "photo0.png")]) == 0
    assert capsys.readouterr().out == "1 of 1 images segmented into segmented/\n"
    assert run(network, "named", photos / "photo0.png") == 0
    found, expected = (tmp_path / name / "photo0.png" for name in ("segmented", "named"))
    assert found.read_bytes() == expected.read_bytes()
    for half in (network[:2], network[2:]):
        assert predict.main([*half, str(photos / "photo0.png")]) == 1
        assert "--deploy and --weights belong together" in capsys.readouterr().err


def test_without_the_trained_model_the_error_says_what_to_do(photos, monkeypatch, capsys):
    for name in ("JOINED", "INSTALLED"):
        monkeypatch.setattr(shipped, name, photos / "none.caffemodel")
    assert predict.main([str(photos / "photo0.png")]) == 1
    assert "no trained model yet; run make" in capsys.readouterr().err


@pytest.mark.usefixtures("shipped_model")
def test_a_real_photograph(tmp_path):
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")
    assert predict.main([str(tmp_path / "cat.jpg"), "--output", str(tmp_path / "out")]) == 0
    assert names(tmp_path / "out") == ["cat.png", "cat_overlay.jpg"]
    found = Image.open(tmp_path / "out/cat.png")
    assert found.mode == "P" and found.size == (451, 300)
    np.testing.assert_array_equal(np.reshape(found.getpalette(), (-1, 3)), voc.palette())
    assert np.median(found) == voc.CLASSES.index("cat")


def test_a_folder_or_a_glob_names_many(network, photos, tmp_path):
    assert run(network, tmp_path / "folder", photos) == 0
    assert run(network, tmp_path / "glob", photos / "*1.png", photos / "photo1.png") == 0
    assert len(names(tmp_path / "folder")) == 4
    assert names(tmp_path / "glob") == ["photo1.png", "photo1_overlay.jpg"]


def test_what_is_no_image_is_named_and_the_rest_go_on(network, photos, tmp_path, capsys):
    (photos / "a.jpg").write_text("no image")
    data = encode(make_photo(np.random.default_rng(0)), "JPEG")
    (photos / "b.jpg").write_bytes(data[: len(data) // 2])
    assert run(network, tmp_path / "out", photos) == 1
    errors = capsys.readouterr().err
    assert f"predict: {photos / 'a.jpg'}: cannot decode the image" in errors
    assert f"predict: {photos / 'b.jpg'}: " in errors and "2 of 4 files are bad" in errors
    assert names(tmp_path / "out") == [
        f"photo{number}{end}" for number in (0, 1) for end in (".png", "_overlay.jpg")
    ]


def test_grey_and_turned_photographs(network, tmp_path):
    photo = Image.fromarray(make_photo(np.random.default_rng(0)))
    exif = photo.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    photo.save(tmp_path / "turned.jpg", exif=exif)
    photo.convert("L").save(tmp_path / "grey.png")
    assert run(network, tmp_path / "out", tmp_path / "turned.jpg", tmp_path / "grey.png") == 0
    assert Image.open(tmp_path / "out/turned.png").size == (48, 64)
    assert Image.open(tmp_path / "out/grey.png").size == (64, 48)


def test_nothing_is_overwritten_by_accident(network, photos, tmp_path, capsys):
    assert run(network, photos, photos) == 1
    assert "holds images to segment" in capsys.readouterr().err
    (photos / "photo0.jpg").write_bytes(b"")
    assert run(network, tmp_path / "out", photos) == 1
    assert "would both be written as photo0.png" in capsys.readouterr().err
    assert names(photos) == ["photo0.jpg", "photo0.png", "photo1.png"]


def test_an_argument_that_names_nothing_is_an_error(network, tmp_path, capsys):
    assert run(network, tmp_path / "out", tmp_path / "*.jpg") == 1
    assert "*.jpg: no such file, folder with files, or match" in capsys.readouterr().err
