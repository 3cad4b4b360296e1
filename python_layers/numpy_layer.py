"""The bridge from the NumPy twins to Caffe: the base class of the `type: "Python"` layers here.

Each module of this folder defines a layer by plain functions on arrays, forward and backward,
and ends with a class through which a net can call them:

    layer { name: "similarity" type: "Python" bottom: "features" top: "similarity"
            python_param { module: "python_layers.similarity" layer: "Similarity"
                           param_str: '{"window": 7}' } }

param_str is JSON with the field names of the C++ layer's own message. A loss needs
`loss_weight: 1`, as every Python loss in Caffe. Without Caffe the functions still work.
"""

import json
from typing import ClassVar

try:
    from caffe import Layer
except ModuleNotFoundError as error:
    if error.name != "caffe":  # Caffe is installed, but something that it needs is not
        raise
    Layer = object


def read_parameters(text, defaults):
    """Return defaults, updated from the JSON object in text ("" for none).

    Raises ValueError if text is not a JSON object, and for a name that is not in defaults.
    """
    try:
        given = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"param_str {text!r} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"param_str is {text!r}, expected a JSON object such as {{}}")
    unknown = sorted(given.keys() - defaults.keys())
    if unknown:
        raise ValueError(f"param_str names {unknown}, expected names among {sorted(defaults)}")
    return {**defaults, **given}


def data_of(blobs):
    """Return the arrays of blobs, which pycaffe lets us index but not iterate over."""
    return [blobs[i].data for i in range(len(blobs))]


class NumpyLayer(Layer):
    """A layer with one top, whose subclass says what it computes.

    bottoms: the names of its bottoms; defaults: its parameters and their default values.
    """

    bottoms = ()
    defaults: ClassVar = {}

    def top_shape(self, *shapes):
        """Return the top's shape from the bottoms'; raise ValueError if they do not fit."""
        raise NotImplementedError

    def compute(self, *arrays):
        """Return the top from the bottoms."""
        raise NotImplementedError

    def differentiate(self, top_diff, *arrays):
        """Return the gradient of each bottom, None for one that has none (labels)."""
        raise NotImplementedError

    def setup(self, bottom, top):
        """Read the parameters and count the blobs."""
        if len(bottom) != len(self.bottoms) or len(top) != 1:
            expected = f"{len(self.bottoms)} ({', '.join(self.bottoms)}) and 1"
            raise ValueError(f"{len(bottom)} bottoms and {len(top)} tops, expected {expected}")
        self.parameters = read_parameters(self.param_str, self.defaults)

    def reshape(self, bottom, top):
        """Give the top its shape."""
        top[0].reshape(*self.top_shape(*(x.shape for x in data_of(bottom))))

    def forward(self, bottom, top):
        """Compute the top."""
        top[0].data[...] = self.compute(*data_of(bottom))

    def backward(self, top, propagate_down, bottom):
        """Compute the gradients of the bottoms that ask for one."""
        gradients = self.differentiate(top[0].diff, *data_of(bottom))
        for i, gradient in enumerate(gradients):
            if propagate_down[i]:  # for labels too, where a net says force_backward
                bottom[i].diff[...] = 0 if gradient is None else gradient
