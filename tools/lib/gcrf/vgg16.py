"""DeepLab-MSc-LargeFOV, the paper's trunk: VGG-16 with branches at five scales.

L.-C. Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs", ICLR 2015.
"""

from caffe import layers as L  # noqa: N812  as in all of Caffe's examples
from caffe import params as P  # noqa: N812

from gcrf.net_parts import Trunk, rate, rectified

STRIDE = 8  # of the branch that sees pixels, and of all features
PIXEL_STD = (
    0.004  # of layers that see pixels (about +-70), from scratch: MSRA's, scaled down by that
)

# Block, its convolutions, the strides of its pooling layer and of the branch that starts there.
BLOCKS = ((1, 2, 2, 4), (2, 2, 2, 2), (3, 3, 2, 1), (4, 3, 1, 1))


def features(n, prefix, s, learn):
    """The trunk without its score layers; each branch has a copy."""

    def convolve(name, *args, **options):
        part, _, _ = name.partition("_")
        options["lr_mult"] = rate(learn, prefix, part, s)
        return rectified(n, f"{prefix}/{name}", *args, **options)

    def pool(name, bottom, method, stride):
        n[f"{prefix}/{name}"] = L.Pooling(bottom, pool=method, kernel_size=3, stride=stride, pad=1)
        return n[f"{prefix}/{name}"]

    def branch(name, bottom, stride):
        conv_std = s.branch_std or (PIXEL_STD if name == "data" else None)
        fc_std = 0.005 if s.branch_std and name == "pool4" else s.branch_std  # as published
        shape = dict(num_output=s.branch_width, dropout=s.dropout)
        top = convolve(
            f"{name}_conv", bottom, kernel_size=3, std=conv_std, **shape, stride=stride, pad=1
        )
        return convolve(f"{name}_fc", top, kernel_size=1, std=fc_std, **shape)

    found = {"data_ms": branch("data", n.data, STRIDE)}
    top = n.data
    for block, layers, pool_stride, branch_stride in BLOCKS:
        for layer in range(1, layers + 1):
            std = PIXEL_STD if top is n.data else None
            top = convolve(f"conv{block}_{layer}", top, s.conv_widths[block - 1], 3, std=std, pad=1)
        top = pool(f"pool{block}", top, P.Pooling.MAX, pool_stride)
        found[f"pool{block}_ms"] = branch(f"pool{block}", top, branch_stride)
    for layer in (1, 2, 3):
        top = convolve(f"conv5_{layer}", top, s.conv_widths[4], 3, pad=2, dilation=2)
    top = pool("pool5", top, P.Pooling.MAX, stride=1)
    top = pool("pool5a", top, P.Pooling.AVE, stride=1)
    top = convolve("fc6", top, s.fc_width, 3, dropout=s.dropout, pad=12, dilation=12)
    found["fc8"] = convolve("fc7", top, s.fc_width, 1, dropout=s.dropout)
    return [found[name] for name in TRUNK.score_layers]


TRUNK = Trunk(
    parts=tuple(f"conv{block}" for block in range(1, 6)),
    size_step=STRIDE,
    score_layers=("fc8", "data_ms", "pool1_ms", "pool2_ms", "pool3_ms", "pool4_ms"),
    features=features,
    fine_features=lambda *_: [],  # the branches of data, pool1 and pool2 are fine
)
