"""The networks and solvers of the Gaussian CRF network: their one definition.

`write` makes a folder of prototxt files of Settings; tools/make_nets.py writes prototxt/ with it.

The stages, from sections 4 and 5.1 of R. Vemulapalli et al., "Gaussian Conditional Random Field
Network for Semantic Segmentation", CVPR 2016:
    unary     DeepLab-MSc-LargeFOV with a softmax loss, for users without its published weights
    pretrain  the pairwise CNN and its filters with the similarity loss, in two phases
    finetune  the whole network with the margin loss at full resolution
deploy and deploy_unary take an image and give scores at its own resolution.
Paths in the nets and solvers are relative to the folder that caffe runs in.
"""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import caffe
from caffe import layers as L  # noqa: N812  as in all of Caffe's examples
from caffe import params as P  # noqa: N812
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from gcrf import atomic

MEAN_BGR = [104.008, 116.669, 122.675]  # of DeepLab's published training nets
IGNORE_LABEL = 255  # VOC 2012 devkit: "void", the border around each object
STRIDE = 8  # image pixels per cell of the grid that the CRF works on
MARGIN = 0.5  # T of eq. (6)
THRESHOLD = 4.5399930e-05  # h = e^-10 of eq. (7)
COMPATIBILITY_DIAGONAL = 1.0  # R starts as this times the identity
SCORE_STD = 0.01  # gaussian filler of the score layers and of the filters
PIXEL_STD = 0.004  # of layers that see pixels, from scratch: MSRA's, over pixels of about +-70

# The 1x1 score layers of DeepLab-MSc-LargeFOV. The pairwise network concatenates their inputs in
# this order, in which tools/init_weights.py puts their weights side by side to start the filters.
SCORE_LAYERS = ("fc8", "data_ms", "pool1_ms", "pool2_ms", "pool3_ms", "pool4_ms")

# Block, convolutions in it, stride of its pooling layer and of the branch that leaves there.
VGG_BLOCKS = ((1, 2, 2, 4), (2, 2, 2, 2), (3, 3, 2, 1), (4, 3, 1, 1))

HEADER = "# Written by tools/make_nets.py: change that and run it, not this file.\n"


# ---- Settings: what differs between stages, sizes and data sets


@dataclass(frozen=True)
class Stage:
    """One solver. The rates are learning rates by group of parameters, as the paper states them.

    Groups: unary (CNN), score (its last layers), pairwise (CNN), filters (f_m), compatibility (R).
    After each of the iterations in steps, all rates are multiplied by gamma.
    """

    batch_size: int
    rates: dict
    max_iter: int
    steps: tuple = ()
    gamma: float = 1.0
    weight_decay: float = 5e-3
    weights: str = ""  # what training starts from, in the snapshot folder; "": from scratch
    solver: str = "SGD"  # of the paper

    @property
    def base_lr(self):
        """The rate of the CNN that this stage is about."""
        return self.rates["pairwise" if "pairwise" in self.rates else "unary"]

    def multipliers(self):
        """lr_mult of each group."""
        return {group: rate / self.base_lr for group, rate in self.rates.items()}


PAPER_STAGES = {
    # Not in the paper, which starts from DeepLab's published weights. Rates, batch and decay are
    # those of L.-C. Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and
    # Fully Connected CRFs", ICLR 2015.
    "unary": Stage(
        batch_size=20,
        rates={"unary": 1e-3, "score": 1e-2},
        max_iter=6000,
        steps=(2000, 4000),
        gamma=0.1,
        weight_decay=5e-4,
        weights="unary_init.caffemodel",
    ),
    # Section 5.1, "Pretraining".
    "pretrain_phase1": Stage(
        batch_size=15,
        rates={"pairwise": 1e-4, "filters": 1e-3},
        max_iter=8000,
        weights="gcrf_init.caffemodel",
    ),
    "pretrain_phase2": Stage(
        batch_size=15,
        rates={"pairwise": 1e-4, "filters": 1e-4},
        max_iter=5000,
        weights="pretrain_phase1_iter_8000.caffemodel",
    ),
    # Section 5.1, "Finetuning".
    "finetune": Stage(
        batch_size=5,
        rates={
            "unary": 1e-6,
            "score": 1e-6,
            "pairwise": 1e-2,
            "filters": 1e-2,
            "compatibility": 1e-2,
        },
        max_iter=6000 + 25000,
        steps=(6000,),
        gamma=0.01,
        weights="finetune_init.caffemodel",
    ),
}


@dataclass(frozen=True)
class Settings:
    """All that a net depends on; the defaults are the paper's."""

    output: Path = Path("prototxt")
    snapshots: Path = Path("snapshots")
    data: Path = Path("data/voc_lmdb")  # made by tools/prepare_lmdb.py
    train_split: str = "train_aug"
    test_split: str = "val"
    test_images: int = 1449  # in the test split
    num_classes: int = 21  # K, and M: the score layers start the filters
    window: int = 23  # in grid cells
    gmf_layers: int = 5
    crop_size: int = 321
    test_size: int = 505  # holds every VOC image
    iter_size: int = 1  # passes that a batch is split into, for memory
    interval: int = 1000  # iterations between tests, and between snapshots
    conv_widths: tuple = (64, 128, 256, 512, 512)
    fc_width: int = 1024
    branch_width: int = 128
    branch_std: float | None = 0.001  # gaussian filler of the branches, as published; None: MSRA
    dropout: float = 0.5
    stages: dict = field(default_factory=lambda: PAPER_STAGES)

    def __post_init__(self):
        for name in ("crop_size", "test_size"):
            size = getattr(self, name)
            if size % STRIDE != 1:
                raise ValueError(
                    f"{name} is {size}, expected {STRIDE}k + 1, such as "
                    f"{size // STRIDE * STRIDE + 1}: only then do the strided branches agree"
                )
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window is {self.window}, expected an odd number from 3 on")
        if len({self.stages[f"pretrain_phase{phase}"].batch_size for phase in (1, 2)}) > 1:
            raise ValueError("the phases of pretrain have one net, expected one batch_size")
        for name, stage in self.stages.items():
            if stage.batch_size % self.iter_size:
                raise ValueError(
                    f"iter_size {self.iter_size} does not divide the batch of {stage.batch_size} "
                    f"of stage {name}"
                )


PAPER = Settings()

# The same topology with thin layers, to learn data/shapes from scratch in minutes. For that, SGD is
# too slow, and the paper's unary CNN too fixed: see docs/experiments.md.
SMALL = Settings(
    data=Path("data/shapes_lmdb"),
    train_split="train",
    test_split="val",
    test_images=60,
    num_classes=7,
    crop_size=161,
    test_size=241,
    interval=100,
    conv_widths=(8, 16, 32, 48, 48),
    fc_width=64,
    branch_width=16,
    branch_std=None,
    dropout=0.0,
    stages={
        "unary": replace(
            PAPER_STAGES["unary"],
            batch_size=10,
            rates={"unary": 1e-3, "score": 1e-3},
            max_iter=700,
            steps=(560,),
            weights="",
            solver="Adam",
        ),
        "pretrain_phase1": replace(
            PAPER_STAGES["pretrain_phase1"],
            batch_size=5,
            rates={"pairwise": 1e-3, "filters": 1e-3},
            max_iter=400,
            solver="Adam",
        ),
        "pretrain_phase2": replace(
            PAPER_STAGES["pretrain_phase2"],
            batch_size=5,
            rates={"pairwise": 1e-3, "filters": 1e-4},
            max_iter=100,
            weights="pretrain_phase1_iter_400.caffemodel",
            solver="Adam",
        ),
        "finetune": replace(
            PAPER_STAGES["finetune"],
            rates={
                "unary": 3e-4,
                "score": 3e-4,
                "pairwise": 1e-3,
                "filters": 1e-3,
                "compatibility": 1e-3,
            },
            max_iter=400,
            steps=(320,),
            gamma=0.1,
            solver="Adam",
        ),
    },
)


# ---- Parts of the networks. `learn` holds the lr_mult of each group of parameters that learns; a
# deploy net passes NO_LEARNING, and its layers have neither learning rates nor fillers.

NO_LEARNING = {}


def convolution(bottom, num_output, kernel_size, *, lr_mult=None, std=None, bias=True, **geometry):
    """A convolution that learns at lr_mult, filled by a gaussian of std, or by MSRA for None."""
    if not bias:
        geometry["bias_term"] = False
    if lr_mult is not None:
        geometry["param"] = [dict(lr_mult=lr_mult, decay_mult=1)]
        geometry["weight_filler"] = dict(type="gaussian", std=std) if std else dict(type="msra")
        if bias:
            geometry["param"].append(dict(lr_mult=lr_mult, decay_mult=0))
            geometry["bias_filler"] = dict(type="constant")
    return L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, **geometry)


def trunk(n, prefix, s, learn):
    """DeepLab-MSc-LargeFOV without its score layers; returns the inputs of SCORE_LAYERS."""

    def convolve(name, bottom, num_output, kernel_size, *, std=None, dropout=0, **geometry):
        name = f"{prefix}/{name}"
        fill = dict(lr_mult=learn.get(prefix), std=std)
        n[name] = convolution(bottom, num_output, kernel_size, **fill, **geometry)
        n[f"{name}_relu"] = top = L.ReLU(n[name], in_place=True)
        if dropout:
            n[f"{name}_drop"] = top = L.Dropout(top, dropout_ratio=dropout, in_place=True)
        return top

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

    features = {"data_ms": branch("data", n.data, STRIDE)}
    top = n.data
    for block, layers, pool_stride, branch_stride in VGG_BLOCKS:
        for layer in range(1, layers + 1):
            std = PIXEL_STD if top is n.data else None
            top = convolve(f"conv{block}_{layer}", top, s.conv_widths[block - 1], 3, std=std, pad=1)
        top = pool(f"pool{block}", top, P.Pooling.MAX, pool_stride)
        features[f"pool{block}_ms"] = branch(f"pool{block}", top, branch_stride)
    for layer in (1, 2, 3):
        top = convolve(f"conv5_{layer}", top, s.conv_widths[4], 3, pad=2, dilation=2)
    top = pool("pool5", top, P.Pooling.MAX, stride=1)
    top = pool("pool5a", top, P.Pooling.AVE, stride=1)
    top = convolve("fc6", top, s.fc_width, 3, dropout=s.dropout, pad=12, dilation=12)
    features["fc8"] = convolve("fc7", top, s.fc_width, 1, dropout=s.dropout)
    return [features[name] for name in SCORE_LAYERS]


def unary(n, s, learn):
    """The unary network: class scores of each grid cell, before the softmax."""
    features = trunk(n, "unary", s, learn)
    for name, feature in zip(SCORE_LAYERS, features, strict=True):
        n[f"unary/{name}"] = convolution(
            feature, s.num_classes, 1, lr_mult=learn.get("score"), std=SCORE_STD
        )
    scores = [n[f"unary/{name}"] for name in SCORE_LAYERS]
    n["unary/fc_fusion"] = L.Eltwise(*scores, operation=P.Eltwise.SUM)
    return n["unary/fc_fusion"]


def pairwise(n, s, learn):
    """The pairwise network: the similarity s_ij of each pair of grid cells, eq. (5)."""
    n["pairwise/features"] = L.Concat(*trunk(n, "pairwise", s, learn))  # z
    n["pairwise/filters"] = convolution(  # f_m' z
        n["pairwise/features"],
        s.num_classes,
        1,
        lr_mult=learn.get("filters"),
        std=SCORE_STD,
        bias=False,
    )
    n.similarity = L.Similarity(n["pairwise/filters"], window=s.window)
    return n.similarity


def gaussian_crf(n, s, learn):
    """The whole network: scores at full resolution."""
    n["unary/softmax"] = mean = r = L.Softmax(unary(n, s, learn))  # mu^1 = r
    similarity = pairwise(n, s, learn)
    param = {"param": dict(lr_mult=learn["compatibility"], decay_mult=1)} if learn else {}
    n.compatibility = L.MatrixGen(  # C = R R', eq. (3)
        num_classes=s.num_classes, diagonal=COMPATIBILITY_DIAGONAL, **param
    )
    for layer in range(1, s.gmf_layers + 1):
        for half, update in (("even", L.GMFEven), ("odd", L.GMFOdd)):
            n[f"gmf{layer}/{half}"] = mean = update(
                mean, r, similarity, n.compatibility, gmf_param=dict(window=s.window)
            )
    n.scores = L.Interp(mean, zoom_factor=STRIDE)
    return n.scores


# ---- The networks


def with_variant(net, name, change):
    """Insert, after the layer called name, a copy of it that change(copy) was applied to.

    Caffe has layers of one name for different phases and stages; NetSpec does not.
    """
    layers = list(net.layer)
    index = [layer.name for layer in layers].index(name)
    variant = caffe_pb2.LayerParameter()
    variant.CopyFrom(layers[index])
    change(variant)
    layers.insert(index + 1, variant)
    return caffe_pb2.NetParameter(name=net.name, layer=layers)


def training_data(n, s, stage):
    """n.data and n.label: random crops of the training split."""
    n.data, n.label = L.SegData(
        ntop=2,
        include=dict(phase=caffe.TRAIN),
        image_source=f"{s.data}/{s.train_split}/images",
        label_source=f"{s.data}/{s.train_split}/labels",
        batch_size=stage.batch_size // s.iter_size,
        crop_size=s.crop_size,
        mirror=True,
        shuffle=True,
        mean_value=MEAN_BGR,
        ignore_label=IGNORE_LABEL,
        num_classes=s.num_classes,
    )


def training_net(n, name, s):
    """The finished training net, with whole images of the test split in the test phase."""

    def test_phase(layer):
        layer.include[0].phase = caffe.TEST
        data = layer.seg_data_param
        data.image_source = f"{s.data}/{s.test_split}/images"
        data.label_source = f"{s.data}/{s.test_split}/labels"
        data.batch_size = 1
        data.crop_size = s.test_size
        data.ClearField("mirror")
        data.ClearField("shuffle")

    net = n.to_proto()
    net.name = name
    return with_variant(net, "data", test_phase)


def unary_net(s):
    """Stage unary: softmax loss on the grid."""
    n, stage = caffe.NetSpec(), s.stages["unary"]
    training_data(n, s, stage)
    n.label_grid = L.Interp(n.label, shrink_factor=STRIDE)
    scores = unary(n, s, stage.multipliers())
    loss_param = dict(ignore_label=IGNORE_LABEL)
    n.loss = L.SoftmaxWithLoss(scores, n.label_grid, loss_param=loss_param)
    n.accuracy = accuracy(scores, n.label_grid)
    return training_net(n, "unary", s)


def pretrain_net(s):
    """Stage pretrain: similarity loss, eq. (7); only the rate of the filters differs by phase."""
    n, stage = caffe.NetSpec(), s.stages["pretrain_phase1"]
    training_data(n, s, stage)
    n.label_grid = L.Interp(n.label, shrink_factor=STRIDE)
    n.loss = L.SimilarityLoss(
        pairwise(n, s, stage.multipliers()),
        n.label_grid,
        window=s.window,
        threshold=THRESHOLD,
        loss_param=dict(ignore_label=IGNORE_LABEL),
    )
    net = training_net(n, "pretrain", s)

    def phase2(layer):
        layer.include.add(stage=["phase2"])
        layer.param[0].lr_mult = s.stages["pretrain_phase2"].multipliers()["filters"]

    net = with_variant(net, "pairwise/filters", phase2)
    next(layer for layer in net.layer if layer.name == "pairwise/filters").include.add(
        not_stage=["phase2"]
    )
    return net


def finetune_net(s):
    """Stage finetune: margin loss, eq. (6), at full resolution."""
    n, stage = caffe.NetSpec(), s.stages["finetune"]
    training_data(n, s, stage)
    scores = gaussian_crf(n, s, stage.multipliers())
    loss_param = dict(ignore_label=IGNORE_LABEL)
    n.loss = L.MarginLoss(scores, n.label, margin=MARGIN, loss_param=loss_param)
    n.accuracy = accuracy(scores, n.label)
    return training_net(n, "finetune", s)


def accuracy(scores, label):
    """Share of correct pixels, in the test phase."""
    return L.Accuracy(scores, label, ignore_label=IGNORE_LABEL, include=dict(phase=caffe.TEST))


def deploy_input(s):
    """A net with one image as input, which may be reshaped to any 8k + 1 by 8l + 1."""
    n = caffe.NetSpec()
    n.data = L.Input(input_param=dict(shape=dict(dim=[1, 3, s.test_size, s.test_size])))
    # Stops at any other size, by this name, before the branches of the trunk disagree.
    n["size_must_be_8k_plus_1"] = L.Interp(n.data, shrink_factor=STRIDE)
    n.silence = L.Silence(n["size_must_be_8k_plus_1"], ntop=0)
    return n


def inference_net(n, name):
    """The finished deploy net, whose layers share the memory of their results."""
    net = n.to_proto()
    net.name = name
    net.share_activations = True
    return net


def deploy_net(s):
    """The whole network from an image to scores at its resolution."""
    n = deploy_input(s)
    gaussian_crf(n, s, NO_LEARNING)
    return inference_net(n, "deploy")


def deploy_unary_net(s):
    """The unary network alone, from an image to class probabilities at its resolution."""
    n = deploy_input(s)
    n["unary/softmax"] = L.Softmax(unary(n, s, NO_LEARNING))
    n.scores = L.Interp(n["unary/softmax"], zoom_factor=STRIDE)
    return inference_net(n, "deploy_unary")


def solver(name, s):
    """The solver of one stage."""
    stage = s.stages[name]
    net = name.split("_")[0]
    message = caffe_pb2.SolverParameter(
        net=f"{s.output}/{net}.prototxt",
        type=stage.solver,
        base_lr=stage.base_lr,
        momentum=0.9,
        weight_decay=stage.weight_decay,
        iter_size=s.iter_size,
        max_iter=stage.max_iter,
        lr_policy="multistep" if stage.steps else "fixed",
        test_iter=[s.test_images],
        test_interval=s.interval,
        test_initialization=False,
        display=20,
        average_loss=20,
        snapshot=s.interval,
        snapshot_prefix=f"{s.snapshots}/{name}",
        random_seed=1,
    )
    if stage.steps:
        message.gamma = stage.gamma
        message.stepvalue.extend(stage.steps)
    if stage.weights:
        message.weights.append(f"{s.snapshots}/{stage.weights}")
    if name == "pretrain_phase2":
        message.train_state.stage.append("phase2")
    return message


# ---- Files


def messages(s):
    """Every file of a set of networks: its name, and its message."""
    result = {
        "unary.prototxt": unary_net(s),
        "pretrain.prototxt": pretrain_net(s),
        "finetune.prototxt": finetune_net(s),
        "deploy.prototxt": deploy_net(s),
        "deploy_unary.prototxt": deploy_unary_net(s),
    }
    for name in s.stages:
        result[f"{name}_solver.prototxt"] = solver(name, s)
    return result


def write(s):
    """Write the files of a set of networks."""
    for name, message in messages(s).items():
        with atomic.new_file(s.output / name) as partial:
            partial.write_text(HEADER + text_format.MessageToString(message))


def differences(s):
    """Return what differs between the files on disk and their definition, one line a file.

    Messages are compared, not text: protobuf versions print floats differently.
    """
    expected, found = messages(s), {path.name: path for path in s.output.glob("*.prototxt")}
    lines = [f"{s.output / name}: missing" for name in expected.keys() - found.keys()]
    lines += [f"{found[name]}: no longer made" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        try:
            message = text_format.Parse(found[name].read_text(), type(expected[name])())
        except text_format.ParseError as error:
            lines.append(f"{found[name]}: {error}")
            continue
        if message != expected[name]:
            lines.append(f"{found[name]}: differs from its definition")
    return sorted(lines)


def positive(text):
    """An integer from 1 on, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def add_arguments(group):
    """Add to an argparse group the options that `chosen` makes a set of networks of."""
    group.add_argument("--small", action="store_true", help="thin layers, as in the demo")
    for flag, type_, text in (
        ("--data", Path, "folder made by tools/prepare_lmdb.py"),
        ("--train-split", str, "name of the split to train on"),
        ("--test-split", str, "name of the split to test on"),
        ("--num-classes", positive, "with background"),
        ("--crop-size", positive, "training crop in pixels, 8k + 1"),
        ("--test-size", positive, "test and deploy size in pixels, 8k + 1; no image may be larger"),
        ("--window", positive, "of the pairs, in grid cells, odd"),
        ("--gmf-layers", positive, "pairs of an even and an odd update"),
        ("--batch-size", positive, "of every stage, instead of the paper's"),
        ("--iter-size", positive, "split each batch into this many passes, for memory"),
    ):
        group.add_argument(flag, type=type_, help=text)


def chosen(options):
    """Return the settings for a dict of options: those of `add_arguments`, or of Settings.

    An option that is None keeps its default. Raises ValueError for settings that do not fit.
    """
    changes = {name: value for name, value in options.items() if value is not None}
    base = SMALL if changes.pop("small", False) else PAPER
    if batch_size := changes.pop("batch_size", None):
        changes["stages"] = {
            name: replace(stage, batch_size=batch_size) for name, stage in base.stages.items()
        }
    return replace(base, **changes)
