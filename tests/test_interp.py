"""Interp: bilinear resizing with the corners aligned."""

from functools import partial

import numpy as np
import pytest
from agreement import assert_agreement
from layer_runner import CaffeLayer
from numeric import central_differences, relative_error

from python_layers import interp

# Input height and width, parameters, result height and width.
CASES = [
    ((3, 4), {"zoom_factor": 8}, (17, 25)),
    ((1, 5), {"zoom_factor": 3}, (1, 13)),
    ((9, 13), {"shrink_factor": 4}, (3, 4)),
    ((5, 3), {"height": 7, "width": 1}, (7, 1)),
    ((1, 1), {"height": 3, "width": 2}, (3, 2)),
    ((4, 6), {"height": 4, "width": 6}, (4, 6)),
]


def test_a_row_zoomed_by_two_worked_by_hand():
    x = np.array([0.0, 4, 2]).reshape(1, 1, 1, 3)
    assert np.array_equal(interp.forward(x, zoom_factor=2)[0, 0], [[0, 2, 4, 3, 2]])
    # Each result pixel passes its gradient back to the inputs that it was made of.
    gradient = interp.backward(x, np.array([[[[1.0, 10, 100, 1000, 10000]]]]), zoom_factor=2)
    assert np.array_equal(gradient[0, 0], [[6, 605, 10500]])


def test_a_result_one_pixel_wide_takes_the_first_column():
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    assert np.array_equal(interp.forward(x, height=3, width=1)[0, 0], [[0], [4], [8]])


def test_zoom_is_undone_by_shrink():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4))
    zoomed = interp.forward(x, zoom_factor=8)
    assert np.array_equal(interp.forward(zoomed, shrink_factor=8), x)


@pytest.mark.parametrize(("size", "parameters", "expected"), CASES)
def test_size_and_gradient(size, parameters, expected):
    rng = np.random.default_rng(0)
    x, top_diff = rng.normal(size=(2, 2, *size)), rng.normal(size=(2, 2, *expected))
    assert interp.forward(x, **parameters).shape == top_diff.shape
    numeric = central_differences(
        lambda x: (interp.forward(x, **parameters) * top_diff).sum(), [x], 0
    )
    assert relative_error(interp.backward(x, top_diff, **parameters), numeric) < 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_is_kept(dtype):
    x = np.ones((1, 1, 2, 2), dtype)
    assert interp.forward(x, zoom_factor=2).dtype == dtype
    assert interp.backward(x, x, zoom_factor=1).dtype == dtype


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "no size given, expected exactly one of"),
        ({"height": 3}, r"\['height'\] given, expected exactly one of"),
        ({"zoom_factor": 2, "shrink_factor": 2}, r"\['shrink_factor', 'zoom_factor'\] given"),
        ({"zoom_factor": 0}, "zoom_factor is 0, expected at least 1"),
        ({"height": 0, "width": 3}, "height is 0, expected at least 1"),
        ({"shrink_factor": 4}, r"input is \(3, 3\), expected 4 k \+ 1 along both axes"),
    ],
)
def test_any_other_choice_of_size_is_rejected(parameters, message):
    with pytest.raises(ValueError, match=message):
        interp.forward(np.ones((1, 1, 3, 3)), **parameters)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parameters", [parameters for _, parameters, _ in CASES])
def test_caffe_agrees_at_every_size(dtype, parameters):
    fields = " ".join(f"{name}: {value}" for name, value in parameters.items())
    layer = CaffeLayer(f'type: "Interp" interp_param {{ {fields} }}', dtype)
    twin = [partial(function, **parameters) for function in (interp.forward, interp.backward)]
    for shape in [(2, 3, 5, 9), (1, 1, 1, 1), (1, 2, 1, 9), (3, 2, 33, 41), (1, 21, 13, 1)]:
        assert_agreement(layer, [np.random.default_rng(0).normal(size=shape)], *twin)
