"""The PyTorch twin against Caffe, on thin nets; skipped without PyTorch, which is optional."""

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from tiny_nets import write_deploy_nets

from gcrf import nets

REASON = "needs PyTorch: build/venv/bin/pip install --no-deps -r requirements-benchmark.txt"
torch = pytest.importorskip("torch", reason=REASON)

from torch_twin import TorchTwin  # noqa: E402  needs PyTorch


def both(path, text):
    """Return the Caffe net of a prototxt and its twin, with the same random parameters."""
    path.write_text(text)
    net, rng = caffe.Net(str(path), caffe.TEST), np.random.default_rng(0)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.normal(size=blob.data.shape) * 0.3
    for name in net.inputs:
        net.blobs[name].data[...] = rng.normal(size=net.blobs[name].data.shape)
    return net, twin_of(net, text)


def twin_of(net, text):
    message = text_format.Parse(text, caffe_pb2.NetParameter())
    weights = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    return TorchTwin(message, weights).eval()


def tensors(net, names=("data",)):
    return {name: torch.from_numpy(net.blobs[name].data.copy()) for name in names}


def relative_difference(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_the_whole_deploy_net_gives_the_scores_of_caffe(tmp_path):
    deploy, weights = write_deploy_nets(tmp_path)
    net = caffe.Net(str(deploy), str(weights), caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(1, 3, 65, 65)) * 50
    twin = twin_of(net, deploy.read_text())
    net.forward()
    with torch.no_grad():
        scores = twin(**tensors(net))["scores"]
    assert relative_difference(scores.numpy(), net.blobs["scores"].data) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 2 '
        "dilation: 2 group: 2 }",
        'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 }',
        'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }',
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
        'type: "ReLU" relu_param { negative_slope: 0.1 }',
        'type: "Softmax"',
        'type: "Interp" interp_param { zoom_factor: 3 }',
        'type: "Interp" interp_param { shrink_factor: 1 }',
        'type: "Interp" interp_param { height: 11 width: 5 }',
        'type: "Similarity" similarity_param { window: 7 }',
        'type: "Similarity" similarity_param { window: 23 }',
    ],
)
def test_a_layer_gives_the_output_of_caffe(layer, tmp_path):
    """At 8 x 9, sizes are rounded up and down."""
    text = 'layer { name: "data" type: "Input" top: "data" input_param { shape { '
    text += "dim: 2 dim: 4 dim: 8 dim: 9 } } } "
    text += f'layer {{ name: "layer" bottom: "data" top: "top" {layer} }}'
    net, twin = both(tmp_path / "net.prototxt", text)
    net.forward()
    found = twin(**tensors(net))["top"].detach().numpy()
    assert found.shape == net.blobs["top"].data.shape
    assert relative_difference(found, net.blobs["top"].data) < 1e-5


@pytest.mark.parametrize("width", [8, 9])
def test_the_gradients_of_the_crf_are_those_of_caffe(width, tmp_path):
    """Two GMF layers and the margin loss. An odd width has one more even column than odd ones."""
    shapes = {"r": (5, 7, width), "p": (3, 7, width), "label": (1, 7, width)}
    text = "force_backward: true "
    for name, shape in shapes.items():
        sizes = " ".join(f"dim: {size}" for size in (2, *shape))
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" '
        text += f"input_param {{ shape {{ {sizes} }} }} }}\n"
    text += """
      layer { name: "s" type: "Similarity" bottom: "p" top: "s" similarity_param { window: 7 } }
      layer { name: "C" type: "MatrixGen" top: "C" matrix_gen_param { num_classes: 5 } }
    """
    mean = "r"
    for half in ("Even", "Odd"):
        text += f'layer {{ name: "{half}" type: "GMF{half}" bottom: "{mean}" bottom: "r" '
        text += f'bottom: "s" bottom: "C" top: "{half}" gmf_param {{ window: 7 }} }}\n'
        mean = half
    text += 'layer { name: "loss" type: "MarginLoss" bottom: "Odd" bottom: "label" top: "loss" '
    text += "propagate_down: true propagate_down: false loss_param { ignore_label: 255 } }"
    net, twin = both(tmp_path / "net.prototxt", text)
    net.params["C"][0].data[...] = np.tril(net.params["C"][0].data)
    twin = twin_of(net, text)
    labels = np.random.default_rng(1).integers(0, 5, net.blobs["label"].data.shape)
    labels[0, 0, 0, :3] = 255
    net.blobs["label"].data[...] = labels

    net.forward()
    net.backward()
    inputs = tensors(net, shapes)
    for name in ("r", "p"):
        inputs[name].requires_grad_()
    loss = twin(**inputs)["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(float(net.blobs["loss"].data), rel=1e-5)
    for name in ("r", "p"):
        assert relative_difference(inputs[name].grad.numpy(), net.blobs[name].diff) < 1e-4
    gradient = twin.weights["C:0"].grad.numpy()
    assert relative_difference(gradient, net.params["C"][0].diff) < 1e-4


def test_an_unknown_layer_is_named():
    net = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(type="LRN")])
    with pytest.raises(ValueError, match="layer type LRN"):
        TorchTwin(net, {})


def test_every_layer_of_the_deploy_nets_is_known():
    settings = nets.PAPER
    for net in (nets.deploy_net(settings), nets.deploy_unary_net(settings)):
        TorchTwin(net, {})
