"""tools/init_weights.py: every layer starts from the right weights, or the tool says why not."""

import subprocess
from dataclasses import replace

import caffe
import init_weights
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from tiny_nets import SMALL_IMAGES, random_net, tiny_settings

from gcrf import nets
from gcrf.caffemodel import read_caffemodel, write_caffemodel
from gcrf.nets import LITE, SMALL
from gcrf.starting_weights import start_gcrf, start_light_unary
from gcrf.vgg16 import TRUNK

SCORES = nets.TRUNKS[LITE.trunk].score_layers


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return tiny_settings(tmp_path_factory.mktemp("init"), **SMALL_IMAGES)


@pytest.fixture(scope="module")
def unary_weights(settings):
    """Random weights of the thin unary network, by DeepLab's layer names."""
    net = random_net(settings.output / "deploy_unary.prototxt")
    return {
        name.removeprefix("unary/"): [blob.data.copy() for blob in blobs]
        for name, blobs in net.params.items()
    }


def write_deeplab(path, weights):
    """Write weights like the published file's: old layers, and fields unknown to BVLC."""
    net = caffe_pb2.NetParameter(name="DeepLab-MSc-LargeFOV")
    net.layers.add(name="data", type=39)  # DeepLab's IMAGE_SEG_DATA, BVLC's DECONVOLUTION
    for name, arrays in weights.items():
        layer = net.layers.add(name="fc8_voc12" if name == "fc8" else name, type=4)
        for array in arrays:
            shape = (1,) * (4 - array.ndim) + array.shape
            blob = layer.blobs.add(
                **dict(zip(("num", "channels", "height", "width"), shape, strict=True))
            )
            blob.data.extend(array.ravel().tolist())
        # Field 1003, strict_dim: false; field 5, type 41, INTERP; field 43, interp_param.
        layer.MergeFromString(bytes([0xD8, 0x3E, 0x00, 0x28, 41, 0xDA, 0x02, 0x02, 0x18, 0x08]))
    path.write_bytes(net.SerializeToString())
    return path


def run(kind, settings, output, **sources):
    """Run the tool on the thin nets and return its exit code."""
    net = settings.output / ("deploy_unary.prototxt" if kind == "unary" else "deploy.prototxt")
    arguments = [kind, "--net", str(net), "--output", str(output)]
    for flag, path in sources.items():
        arguments += [f"--{flag}", str(path)]
    return init_weights.main(arguments)


def test_both_branches_start_as_deeplab(settings, unary_weights, tmp_path, capsys):
    source = write_deeplab(tmp_path / "deeplab.caffemodel", unary_weights)
    assert run("gcrf", settings, tmp_path / "init.caffemodel", unary=source) == 0
    weights = read_caffemodel(tmp_path / "init.caffemodel")
    for name, arrays in unary_weights.items():
        branches = ("unary",) if name in TRUNK.score_layers else ("unary", "pairwise")
        for branch in branches:
            for found, expected in zip(weights.pop(f"{branch}/{name}"), arrays, strict=True):
                np.testing.assert_array_equal(found, expected)
    assert weights.keys() == {"pairwise/filters", "compatibility"}
    report = capsys.readouterr().out.splitlines()
    names = caffe.Net(str(settings.output / "deploy.prototxt"), caffe.TEST).params.keys()
    assert [line.split()[0] for line in report[:-1]] == list(names)
    assert "compatibility          R starts as a multiple of the identity, 7 x 7" in report
    assert "pairwise/filters       joined from the score layers, 7 x 144 x 1 x 1" in report


def test_filtered_features_are_the_unary_scores_without_biases(settings, unary_weights, tmp_path):
    source = write_deeplab(tmp_path / "deeplab.caffemodel", unary_weights)
    assert run("gcrf", settings, tmp_path / "init.caffemodel", unary=source) == 0
    net = random_net(settings.output / "deploy.prototxt")
    net.copy_from(str(tmp_path / "init.caffemodel"))
    net.forward()
    fusion = net.blobs["unary/fc_fusion"].data
    difference = fusion - net.blobs["pairwise/filters"].data
    biases = sum(unary_weights[name][1] for name in TRUNK.score_layers)
    scale = np.abs(fusion).max()
    assert fusion.std() > 100 * 1e-4 * scale  # scores that differ, between classes and cells
    np.testing.assert_allclose(
        difference / scale, biases[:, None, None] / scale + 0 * fusion, atol=1e-4
    )


def test_stage_unary_s_own_snapshot_is_a_unary_model(settings, tmp_path):
    net = random_net(settings.output / "deploy_unary.prototxt")
    net.save(str(tmp_path / "unary.caffemodel"))
    assert (
        run("gcrf", settings, tmp_path / "init.caffemodel", unary=tmp_path / "unary.caffemodel")
        == 0
    )
    found = read_caffemodel(tmp_path / "init.caffemodel")
    np.testing.assert_array_equal(found["pairwise/fc7"][0], net.params["unary/fc7"][0].data)


def test_a_pre_trained_pairwise_branch_joins_the_unary_model(settings, unary_weights, tmp_path):
    source = write_deeplab(tmp_path / "deeplab.caffemodel", unary_weights)
    pretrained = random_net(settings.output / "deploy.prototxt", seed=1)
    trained = {
        name: [blob.data.copy() for blob in blobs]
        for name, blobs in pretrained.params.items()
        if name.startswith("pairwise/")
    }
    write_caffemodel(tmp_path / "pretrain.caffemodel", trained)
    output = tmp_path / "init.caffemodel"
    assert (
        run("gcrf", settings, output, unary=source, pairwise=tmp_path / "pretrain.caffemodel") == 0
    )
    weights = read_caffemodel(output)
    R = weights.pop("compatibility")[0]
    np.testing.assert_array_equal(R, np.float32(SMALL.diagonal) * np.eye(len(R)))
    for name, arrays in weights.items():
        branch, _, layer = name.partition("/")
        expected = trained[name] if branch == "pairwise" else unary_weights[layer]
        for found, array in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(found, array)


def vgg_weights(unary_weights, size=7):
    """VGG-16 with the thin net's convolutions; each value of fc6 and fc7 encodes its place."""
    weights = {k: v for k, v in unary_weights.items() if k.startswith("conv")}
    inputs = weights["conv5_3"][0].shape[0]
    fc6 = np.arange(4096 * inputs * size * size, dtype=np.float32).reshape(1, 1, 4096, -1)
    fc7 = np.arange(4096 * 4096, dtype=np.float32).reshape(1, 1, 4096, 4096)
    bias = np.arange(4096, dtype=np.float32)
    weights["fc6"], weights["fc7"] = [fc6, bias], [fc7, bias]
    weights["fc8"] = [np.ones((1000, 4), np.float32), np.ones(1000, np.float32)]
    return weights


@pytest.mark.slow
def test_vgg_gives_convolutions_and_subsampled_fc6_and_fc7(
    settings, unary_weights, tmp_path, capsys
):
    vgg = vgg_weights(unary_weights)
    write_caffemodel(tmp_path / "vgg.caffemodel", vgg)
    output = tmp_path / "init.caffemodel"
    assert run("unary", settings, output, vgg=tmp_path / "vgg.caffemodel") == 0
    weights = read_caffemodel(output)
    np.testing.assert_array_equal(weights["unary/conv1_1"][0], vgg["conv1_1"][0])
    step = 4096 // settings.fc_width
    fc6 = vgg["fc6"][0].reshape(4096, -1, 7, 7)
    assert weights["unary/fc6"][0].shape == (64, 48, 3, 3)
    assert weights["unary/fc6"][0][5, 7, 2, 1] == fc6[5 * step, 7, 6, 3]
    assert weights["unary/fc7"][0][5, 7, 0, 0] == vgg["fc7"][0][0, 0, 5 * step, 7 * step]
    np.testing.assert_array_equal(weights["unary/fc7"][1], np.arange(0, 4096, step))
    out = capsys.readouterr().out
    assert "unary/fc6              subsampled, 64 x 48 x 3 x 3 + 64\n" in out
    assert "unary/fc8              filled: not in the source\n" in out
    assert "fc8                    left over: ImageNet's classes\n" in out


def test_vgg_without_fc6_and_fc7_leaves_them_to_the_fillers(settings, unary_weights, tmp_path):
    vgg = {k: v for k, v in unary_weights.items() if k.startswith("conv")}
    write_caffemodel(tmp_path / "vgg.caffemodel", vgg)
    output = tmp_path / "init.caffemodel"
    assert run("unary", settings, output, vgg=tmp_path / "vgg.caffemodel") == 0
    assert read_caffemodel(output).keys() == {f"unary/{name}" for name in vgg}


def renamed(weights, old, new):
    return {new if name == old else name: arrays for name, arrays in weights.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: renamed(w, "conv3_2", "conv3_9"), "no layer conv3_2"),
        (lambda w: {**w, "extra": w["fc7"]}, "unexpected layers extra"),
        (lambda w: {**w, "fc8_pascal": w["fc8"]}, "one of two layers that could be fc8"),
        (
            lambda w: {**w, "fc7": [w["fc7"][0][:, :32], w["fc7"][1]]},
            "unary/fc7, copied: found 64 x 32 x 1 x 1 + 1 x 1 x 1 x 64, "
            "expected 64 x 64 x 1 x 1 + 64",
        ),
    ],
    ids=["missing", "extra", "twice", "shape"],
)
def test_unexpected_weights_are_refused(
    change, message, *, settings, unary_weights, tmp_path, capsys
):
    source = write_deeplab(tmp_path / "deeplab.caffemodel", change(unary_weights))
    assert run("gcrf", settings, tmp_path / "init.caffemodel", unary=source) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "init.caffemodel").exists()


# ---- The light trunk


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    changes = dict(num_classes=3, fc_width=8, branch_width=4, **SMALL_IMAGES)
    return tiny_settings(tmp_path_factory.mktemp("light"), LITE, **changes)


@pytest.fixture(scope="module")
def light_unary(light, tmp_path_factory):
    """Path of the weights of a light unary network: the published trunk, random heads."""
    deploy = light.output / "deploy_unary.prototxt"
    weights = {
        name: [blob.data.copy() for blob in blobs]
        for name, blobs in random_net(deploy).params.items()
    }
    path = tmp_path_factory.mktemp("light") / "unary.caffemodel"
    write_caffemodel(path, weights | start_light_unary(deploy, light.trunk).weights)
    return path


def test_a_light_unary_starts_from_the_published_trunk(light, tmp_path, capsys):
    net, output = light.output / "deploy_unary.prototxt", tmp_path / "init.caffemodel"
    arguments = ["unary", "--trunk", light.trunk, "--net", str(net), "--output", str(output)]
    assert init_weights.main(arguments) == 0
    names = caffe.Net(str(net), caffe.TEST).params.keys()
    assert read_caffemodel(output).keys() == {name for name in names if name.startswith("trunk/")}
    out = capsys.readouterr().out
    assert "trunk/stem             folded, 32 x 3 x 3 x 3 + 32\n" in out
    assert "unary/fc6              filled: not in the source\n" in out


def test_a_light_gcrf_shares_the_trunk_and_has_random_fine_features(light, light_unary):
    deploy, unary = light.output / "deploy.prototxt", read_caffemodel(light_unary)
    found = start_gcrf(deploy, light_unary, seed=3).weights
    for name in ("trunk/stem", "unary/fc8"):
        np.testing.assert_array_equal(found[name][0], unary[name][0])
    np.testing.assert_array_equal(found["pairwise/fc6"][0], unary["unary/fc6"][0])
    fine = found["pairwise/stage2_conv"][0]
    assert fine.std() == pytest.approx(np.sqrt(2 / fine[0].size), rel=0.1)
    scores = np.concatenate([unary[f"unary/{name}"][0] for name in SCORES], axis=1)
    filters = found["pairwise/filters"][0]
    np.testing.assert_array_equal(filters[:, : scores.shape[1]], scores)
    assert 0 < np.abs(filters[:, scores.shape[1] :]).max() < 0.1
    again, other = (start_gcrf(deploy, light_unary, seed=seed).weights for seed in (3, 4))
    np.testing.assert_array_equal(again["pairwise/stage2_conv"][0], fine)
    assert not np.array_equal(other["pairwise/stage2_conv"][0], fine)


def test_fewer_filters_than_classes_keep_most_of_the_distances(light, light_unary, tmp_path):
    settings = replace(light, output=tmp_path, num_filters=2)
    nets.write(settings)
    found = start_gcrf(tmp_path / "deploy.prototxt", light_unary).weights["pairwise/filters"][0]
    unary = read_caffemodel(light_unary)
    scores = np.concatenate([unary[f"unary/{name}"][0] for name in SCORES], axis=1)
    F, rest = scores[:, :, 0, 0].T @ scores[:, :, 0, 0], found[:, : scores.shape[1], 0, 0]
    least = np.linalg.svd(F, compute_uv=False)[2]
    assert np.linalg.norm(F - rest.T @ rest, 2) == pytest.approx(least, rel=1e-3)


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>"])
def test_another_file_is_refused(content, settings, tmp_path, capsys):
    (tmp_path / "page.caffemodel").write_bytes(content)
    output = tmp_path / "init.caffemodel"
    assert run("gcrf", settings, output, unary=tmp_path / "page.caffemodel") == 1
    assert "page.caffemodel: no" in capsys.readouterr().err


def test_a_missing_file_or_net_is_named(settings, tmp_path, capsys):
    output = tmp_path / "init.caffemodel"
    assert run("gcrf", settings, output, unary=tmp_path / "none.caffemodel") == 1
    assert "none.caffemodel" in capsys.readouterr().err
    arguments = ["gcrf", "--net", "no.prototxt", "--output", str(output), "--unary", "x"]
    assert init_weights.main(arguments) == 1
    assert "no net no.prototxt; tools/make_nets.py writes one" in capsys.readouterr().err


@pytest.mark.slow
def test_caffe_trains_every_stage_from_the_weights_it_names(tmp_path):
    """One iteration per stage by `caffe train`, with nothing but the solver on its command line."""
    stages = {name: replace(s, max_iter=1, steps=()) for name, s in SMALL.stages.items()}
    stages["pretrain_phase2"] = replace(
        stages["pretrain_phase2"], weights="pretrain_phase1_iter_1.caffemodel"
    )
    settings = tiny_settings(tmp_path, stages=stages, **SMALL_IMAGES)

    def train(stage):
        solver = f"{settings.output / stage}_solver.prototxt"
        log = tmp_path / f"{stage}.log"
        with log.open("w") as stream:
            done = subprocess.run(["caffe", "train", "-solver", solver], stderr=stream, check=False)
        assert done.returncode == 0, log.read_text()
        return tmp_path / f"{stage}_iter_1.caffemodel"

    unary = train("unary")
    assert run("gcrf", settings, tmp_path / "gcrf_init.caffemodel", unary=unary) == 0
    train("pretrain_phase1")
    pairwise = train("pretrain_phase2")
    output = tmp_path / "finetune_init.caffemodel"
    assert run("gcrf", settings, output, unary=unary, pairwise=pairwise) == 0
    weights = read_caffemodel(train("finetune"))
    deploy = caffe.Net(str(settings.output / "deploy.prototxt"), caffe.TEST)
    assert weights.keys() == deploy.params.keys()
