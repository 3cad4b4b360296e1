"""The twins as `type: "Python"` layers: in a net, they compute what the C++ layers do."""

import json

import caffe
import numpy as np
import pytest
from numeric import relative_error

from python_layers.numpy_layer import read_parameters

SCORES, PAIRS, LABELS = (2, 3, 5, 6), (2, 8, 5, 6), (2, 1, 5, 6)

# Layer, module, bottoms' shapes, parameters: the fields of the C++ layer's <module>_param.
LAYERS = [
    ("Similarity", "similarity", [SCORES], {"window": 7}),
    ("MatrixGen", "matrix_gen", [], {"num_classes": 3, "diagonal": 0.5}),
    ("GMFEven", "gmf", [SCORES, SCORES, PAIRS, (3, 3)], {"window": 7}),
    ("GMFOdd", "gmf", [SCORES, SCORES, PAIRS, (3, 3)], {"window": 7}),
    ("MarginLoss", "margin_loss", [SCORES, LABELS], {"margin": 1}),
    ("SimilarityLoss", "similarity_loss", [PAIRS, LABELS], {"window": 7, "threshold": 0.25}),
    ("Interp", "interp", [SCORES], {"zoom_factor": 3}),
]


def fields(values):
    return " ".join(f"{name}: {value}" for name, value in values.items())


def make_net(folder, shapes, layer_text):
    """Return a net of inputs bottom0, bottom1, ... and one layer with the top `top`."""
    inputs = "".join(
        f'layer {{ name: "bottom{i}" type: "Input" top: "bottom{i}" '
        f"input_param {{ shape {{ {' '.join(f'dim: {length}' for length in shape)} }} }} }}\n"
        for i, shape in enumerate(shapes)
    )
    bottoms = " ".join(f'bottom: "bottom{i}"' for i in range(len(shapes)))
    path = folder / "net.prototxt"
    path.write_text(
        f'force_backward: true\n{inputs}layer {{ name: "layer" {layer_text} {bottoms} top: "top" }}'
    )
    return caffe.Net(str(path), caffe.TRAIN)


def run(net, shapes):
    """Return the top, the bottoms' gradients and the parameters with their gradients."""
    rng = np.random.default_rng(0)
    for i, shape in enumerate(shapes):
        values = rng.random(shape)
        if shape == LABELS:
            values = np.where(values < 0.1, 255, np.floor(3 * values))
        if shape == (3, 3):
            values = values @ values.T
        net.blobs[f"bottom{i}"].data[...] = values
    net.forward()
    net.blobs["top"].diff[...] = rng.normal(size=net.blobs["top"].data.shape)
    net.backward()
    blobs = [net.blobs[f"bottom{i}"] for i, shape in enumerate(shapes) if shape != LABELS]
    results = [net.blobs["top"].data, *(blob.diff for blob in blobs)]
    for blob in net.params.get("layer", []):
        results += [blob.data, blob.diff]
    return [result.copy() for result in results]


@pytest.mark.parametrize(
    ("layer", "module", "shapes", "parameters"),
    LAYERS,
    ids=[layer[0] for layer in LAYERS],
)
def test_a_net_may_use_either(tmp_path, layer, module, shapes, parameters):
    loss_param = {"ignore_label": 255} if LABELS in shapes else {}
    loss = "loss_param { ignore_label: 255 }" if loss_param else ""
    cpp = f'type: "{layer}" {module}_param {{ {fields(parameters)} }} {loss}'
    param_str = json.dumps(json.dumps({**parameters, **loss_param}))  # quoted once more
    python = f"""type: "Python"
        python_param {{ module: "python_layers.{module}" layer: "{layer}"
                        param_str: {param_str} }}"""
    expected = run(make_net(tmp_path, shapes, cpp), shapes)
    found = run(make_net(tmp_path, shapes, python), shapes)
    assert len(found) == len(expected) == 1 + len(shapes) - (LABELS in shapes) + 2 * (not shapes)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-5
        assert theirs.any()


def test_a_python_layer_follows_a_new_input_size(tmp_path):
    python = """type: "Python"
        python_param { module: "python_layers.interp" layer: "Interp"
                       param_str: '{"zoom_factor": 2}' }"""
    net = make_net(tmp_path, [SCORES], python)
    net.blobs["bottom0"].reshape(1, 4, 7, 3)
    net.forward()
    assert net.blobs["top"].data.shape == (1, 4, 13, 5)


@pytest.mark.parametrize(
    ("module", "layer", "shapes", "message"),
    [
        ("gmf", "GMFEven", [SCORES], r"1 bottoms and 1 tops, expected 4 \(mu, r, s, C\) and 1"),
        ("similarity", "Similarity", [(3, 3)], r"features have shape \(3, 3\)"),
    ],
)
def test_a_wrong_net_is_rejected_with_a_reason(tmp_path, module, layer, shapes, message):
    python = f'type: "Python" python_param {{ module: "python_layers.{module}" layer: "{layer}" }}'
    with pytest.raises(ValueError, match=message):
        make_net(tmp_path, shapes, python)


def test_given_values_replace_the_defaults():
    assert read_parameters("", {"window": 23}) == {"window": 23}
    assert read_parameters('{"window": 7}', {"window": 23}) == {"window": 7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"windw": 7}', r"param_str names \['windw'\], expected names among \['window'\]"),
        ("7", "param_str is '7', expected a JSON object"),
        ("{window: 7}", "param_str '{window: 7}' is not JSON: .* line 1 column 2"),
    ],
)
def test_anything_else_is_rejected(text, message):
    with pytest.raises(ValueError, match=message):
        read_parameters(text, {"window": 23})
