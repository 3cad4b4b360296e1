"""The parameters of the `type: "Python"` layers."""

import pytest
from numpy_layer import read_parameters


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
