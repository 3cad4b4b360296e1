"""Whole small nets in double: the gradient of the loss against central differences."""

import numpy as np
import pytest
from layer_runner import CaffeNet
from numeric import relative_error

NUM_CLASSES = 3
IMAGE = (2, 3, 5, 6)  # an even width; the labels are zoomed to 9 x 11
GAUSSIAN = 'weight_filler { type: "gaussian" std: 0.5 }'

SIMILARITY = f"""
force_backward: true
layer {{ name: "image" type: "Input" top: "image"
  input_param {{ shape {{ dim: {IMAGE[0]} dim: 3 dim: {IMAGE[2]} dim: {IMAGE[3]} }} }} }}
layer {{ name: "pairwise" type: "Convolution" bottom: "image" top: "pairwise"
  convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 {GAUSSIAN} }} }}
layer {{ name: "pairwise_tanh" type: "TanH" bottom: "pairwise" top: "z" }}
layer {{ name: "filters" type: "Convolution" bottom: "z" top: "features"
  convolution_param {{ num_output: {NUM_CLASSES} kernel_size: 1 bias_term: false {GAUSSIAN} }} }}
layer {{ name: "similarity" type: "Similarity" bottom: "features" top: "similarity"
  similarity_param {{ window: 7 }} }}
"""

PRETRAIN = f"""
{SIMILARITY}
layer {{ name: "labels" type: "Input" top: "labels"
  input_param {{ shape {{ dim: {IMAGE[0]} dim: 1 dim: {IMAGE[2]} dim: {IMAGE[3]} }} }} }}
layer {{ name: "loss" type: "SimilarityLoss" bottom: "similarity" bottom: "labels" top: "loss"
  similarity_loss_param {{ window: 7 }} loss_param {{ ignore_label: 255 }} }}
"""


def gmf_layer(name, kind, mu):
    return f"""layer {{ name: "{name}" type: "{kind}" top: "{name}"
      bottom: "{mu}" bottom: "r" bottom: "similarity" bottom: "C" gmf_param {{ window: 7 }} }}
    """


FINETUNE = f"""
{SIMILARITY}
layer {{ name: "unary" type: "Convolution" bottom: "image" top: "unary"
  convolution_param {{ num_output: {NUM_CLASSES} kernel_size: 3 pad: 1 {GAUSSIAN} }} }}
layer {{ name: "unary_softmax" type: "Softmax" bottom: "unary" top: "r" }}
layer {{ name: "compatibility" type: "MatrixGen" top: "C"
  matrix_gen_param {{ num_classes: {NUM_CLASSES} }} }}
{gmf_layer("even1", "GMFEven", "r")}
{gmf_layer("odd1", "GMFOdd", "even1")}
{gmf_layer("even2", "GMFEven", "odd1")}
{gmf_layer("odd2", "GMFOdd", "even2")}
layer {{ name: "interp" type: "Interp" bottom: "odd2" top: "scores"
  interp_param {{ zoom_factor: 2 }} }}
layer {{ name: "labels" type: "Input" top: "labels"
  input_param {{ shape {{ dim: {IMAGE[0]} dim: 1 dim: 9 dim: 11 }} }} }}
layer {{ name: "loss" type: "MarginLoss" bottom: "scores" bottom: "labels" top: "loss"
  loss_param {{ ignore_label: 255 }} }}
"""


def random_net(text):
    """Return the net with random weights, image and labels."""
    rng = np.random.default_rng(0)
    net = CaffeNet(text, np.float64)
    for name in ("pairwise", "filters", "unary", "compatibility"):
        try:
            weights = net.view(f"{name}.param")[0]
        except KeyError:
            continue  # this net has no such layer
        weights[...] = rng.normal(0, 0.3, weights.shape)
    net.view("image")[0][...] = rng.normal(size=IMAGE)
    labels = net.view("labels")[0]
    labels[...] = rng.integers(0, NUM_CLASSES, labels.shape)
    labels[rng.random(labels.shape) < 0.1] = 255
    return net


def assert_off_the_kinks(scores, labels, margin=0.5, distance=1e-4):
    """Assert that no pixel's margin, and no tie of its best other classes, is near a kink."""
    is_label = labels == np.arange(NUM_CLASSES)[:, None, None]
    others = np.sort(np.where(is_label, -np.inf, scores), axis=1)
    of_label = np.where(is_label, scores, 0).sum(axis=1)
    counts = labels[:, 0] != 255
    assert (abs(of_label - others[:, -1] - margin)[counts] > distance).all()
    assert ((others[:, -1] - others[:, -2])[counts] > distance).all()


def numeric_gradient(net, values, step=1e-5):
    """Return the gradient of the net's loss, by central differences, for one of its arrays."""
    gradient = np.zeros_like(values)
    loss = net.view("loss")[0]
    for i in np.ndindex(values.shape):
        value = values[i]
        values[i] = value + step
        net.run_forward()
        above = loss.copy()
        values[i] = value - step
        net.run_forward()
        gradient[i] = (above - loss) / (2 * step)
        values[i] = value
    return gradient


def assert_gradient(net, name):
    net.run_forward()
    net.run_backward()
    values, diff = net.view(name)
    analytic = diff.copy()
    error = relative_error(analytic, numeric_gradient(net, values))
    assert np.abs(analytic).max() > 1e-3, "a gradient too small to tell right from wrong"
    assert error < 1e-7


@pytest.mark.parametrize("name", ["compatibility.param", "filters.param", "unary.param", "image"])
def test_finetune_gradient(name):
    net = random_net(FINETUNE)
    net.run_forward()
    assert_off_the_kinks(net.view("scores")[0], net.view("labels")[0])
    assert_gradient(net, name)
    R_diff = net.view("compatibility.param")[1]
    assert not np.triu(R_diff, 1).any()


@pytest.mark.parametrize("name", ["filters.param", "image"])
def test_pretrain_gradient(name):
    net = random_net(PRETRAIN)
    net.run_forward()
    s = net.view("similarity")[0]
    assert (s[s > 0] > 1e-3).all()  # far above the threshold e^-10, where the loss has its kink
    assert_gradient(net, name)
