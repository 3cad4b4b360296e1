"""Read and write the weights in a .caffemodel, as NumPy arrays by layer name."""

from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from gcrf import atomic


def read_caffemodel(path):
    """Return {layer name: [array of each parameter blob]} of the layers that have weights.

    Old (V1) and new layers are both read by name. Fields and layer types of other forks of Caffe
    that this one does not know are skipped. Blobs keep the shape that they are stored with: old
    ones have four axes, so a bias is (1, 1, 1, n).
    Raises ValueError if the file is not a .caffemodel, or if two layers have the same name.
    """
    try:
        net = caffe_pb2.NetParameter.FromString(Path(path).read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path}: not a .caffemodel ({error})") from error
    weights = {}
    for layer in [*net.layers, *net.layer]:
        if not layer.blobs:
            continue
        if layer.name in weights:
            raise ValueError(f"{path}: two layers are called {layer.name}")
        weights[layer.name] = [_to_array(blob) for blob in layer.blobs]
    if not weights:
        raise ValueError(f"{path}: no layer has weights; is it a .caffemodel?")
    return weights


def write_caffemodel(path, weights):
    """Write {layer name: [array of each parameter blob]}, completely or not at all."""
    net = caffe_pb2.NetParameter()
    for name, arrays in weights.items():
        layer = net.layer.add(name=name)
        for array in arrays:
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(np.asarray(array, np.float32).ravel().tolist())
    with atomic.new_file(path) as partial:
        partial.write_bytes(net.SerializeToString())


def load_net(deploy, stored, weights):
    """Return the deploy net of a prototxt, once it is known that `stored`, from `weights`, fits it.

    Its parameters are not set. Raises FileNotFoundError if there is no prototxt, and ValueError if
    it is no deploy net, or if the weights are of another network.
    """
    if not Path(deploy).is_file():
        raise FileNotFoundError(f"{deploy}: no such file, expected a deploy prototxt")
    net = caffe.Net(str(deploy), caffe.TEST)
    for name in ("data", "scores"):
        if name not in net.blobs:
            raise ValueError(f"{deploy}: no blob {name}; expected a deploy net")
    for name, blobs in net.params.items():  # Caffe itself would leave these at zero
        found = [array.size for array in stored.get(name, ())]
        expected = [blob.count for blob in blobs]
        if found != expected:
            raise ValueError(
                f"{weights}: layer {name} has parameters of {found or 'no'} values, "
                f"{deploy} expects {expected}; give the weights trained for this network"
            )
    return net


def _to_array(blob):
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    return np.array(blob.double_data or blob.data, np.float32).reshape(shape)
