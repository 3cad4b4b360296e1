"""SimilarityLoss: -s for like pairs, max(0, s - h) for unlike ones."""

from functools import partial

import numpy as np
import pytest
from agreement import assert_agreement
from layer_runner import CaffeLayer
from numeric import central_differences, relative_error

from python_layers import similarity_loss
from python_layers.neighbourhood import pair_offsets

# A 2 x 3 image has four pairs in a window of 3: two of channel 0, (1, -1), stored at columns 1
# and 2, and two of channel 1, (1, +1), stored at columns 0 and 1. The 7s are outside the image.
S = np.array([[[7, 0.5, 0.25], [7, 7, 7]], [[0.75, 0.125, 7], [7, 7, 7]]]).reshape(1, 2, 2, 3)
LABELS = np.array([[0.0, 1, 255], [1, 1, 0]]).reshape(1, 1, 2, 3)
OPTIONS = {"window": 3, "threshold": 0.125, "ignore_label": 255}


def test_four_pairs_worked_by_hand():
    # Channel 0: labels 1, 1: -0.5; 255, 1: ignored.
    # Channel 1: labels 0, 1: 0.75 - 0.125; 1, 0: 0.125 - 0.125 = 0.
    assert similarity_loss.forward(S, LABELS, **OPTIONS) == pytest.approx(0.125 / 3)
    third = 1 / 3
    expected = [[[0, -third, 0], [0, 0, 0]], [[third, 0, 0], [0, 0, 0]]]
    np.testing.assert_allclose(similarity_loss.backward(S, LABELS, **OPTIONS)[0], expected)


def printed_loss_of_unlike_pair(s, threshold):
    """Return the second line of equation (7) as the paper prints it."""
    return np.minimum(0, s - threshold)


def test_erratum_the_printed_formula_has_no_gradient_above_the_threshold():
    threshold, labels = 0.1, np.array([[0.0, 1], [2, 3]]).reshape(1, 1, 2, 2)  # all unlike
    s = np.zeros((1, 2, 2, 2))
    s[0, 0, 0, 1], s[0, 1, 0, 0] = 0.6, 0.9  # the two pairs, both far above the threshold
    inside = s > 0
    printed = central_differences(
        lambda s: printed_loss_of_unlike_pair(s, threshold)[inside].mean(), [s], 0
    )
    assert not printed.any()
    ours = similarity_loss.backward(s, labels, window=3, threshold=threshold)
    np.testing.assert_allclose(ours[inside], 0.5)  # pushes both similarities down
    numeric = central_differences(
        lambda s: similarity_loss.forward(s, labels, window=3, threshold=threshold), [s], 0
    )
    np.testing.assert_allclose(ours, numeric, atol=1e-9)


@pytest.mark.parametrize("labels", [np.full((1, 1, 2, 3), 255.0), np.zeros((1, 1, 6, 1))])
def test_no_valid_pair_is_loss_and_gradient_zero(labels):
    s = np.ones((1, 2, *labels.shape[2:]))
    assert similarity_loss.forward(s, labels, **OPTIONS) == 0
    assert not similarity_loss.backward(s, labels, **OPTIONS).any()


@pytest.mark.parametrize("size", [(1, 4, 5), (2, 3, 4), (1, 2, 9)])
@pytest.mark.parametrize("window", [3, 7])
def test_gradient(size, window):
    rng = np.random.default_rng(0)
    num_images, height, width = size
    s = rng.random((num_images, len(pair_offsets(window)), height, width))
    s[np.abs(s - 0.5) < 1e-3] = 0.6  # off the kink
    labels = rng.integers(0, 2, (num_images, 1, height, width)).astype(float)
    labels[rng.random(labels.shape) < 0.2] = 255
    options = {"window": window, "threshold": 0.5, "ignore_label": 255}
    gradient = similarity_loss.backward(s, labels, **options, loss_diff=2)
    numeric = central_differences(
        lambda s: 2 * similarity_loss.forward(s, labels, **options), [s], 0
    )
    assert relative_error(gradient, numeric) < 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_is_kept(dtype):
    arrays = S.astype(dtype), LABELS.astype(dtype)
    assert similarity_loss.forward(*arrays, **OPTIONS).dtype == dtype
    assert similarity_loss.backward(*arrays, **OPTIONS).dtype == dtype


def test_wrong_shapes_and_labels_are_rejected():
    with pytest.raises(ValueError, match=r"s has shape .* expected \(N, 8, H, W\) for window 7"):
        similarity_loss.forward(S, LABELS, window=7)
    with pytest.raises(ValueError, match=r"labels have shape .* expected \(1, 1, 2, 3\)"):
        similarity_loss.forward(S, LABELS[..., :2], window=3)
    with pytest.raises(ValueError, match="label -1 at image 0, row 0, column 1, expected a whole"):
        similarity_loss.forward(S, np.where(LABELS == 255, 0, -LABELS), window=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", [3, 7, 23])
@pytest.mark.parametrize("ignored", [0, 0.2, 1])
def test_caffe_agrees_at_every_size(dtype, window, ignored):
    text = f"""type: "SimilarityLoss" loss_param {{ ignore_label: 255 }}
        similarity_loss_param {{ window: {window} threshold: 0.25 }}"""
    options = {"window": window, "threshold": 0.25, "ignore_label": 255}
    twin = [partial(f, **options) for f in (similarity_loss.forward, similarity_loss.backward)]
    layer = CaffeLayer(text, dtype, num_bottoms=2)
    for num_images, height, width in [(1, 1, 1), (2, 5, 4), (1, 30, 31), (3, 1, 7), (1, 9, 1)]:
        rng = np.random.default_rng(0)
        s = rng.random((num_images, len(pair_offsets(window)), height, width))
        labels = rng.integers(0, 3, (num_images, 1, height, width))
        labels[rng.random(labels.shape) < ignored] = 255
        assert_agreement(layer, [s, labels], *twin)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_caffe_agrees_on_the_kink_and_the_default_threshold_is_e_to_the_minus_10(dtype):
    s = S.copy()
    s[0, 1, 0, 1] = threshold = float(np.float32(similarity_loss.THRESHOLD))
    assert threshold == pytest.approx(np.exp(-10), rel=1e-7)
    text = """type: "SimilarityLoss" loss_param { ignore_label: 255 }
        similarity_loss_param { window: 3 }"""
    options = {**OPTIONS, "threshold": threshold}
    twin = [partial(f, **options) for f in (similarity_loss.forward, similarity_loss.backward)]
    assert_agreement(CaffeLayer(text, dtype, num_bottoms=2), [s, LABELS], *twin)
