"""The networks of prototxt/, run by Caffe."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import caffe
import numpy as np
import pytest
from tiny_nets import SMALL_IMAGES, random_net, tiny_settings, without_weights

from gcrf import nets
from gcrf.nets import MEAN_BGR, PAPER
from gcrf.segmenter import Segmenter

ROOT = Path(__file__).resolve().parent.parent
TRAINING = ("unary", "pretrain", "finetune")
DEPLOY = ("deploy", "deploy_unary")


@pytest.fixture(scope="module")
def thin(tmp_path_factory):
    return tiny_settings(tmp_path_factory.mktemp("thin"), **SMALL_IMAGES)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The paper's widths, crops and batches, on a tiny data set."""
    return tiny_settings(tmp_path_factory.mktemp("full"), PAPER)


def count(net, prefix):
    """Number of parameters in the layers whose name starts with prefix."""
    return sum(
        blob.data.size
        for name, blobs in net.params.items()
        for blob in blobs
        if name.startswith(prefix)
    )


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST], ids=["train", "test"])
@pytest.mark.parametrize("name", TRAINING)
def test_full_size_training_nets_load(name, phase, full):
    net = caffe.Net(str(full.output / f"{name}.prototxt"), phase)
    batch, size = (
        {"unary": (20, 321), "pretrain": (15, 321), "finetune": (5, 321)}[name]
        if phase == caffe.TRAIN
        else (1, 505)
    )
    assert net.blobs["data"].data.shape == (batch, 3, size, size)
    assert net.blobs["loss"].data.shape == ()


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST], ids=["train", "test"])
@pytest.mark.parametrize("name", TRAINING)
def test_thin_training_nets_give_a_finite_loss(name, phase, thin):
    outputs = caffe.Net(str(thin.output / f"{name}.prototxt"), phase).forward()
    assert np.isfinite(outputs["loss"])
    assert ("accuracy" in outputs) == (phase == caffe.TEST and name != "pretrain")


@pytest.mark.slow
def test_the_thin_unary_net_learns_from_scratch(thin):
    solver = caffe.SGDSolver(str(thin.output / "unary_solver.prototxt"))
    losses = []
    for _ in range(60):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert losses[0] == pytest.approx(np.log(thin.num_classes), abs=0.3)  # no better than a guess
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_one_branch_has_the_parameters_of_deeplab_msc_largefov():
    """Counted layer by layer: outputs * (inputs * kernel + 1)."""
    vgg16_convolutions = 14_714_688  # K. Simonyan, A. Zisserman, 2015, configuration D
    fc6, fc7 = 1024 * (512 * 9 + 1), 1024 * (1024 + 1)
    branches = sum(128 * (c * 9 + 1) for c in (3, 64, 128, 256, 512)) + 5 * 128 * (128 + 1)
    scores = 21 * (1024 + 1) + 5 * 21 * (128 + 1)
    net = caffe.Net(str(ROOT / "prototxt/deploy.prototxt"), caffe.TEST)
    trunk = vgg16_convolutions + fc6 + fc7 + branches
    assert count(net, "unary/") == trunk + scores == 21_711_550
    assert count(net, "pairwise/") == trunk + 21 * (1024 + 5 * 128)  # the filters have no bias
    assert count(net, "compatibility") == 21 * 21
    assert count(net, "") == count(net, "unary/") + count(net, "pairwise/") + 21 * 21


@pytest.mark.parametrize("size", [(321, 321), (505, 505), (513, 377)])
@pytest.mark.parametrize("name", DEPLOY)
def test_deploy_restores_the_size_of_the_image(name, size, thin):
    for path in (ROOT / "prototxt", thin.output):
        net = caffe.Net(str(path / f"{name}.prototxt"), caffe.TEST)
        net.blobs["data"].reshape(1, 3, *size)
        net.reshape()
        grid = tuple((length - 1) // 8 + 1 for length in size)
        assert net.outputs == ["scores"]
        assert net.blobs["scores"].data.shape[2:] == size
        assert net.blobs["unary/softmax"].data.shape[2:] == grid
    outputs = net.forward()  # the thin one
    assert np.isfinite(outputs["scores"]).all()


def refusal(deploy, size):
    """Return what a deploy net says about an input of a size that it rejects."""
    code = (
        "import caffe\n"
        f"net = caffe.Net({str(deploy)!r}, caffe.TEST)\n"
        f"net.blobs['data'].reshape(1, 3, {size[0]}, {size[1]})\n"
        "net.reshape()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    return done.stderr


@pytest.mark.parametrize("size", [(320, 321), (321, 322), (328, 328)])
@pytest.mark.parametrize("name", DEPLOY)
def test_other_sizes_are_refused_with_a_message(name, size, thin):
    message = refusal(thin.output / f"{name}.prototxt", size)
    assert "Layer size_must_be_8k_plus_1: bottom is" in message


def labels(net):
    return net.blobs["scores"].data.argmax(1)


def test_without_similarity_the_labels_are_exactly_the_unary_s(thin):
    net = random_net(thin.output / "deploy.prototxt", seed=3)
    net.forward()
    # Distances well below 1, so that not all similarities start at 0.
    net.params["pairwise/filters"][0].data[...] /= 5 * net.blobs["pairwise/filters"].data.std()
    unary = random_net(thin.output / "deploy_unary.prototxt")
    for name, blobs in unary.params.items():
        for blob, source in zip(blobs, net.params[name], strict=True):
            blob.data[...] = source.data
    unary.blobs["data"].data[...] = net.blobs["data"].data
    unary.forward()
    assert len(np.unique(labels(unary))) > 2
    net.forward()
    assert not np.array_equal(labels(net), labels(unary))  # the pairwise term has an effect
    net.blobs["similarity"].data[...] = 0
    names = list(net._layer_names)
    net.forward(start=names[names.index("similarity") + 1])
    np.testing.assert_array_equal(labels(net), labels(unary))


def test_training_nets_subtract_the_mean(thin):
    net = caffe.Net(str(thin.output / "finetune.prototxt"), caffe.TEST)
    net.forward()
    pixels = net.blobs["data"].data + np.array(MEAN_BGR, np.float32)[:, None, None]
    np.testing.assert_allclose(pixels, pixels.round(), atol=1e-3)
    assert pixels.min() >= -1e-3 and pixels.max() <= 255.001


@pytest.mark.slow
def test_one_step_of_full_size_finetuning_runs_at_batch_1(full, tmp_path, record_property):
    """It runs in its own process, whose peak memory is measured."""
    stages = without_weights(full.stages, batch_size=1)
    settings = replace(full, output=tmp_path, stages=stages)
    nets.write(settings)
    code = (
        "import caffe, resource, time\n"
        f"solver = caffe.SGDSolver({str(tmp_path / 'finetune_solver.prototxt')!r})\n"
        "layers = ('unary/conv1_1', 'pairwise/filters', 'compatibility')\n"
        "before = [solver.net.params[name][0].data.copy() for name in layers]\n"
        "start = time.monotonic()\n"
        "solver.step(1)\n"
        "seconds = time.monotonic() - start\n"
        "for name, data in zip(layers, before):\n"
        "    assert (solver.net.params[name][0].data != data).any(), name\n"
        "gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20\n"
        "print(float(solver.net.blobs['loss'].data), seconds, gigabytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    loss, seconds, gigabytes = map(float, done.stdout.split()[-3:])
    print(f"one step: loss {loss:.3f}, {seconds:.1f} s, peak memory {gigabytes:.1f} GiB")
    record_property("seconds", seconds)
    record_property("gigabytes", gigabytes)
    assert np.isfinite(loss) and loss > 0


# ---- The light trunk


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    return tiny_settings(tmp_path_factory.mktemp("light"), nets.LITE, **SMALL_IMAGES)


@pytest.mark.parametrize("name", TRAINING)
def test_nets_of_the_light_trunk_give_a_finite_loss(name, light):
    net = caffe.Net(str(light.output / f"{name}.prototxt"), caffe.TRAIN)
    assert np.isfinite(net.forward()["loss"])


def test_only_what_lies_above_a_frozen_trunk_gets_a_gradient(light):
    net = caffe.Net(str(light.output / "finetune.prototxt"), caffe.TRAIN)
    net.forward()
    net.backward()
    moved = {name for name, blobs in net.params.items() if np.abs(blobs[0].diff).max() > 0}
    assert moved == {name for name in net.params if not name.startswith("trunk/")}


def test_a_light_net_refuses_sizes_that_are_not_16k_plus_1(light):
    message = refusal(light.output / "deploy.prototxt", (65, 57))
    assert "Layer size_must_be_16k_plus_1: bottom is" in message


def test_a_light_net_segments_images_of_any_size(light):
    deploy, weights = light.output / "deploy.prototxt", light.output / "random.caffemodel"
    random_net(deploy).save(str(weights))
    segmenter = Segmenter(deploy, weights)
    for height, width in ((40, 49), (57, 65)):
        assert segmenter.predict(np.zeros((height, width, 3), np.uint8)).shape == (height, width)
