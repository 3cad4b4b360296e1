"""A network of the project in PyTorch, which benchmark_networks.py compares Caffe with.

Example, with PyTorch from requirements-benchmark.txt:
    net = text_format.Parse(Path("prototxt/deploy.prototxt").read_text(), caffe_pb2.NetParameter())
    twin = TorchTwin(net, caffemodel.read_caffemodel("finetune.caffemodel")).eval()
    scores = twin(data=torch.zeros(1, 3, 505, 505))["scores"]

Knows the layers of the deploy nets, and MarginLoss. Imports neither Caffe nor its messages, so that
a process can load PyTorch alone.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  as in PyTorch's own examples

from python_layers.neighbourhood import pair_ends, pair_offsets

IGNORED = {"Input", "Silence", "Accuracy"}


class TorchTwin(torch.nn.Module):
    """A net with its weights; called with the input blobs by name, it returns the outputs.

    net: a NetParameter, of one phase. weights: {layer name: [array of each parameter blob]}.
    Parameters have Caffe's shapes, and are called "layer name:index".
    """

    def __init__(self, net, weights):
        super().__init__()
        layers = [layer for layer in net.layer if layer.type not in IGNORED]
        unknown = {layer.type for layer in layers} - OPERATIONS.keys()
        if unknown:
            raise ValueError(f"no PyTorch twin of layer type {', '.join(sorted(unknown))}")
        parameters = {
            f"{layer.name}:{index}": torch.nn.Parameter(torch.from_numpy(np.array(array)))
            for layer in layers
            for index, array in enumerate(weights.get(layer.name, ()))
        }
        self.weights = torch.nn.ParameterDict(parameters)
        self._steps, last_use = [], {}
        for index, layer in enumerate(layers):
            names = [name for name in parameters if name.rpartition(":")[0] == layer.name]
            self._steps.append(
                (OPERATIONS[layer.type](layer), list(layer.bottom), names, layer.top[0])
            )
            last_use.update(dict.fromkeys(layer.bottom, index) | {layer.top[0]: None})
        self._done = [[] for _ in layers]  # the blobs that are no longer needed after each step
        for name, index in last_use.items():
            if index is not None:
                self._done[index].append(name)

    def forward(self, **blobs):
        pairs = {}  # of each similarity map, which all GMF layers share
        for (operation, bottoms, names, top), done in zip(self._steps, self._done, strict=True):
            arguments = [blobs[name] for name in bottoms]
            if isinstance(operation, GMF):
                key = bottoms[2]
                if key not in pairs:
                    pairs[key] = pair_matrices(blobs[key], operation.window)
                arguments[2] = pairs[key]
            weights = [self.weights[name] for name in names]
            blobs[top] = operation(*arguments, *weights, training=self.training)
            del arguments
            for name in done:
                del blobs[name]
        return blobs


# ---- Caffe's own layers. From a LayerParameter, each function makes the operation on its bottoms
# and parameters.


def side(repeated, single, default):
    """Return a spatial size of a layer as (height, width); Caffe has two ways to specify it."""
    values = list(repeated) or [single or default]
    return (values * 2)[:2]


def convolution(layer):
    p = layer.convolution_param
    geometry = {
        "stride": side(p.stride, p.stride_h, 1),
        "padding": side(p.pad, p.pad_h, 0),
        "dilation": side(p.dilation, 0, 1),
        "groups": p.group,
    }

    def apply(x, weight, bias=None, *, training):
        return F.conv2d(x, weight, bias, **geometry)

    return apply


def pooling(layer):
    p = layer.pooling_param
    if p.pool not in {p.MAX, p.AVE} or p.global_pooling:
        raise ValueError(f"layer {layer.name}: no PyTorch twin of this pooling")
    pool = F.max_pool2d if p.pool == p.MAX else F.avg_pool2d

    geometry = p.kernel_size, p.stride, p.pad

    def apply(x, *, training):
        return pool(x, *geometry, ceil_mode=True)

    return apply


def relu(layer):
    slope, in_place = layer.relu_param.negative_slope, layer.bottom[0] == layer.top[0]

    def apply(x, *, training):
        return F.leaky_relu(x, slope, in_place) if slope else F.relu(x, in_place)

    return apply


def dropout(layer):
    ratio = layer.dropout_param.dropout_ratio

    def apply(x, *, training):
        return F.dropout(x, ratio, training)

    return apply


def eltwise(layer):
    p = layer.eltwise_param
    if p.operation != p.SUM or p.coeff:
        raise ValueError(f"layer {layer.name}: no PyTorch twin of any Eltwise except the plain sum")

    def apply(*bottoms, training):
        return functools.reduce(torch.add, bottoms)

    return apply


def concat(layer):
    axis = layer.concat_param.axis

    def apply(*bottoms, training):
        return torch.cat(bottoms, axis)

    return apply


def softmax(layer):
    axis = layer.softmax_param.axis

    def apply(x, *, training):
        return F.softmax(x, axis)

    return apply


# ---- The layers of the Gaussian CRF; the formulas are those of python_layers


def interp(layer):
    p = layer.interp_param
    zoom, shrink, size = p.zoom_factor or 1, p.shrink_factor or 1, (p.height, p.width)

    def apply(x, *, training):
        resized = size if size[0] else [(side - 1) // shrink * zoom + 1 for side in x.shape[2:]]
        return F.interpolate(x, resized, mode="bilinear", align_corners=True)

    return apply


def similarity(layer):
    reach = largest_offset(layer.similarity_param.window)

    def neighbours(x):
        """Return (N, C, P, H, W): x at the other end of each pair; 0 outside the image."""
        padded = F.pad(x, (reach, reach, -1, reach))  # dy from 1 on, dx from -reach on
        columns = F.unfold(padded, ((reach + 1) // 2, reach + 1), dilation=2)
        return columns.view(*x.shape[:2], -1, *x.shape[2:])

    def apply(p, *, training):
        inside = neighbours(torch.ones_like(p[:1, :1]))[:, 0]
        return inside * torch.exp(-((neighbours(p) - p[:, :, None]) ** 2).sum(1))  # Eq. (5)

    return apply


def matrix_gen(layer):
    def apply(R, *, training):
        R = R.tril()
        return R @ R.T  # Eq. (3)

    return apply


class GMF:
    """A half step of Gaussian mean field, eq. (2), with the similarities as a matrix."""

    def __init__(self, layer):
        self.window = layer.gmf_param.window
        self._parity = ("GMFEven", "GMFOdd").index(layer.type)

    def __call__(self, mu, r, pairs, C, *, training):
        updated, other = slice(self._parity, None, 2), slice(1 - self._parity, None, 2)
        matrix, degree = pairs[self._parity]
        unary = r[..., updated]
        b = unary.flatten(2) + C @ (mu[..., other].flatten(2) @ matrix)
        result = mu.clone()
        result[..., updated] = Solve.apply(degree, C, b).view_as(unary)
        return result


class Solve(torch.autograd.Function):
    """(I + S_i C)^-1 b_i for S (N, pixels) and b (N, K, pixels), in the eigenbasis of C."""

    @staticmethod
    def forward(context, S, C, b):
        eigenvalues, U = torch.linalg.eigh(C)
        divisor = 1 + eigenvalues[:, None] * S[:, None]
        x = U @ ((U.T @ b) / divisor)
        context.save_for_backward(S, C, U, divisor, x)
        return x

    @staticmethod
    def backward(context, gradient):
        S, C, U, divisor, x = context.saved_tensors
        q = U @ ((U.T @ gradient) / divisor)
        G = -torch.einsum("nkp,nlp->kl", q * S[:, None], x)
        return -((C @ q) * x).sum(1), (G + G.T) / 2, q


def margin_loss(layer):
    p, margin = layer.loss_param, layer.margin_loss_param.margin
    if p.normalization != p.VALID or p.HasField("normalize"):
        raise ValueError(f"layer {layer.name}: no PyTorch twin of any normalization except VALID")
    ignored = p.ignore_label if p.HasField("ignore_label") else -1

    def apply(scores, labels, *, training):
        valid = labels != ignored
        label = torch.where(valid, labels, 0).long()
        others = scores.scatter(1, label, -torch.inf)
        gap = scores.gather(1, label) - others.amax(1, keepdim=True)
        loss = F.relu(margin - gap) * valid  # Eq. (6)
        return loss.sum() / valid.sum().clamp(min=1)

    return apply


OPERATIONS = {
    "Convolution": convolution,
    "Pooling": pooling,
    "ReLU": relu,
    "Dropout": dropout,
    "Eltwise": eltwise,
    "Concat": concat,
    "Softmax": softmax,
    "Interp": interp,
    "Similarity": similarity,
    "MatrixGen": matrix_gen,
    "GMFEven": GMF,
    "GMFOdd": GMF,
    "MarginLoss": margin_loss,
}


# ---- The pairs


def largest_offset(window):
    return max(dy for dy, _ in pair_offsets(window))


def pair_matrices(s, window):
    """Return (matrix, degree) for the even and for the odd columns of similarities s (N, P, H, W).

    No pair joins two even or two odd columns. So the messages to all even ones are the other
    columns' means (N, K, pixels) times a matrix, and those to the odd ones use its transpose.
    """
    height, width = s.shape[2:]
    source, target = pair_indices(height, width, window)
    shape = len(s), height * (width // 2), height * ((width + 1) // 2)
    flat = s.new_zeros(shape[0], shape[1] * shape[2])
    to_even = flat.index_copy(1, target, s.flatten(1).index_select(1, source)).view(shape)
    to_odd = to_even.transpose(1, 2)
    return (to_even, to_even.sum(1)), (to_odd, to_odd.sum(1))


@torch.compiler.assume_constant_result
def pair_indices(height, width, window):
    """What find_pairs returns; hides the cache from a compiler, which cannot handle it."""
    return find_pairs(height, width, window)


@functools.lru_cache
def find_pairs(height, width, window):
    """Return where each pair is in an image's similarities, and where in its matrix, flattened."""
    rows, columns = np.mgrid[:height, :width]
    count_even = height * ((width + 1) // 2)
    place = np.where(columns % 2, rows * (width // 2), rows * ((width + 1) // 2)) + columns // 2
    source, target = [], []
    for channel, first, second in pair_ends(height, width, window):
        first_is_odd = columns[first] % 2 == 1
        odd = np.where(first_is_odd, place[first], place[second])
        even = np.where(first_is_odd, place[second], place[first])
        source.append(((channel * height + rows[first]) * width + columns[first]).ravel())
        target.append((odd * count_even + even).ravel())
    return tuple(torch.from_numpy(np.concatenate(part)) for part in (source, target))
