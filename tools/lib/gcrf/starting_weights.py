"""The weights that a training stage starts from, and where each layer of them came from."""

import re

import caffe
import numpy as np

from gcrf import vgg16
from gcrf.caffemodel import read_caffemodel


class Start:
    """The starting weights of a net, and a report of where they come from.

    net: path of the deploy net, whose parameters have the shapes that the weights must have.
    """

    def __init__(self, net):
        self.net = caffe.Net(str(net), caffe.TEST)
        self.shapes = {
            name: [blob.data.shape for blob in blobs] for name, blobs in self.net.params.items()
        }
        self.weights = {}
        self.report = []

    def set(self, name, arrays, how):
        """Start a layer with arrays; how says where they come from.

        Old files store leading axes of length 1 that the layer lacks: those go.
        """
        expected = self.shapes[name]
        squeezed = [_without_leading_ones(array.shape) for array in arrays]
        if squeezed != [_without_leading_ones(shape) for shape in expected]:
            raise ValueError(
                f"{name}, {how}: found {_join(array.shape for array in arrays)}, expected "
                f"{_join(expected)}; give the --net of the width and classes of these weights"
            )
        self.weights[name] = [a.reshape(shape) for a, shape in zip(arrays, expected, strict=True)]
        self.report.append(f"{name:22} {how}, {_join(expected)}")

    def fill(self, name, why):
        """Leave a layer to the fillers of the training net."""
        self.report.append(f"{name:22} filled: {why}")


def start_unary(net, vgg):
    """Start stage unary from the VGG-16 in file vgg, which may lack fc6 and fc7."""
    start, source = Start(net), read_caffemodel(vgg)
    for name in start.shapes:
        layer = name.removeprefix("unary/")
        if layer.startswith("conv"):
            start.set(name, _take(source, layer, vgg), "copied")
        elif layer in ("fc6", "fc7") and layer in source:
            arrays = _subsample(source.pop(layer), start.shapes[name][0])
            start.set(name, arrays, "subsampled")
        else:
            start.fill(name, "not in the source")
    if source.pop("fc8", None):
        start.report.append(f"{'fc8':22} left over: ImageNet's classes")
    _expect_empty(source, vgg)
    return start


def start_gcrf(net, unary, pairwise=None):
    """Start both branches from the model in file unary, but the pairwise one from file pairwise.

    Without pairwise, the filters f_m are the score layers side by side: f_m' z is then the unary
    network's fc_fusion without the biases. That is why there are as many filters as classes.
    """
    start, source = Start(net), _unprefixed(read_caffemodel(unary), unary)
    trained = read_caffemodel(pairwise) if pairwise else {}
    scores = [_get(source, layer, unary)[0] for layer in vgg16.TRUNK.score_layers]
    for name in start.shapes:
        branch, _, layer = name.partition("/")
        if name == "compatibility" and pairwise:  # the net is whole, and works without finetuning
            R = start.net.params[name][0].data.copy()
            start.set(name, [R], "R starts as a multiple of the identity")
        elif name == "compatibility":
            start.fill(name, "pretraining does without")
        elif branch == "pairwise" and pairwise:
            start.set(name, _take(trained, name, pairwise), "copied, pre-trained")
        elif name == "pairwise/filters":
            start.set(name, [np.concatenate(scores, axis=1)], "joined from the score layers")
        else:
            start.set(name, _get(source, layer, unary), "copied")
    used = {name.removeprefix("unary/") for name in start.shapes}
    _expect_empty(source.keys() - used, unary)
    _expect_empty(trained, pairwise)
    return start


def _unprefixed(source, path):
    """The layers of a unary model by DeepLab's names: fc8_voc12 and unary/fc8 are both fc8."""
    layers = {}
    for name, arrays in source.items():
        layer = re.sub(r"^fc8_\w+$", "fc8", name.removeprefix("unary/"))
        if layer in layers:
            raise ValueError(f"{path}: {name} is one of two layers that could be {layer}")
        layers[layer] = arrays
    return layers


def _subsample(arrays, shape):
    """A fully connected layer of VGG-16 as a convolution of fewer filters, as DeepLab does it.

    Every n-th filter and input is kept, and of a 7 x 7 kernel every third row and column.
    """
    kernel, bias = arrays
    size = 7 if shape[2] == 3 else 1
    kernel = kernel.reshape(4096, -1, size, size)
    step = 4096 // shape[0], kernel.shape[1] // shape[1]
    kernel = kernel[:: step[0], :: step[1], ::3, ::3]
    return [kernel, bias.reshape(4096)[:: step[0]]]


def _get(source, layer, path):
    if layer not in source:
        raise ValueError(f"{path}: no layer {layer}; it has {', '.join(sorted(source))}")
    return source[layer]


def _take(source, layer, path):
    _get(source, layer, path)
    return source.pop(layer)


def _expect_empty(left_over, path):
    if left_over:
        raise ValueError(
            f"{path}: unexpected layers {', '.join(sorted(left_over))}; is it the right file?"
        )


def _without_leading_ones(shape):
    shape = tuple(shape)
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _join(shapes):
    return " + ".join(" x ".join(map(str, shape)) for shape in shapes)
