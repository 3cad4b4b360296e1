"""pycaffe on nets of the DNNL engine, whose blobs are not in Caffe's layout between its layers."""

from pathlib import Path

import caffe
import numpy as np
import pytest

BUILD = Path(caffe.__file__).resolve().parents[2]
HAS_DNNL = "USE_DNNL:BOOL=ON" in (BUILD / "CMakeCache.txt").read_text()

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "first" type: "Convolution" bottom: "data" top: "first"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "second" type: "Convolution" bottom: "first" top: "second"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
"""


def net_of(folder, text):
    path = folder / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(1, 3, 9, 9))
    return net


def test_an_array_that_is_kept_shows_every_pass(tmp_path):
    net = net_of(tmp_path, NET)
    first, weights = net.blobs["first"].data, net.params["first"][0].data
    net.forward()
    once = first.copy()
    assert np.abs(once).max() > 0
    weights *= 2
    net.forward()
    np.testing.assert_allclose(first, 2 * once, rtol=1e-6)


@pytest.mark.skipif(not HAS_DNNL, reason="built without the DNNL engine")
def test_a_blob_whose_memory_was_given_back_says_so(tmp_path):
    net = net_of(tmp_path, "share_activations: true" + NET)
    net.forward()
    assert np.abs(net.blobs["second"].data).max() > 0
    with pytest.raises(RuntimeError, match="share_activations"):
        net.blobs["first"].data  # noqa: B018
