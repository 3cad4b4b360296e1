"""MarginLoss: L_i = max(0, T - (score of the label - best other score))."""

from functools import partial

import numpy as np
import pytest
from agreement import assert_agreement
from layer_runner import CaffeLayer
from numeric import central_differences, relative_error

from python_layers import margin_loss

# Three classes, four pixels. Margins (score of the label - best other):
# 2 - 1 = 1, 1 - 2 = -1, 0.25 - 0 = 0.25, ignored.
SCORES = np.array([[2.0, 2, 0, 9], [1, 1, 0.25, 9], [0, 0, 0, 9]]).reshape(1, 3, 1, 4)
LABELS = np.array([0.0, 1, 1, 255]).reshape(1, 1, 1, 4)


def test_four_pixels_worked_by_hand():
    # Losses for T = 0.5: 0, 1.5, 0.25 and none.
    loss = margin_loss.forward(SCORES, LABELS, margin=0.5, ignore_label=255)
    assert loss == pytest.approx(1.75 / 3)
    gradient = margin_loss.backward(SCORES, LABELS, margin=0.5, ignore_label=255)
    third = 1 / 3  # pixel 2: classes 0 and 2 tie at 0, and class 0 takes the gradient
    expected = [[0, third, third, 0], [0, -third, -third, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(gradient[0, :, 0], expected)


@pytest.mark.parametrize(
    ("normalization", "divisor"), [("FULL", 4), ("VALID", 3), ("BATCH_SIZE", 1), ("NONE", 1)]
)
def test_normalization_as_in_softmax_with_loss(normalization, divisor):
    options = {"ignore_label": 255, "normalization": normalization}
    assert margin_loss.forward(SCORES, LABELS, **options) == pytest.approx(1.75 / divisor)
    gradient = margin_loss.backward(SCORES, LABELS, **options)
    assert gradient[0, 1, 0, 1] == pytest.approx(-1 / divisor)


def test_a_margin_of_exactly_t_has_no_gradient():
    options = {"margin": 0.25, "ignore_label": 255, "normalization": "NONE"}
    assert margin_loss.forward(SCORES, LABELS, **options) == 1.25
    assert not margin_loss.backward(SCORES, LABELS, **options)[0, :, 0, 2].any()


def test_all_labels_ignored_is_loss_and_gradient_zero():
    labels = np.full_like(LABELS, 255)
    assert margin_loss.forward(SCORES, labels, ignore_label=255) == 0
    assert not margin_loss.backward(SCORES, labels, ignore_label=255).any()


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 3, 3, 4), (3, 5, 2, 1)])
def test_gradient(shape):
    rng = np.random.default_rng(0)
    scores = rng.permutation(np.prod(shape)).reshape(shape) / 4  # no ties
    labels = rng.integers(0, shape[1], (shape[0], 1, *shape[2:])).astype(float)
    labels[rng.random(labels.shape) < 0.2] = 255
    options = {"margin": 3.1, "ignore_label": 255}  # no margin is exactly 3.1
    gradient = margin_loss.backward(scores, labels, **options, loss_diff=2)
    numeric = central_differences(
        lambda scores: 2 * margin_loss.forward(scores, labels, **options), [scores], 0
    )
    assert relative_error(gradient, numeric) < 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_is_kept(dtype):
    arrays = SCORES.astype(dtype), LABELS.astype(dtype)
    assert margin_loss.forward(*arrays, ignore_label=255).dtype == dtype
    assert margin_loss.backward(*arrays, ignore_label=255).dtype == dtype


@pytest.mark.parametrize(
    ("label", "ignore_label", "message"),
    [
        (3, 255, r"label 3 at image 0, row 0, column 2, expected 0\.\.2 or 255 \(ignored\)"),
        (-1, 255, r"label -1 at image 0, row 0, column 2"),
        (1.5, 255, r"label 1\.5 at image 0, row 0, column 2"),
        (np.nan, 255, r"label nan at image 0, row 0, column 2"),
        (0, None, r"label 255 at .* column 3, expected 0\.\.2; .* or set ignore_label"),
    ],
)
def test_an_unknown_label_is_named_with_its_position(label, ignore_label, message):
    labels = LABELS.copy()
    labels[0, 0, 0, 2] = label
    with pytest.raises(ValueError, match=message):
        margin_loss.forward(SCORES, labels, ignore_label=ignore_label)


def test_wrong_shapes_and_normalizations_are_rejected():
    with pytest.raises(ValueError, match=r"scores have shape .* with K >= 2 classes"):
        margin_loss.forward(SCORES[:, :1], LABELS)
    with pytest.raises(ValueError, match=r"labels have shape \(1, 1, 1, 3\), expected \(1, 1, 1"):
        margin_loss.forward(SCORES, LABELS[..., :3])
    with pytest.raises(ValueError, match="normalization is 'MEAN', expected one of"):
        margin_loss.forward(SCORES, LABELS, ignore_label=255, normalization="MEAN")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ignored", [0, 0.2, 1])
@pytest.mark.parametrize("normalization", margin_loss.NORMALIZATIONS)
def test_caffe_agrees_at_every_size(dtype, ignored, normalization):
    text = f"""type: "MarginLoss" margin_loss_param {{ margin: 0.75 }}
        loss_param {{ ignore_label: 255 normalization: {normalization} }}"""
    options = {"margin": 0.75, "ignore_label": 255, "normalization": normalization}
    twin = [partial(f, **options) for f in (margin_loss.forward, margin_loss.backward)]
    layer = CaffeLayer(text, dtype, num_bottoms=2)
    for shape in [(1, 2, 1, 1), (2, 21, 9, 12), (3, 5, 1, 7), (1, 3, 40, 1)]:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, shape[1], (shape[0], 1, *shape[2:]))
        labels[rng.random(labels.shape) < ignored] = 255
        assert_agreement(layer, [rng.normal(size=shape), labels], *twin)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_caffe_agrees_on_ties_and_on_the_kink(dtype):
    for margin in (0.5, 0.25):
        text = f"""type: "MarginLoss" margin_loss_param {{ margin: {margin} }}
            loss_param {{ ignore_label: 255 }}"""
        options = {"margin": margin, "ignore_label": 255}
        twin = [partial(f, **options) for f in (margin_loss.forward, margin_loss.backward)]
        assert_agreement(CaffeLayer(text, dtype, num_bottoms=2), [SCORES, LABELS], *twin)
