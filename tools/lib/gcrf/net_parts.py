"""What the networks are built from: convolutions that learn or do not, and the form of a trunk."""

from collections.abc import Callable
from typing import NamedTuple

from caffe import layers as L  # noqa: N812  as in all of Caffe's examples

NO_LEARNING = {}  # of a deploy net, whose layers have neither learning rates nor fillers


class Trunk(NamedTuple):
    """A convolutional network whose features the unary and the pairwise branch score.

    Both functions take (n, prefix, settings, learn): a NetSpec with n.data, the name of the branch,
    and {group of parameters: lr_mult}. They return features on the grid, N x channels x H x W.
    """

    parts: tuple  # names of its parts, the lowest first; --freeze names the last frozen one
    size_step: int  # an image must have sides of size_step * k + 1 pixels
    score_layers: tuple  # the names of the 1x1 layers whose sum is the unary's scores
    features: Callable  # the inputs of score_layers, in order
    fine_features: Callable  # additional inputs of the similarity


def rate(learn, group, part, s):
    """Return the lr_mult of a layer in a part of the trunk: its group's, or 0 if it is frozen."""
    if not learn:
        return None
    return 0 if part in s.frozen_parts else learn.get(group, 0)


def convolution(bottom, num_output, kernel_size, *, lr_mult=None, std=None, bias=True, **geometry):
    """A convolution that learns at lr_mult, filled by a gaussian of std, or if None, by MSRA.

    If lr_mult is None, it is a layer of a deploy net.
    """
    if not bias:
        geometry["bias_term"] = False
    if lr_mult is not None:
        geometry["param"] = [dict(lr_mult=lr_mult, decay_mult=1)]
        geometry["weight_filler"] = dict(type="gaussian", std=std) if std else dict(type="msra")
        if bias:
            geometry["param"].append(dict(lr_mult=lr_mult, decay_mult=0))
            geometry["bias_filler"] = dict(type="constant")
    return L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, **geometry)


def rectified(n, name, bottom, num_output, kernel_size, *, dropout=0, **options):
    """Add a convolution called name with a ReLU and, unless it is 0, a dropout; return the top."""
    n[name] = convolution(bottom, num_output, kernel_size, **options)
    n[f"{name}_relu"] = top = L.ReLU(n[name], in_place=True)
    if dropout:
        n[f"{name}_drop"] = top = L.Dropout(top, dropout_ratio=dropout, in_place=True)
    return top
