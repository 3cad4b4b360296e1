"""The networks and solvers of the Gaussian CRF network: their one definition.

`write` makes a folder of prototxt files from Settings; tools/make_nets.py writes prototxt/ with it.

The stages, from sections 4 and 5.1 of R. Vemulapalli et al., "Gaussian Conditional Random Field
Network for Semantic Segmentation", CVPR 2016:
    unary     DeepLab-MSc-LargeFOV with a softmax loss, for users without its published weights
    pretrain  the pairwise CNN and its filters with the similarity loss, in two phases
    finetune  the whole network with the margin loss at full resolution
deploy and deploy_unary take an image and give scores at its own resolution.
Paths in the nets and solvers are relative to the folder that caffe runs in.
"""

import typing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType

import caffe
from caffe import layers as L  # noqa: N812  as in all of Caffe's examples
from caffe import params as P  # noqa: N812
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from gcrf import atomic, cli, efficientnet, vgg16
from gcrf.label_maps import IGNORE_LABEL
from gcrf.net_parts import NO_LEARNING, convolution
from python_layers.similarity_loss import THRESHOLD

MEAN_BGR = [104.008, 116.669, 122.675]  # of DeepLab's published training nets
STRIDE = 8  # image pixels per cell of the grid that the CRF works on
SCORE_STD = 0.01  # gaussian filler of the score layers and of the filters

TRUNKS = {"vgg16": vgg16.TRUNK} | {
    name: efficientnet.make_trunk(name) for name in efficientnet.VARIANTS
}

HEADER = "# Written by tools/make_nets.py: change that and run it, not this file.\n"


# ---- Settings: what differs between stages, sizes and data sets


GROUPS = ("unary", "score", "pairwise", "filters", "compatibility", "trunk")  # of learning rates


@dataclass(frozen=True)
class Stage:
    """One solver. Its rates are learning rates by group of parameters, as in the paper.

    Groups: unary (CNN), score (its last layers), pairwise (CNN), filters (f_m), compatibility (R),
    and trunk, if both branches share one. With steps, all rates are multiplied by gamma after each
    of these iterations; with power, they fall as (1 - iteration / max_iter) ** power.
    """

    batch_size: int
    rates: dict
    max_iter: int
    steps: tuple[int, ...] = ()
    gamma: float = 1.0
    power: float | None = None
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
    num_classes: int = 21  # K
    trunk: str = "vgg16"  # one of TRUNKS
    num_filters: int | None = None  # M; None: K, since the score layers start the filters
    margin: float = 0.5  # T of eq. (6)
    diagonal: float = 1.0  # R starts as this times the identity
    pretrain: bool = True  # finetuning starts from stage pretrain_phase2, not from the unary
    calibrate: bool = True  # the best scale of f_m and R are found before finetuning
    window: int = 23  # in grid cells
    gmf_layers: int = 5
    crop_size: int = 321
    scale: tuple[float, ...] = (1.0, 1.0)  # least and greatest random factor of training images
    test_size: int = 505  # every VOC image fits in
    iter_size: int = 1  # passes that a batch is split into, for memory
    interval: int = 1000  # iterations between tests, and between snapshots
    conv_widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    fc_width: int = 1024
    branch_width: int = 128
    branch_std: float | None = 0.001  # gaussian filler of the branches, as published; None: MSRA
    dropout: float = 0.5
    freeze: str | None = None  # the last part of the trunk that does not learn, such as conv2
    seed: int = 1  # of fillers, dropout, and the order and crops of the images
    stages: dict = field(default_factory=lambda: PAPER_STAGES)

    @property
    def trunk_parts(self):
        """The Trunk."""
        return TRUNKS[self.trunk]

    @property
    def frozen_parts(self):
        """The parts of the trunk that learn in no stage."""
        parts = self.trunk_parts.parts
        return parts[: parts.index(self.freeze) + 1] if self.freeze else ()

    def __post_init__(self):
        if self.trunk not in TRUNKS:
            raise ValueError(f"trunk is {self.trunk}, expected one of {', '.join(TRUNKS)}")
        if self.freeze and self.freeze not in self.trunk_parts.parts:
            parts = ", ".join(self.trunk_parts.parts)
            raise ValueError(f"freeze is {self.freeze}, expected one of {parts}")
        step = self.trunk_parts.size_step
        for name in ("crop_size", "test_size"):
            size = getattr(self, name)
            if size % step != 1:
                raise ValueError(
                    f"{name} is {size}, expected {step}k + 1, such as "
                    f"{size // step * step + 1}: only then do the branches of {self.trunk} agree"
                )
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window is {self.window}, expected an odd number of at least 3")
        if len(self.scale) != 2:
            raise ValueError(f"scale is {self.scale}, expected two factors, such as 0.5,2")
        if len({self.stages[f"pretrain_phase{phase}"].batch_size for phase in (1, 2)}) > 1:
            raise ValueError("both phases of pretrain use one net, expected the same batch_size")
        for name, stage in self.stages.items():
            if stage.batch_size % self.iter_size:
                raise ValueError(
                    f"iter_size {self.iter_size} does not divide the batch of {stage.batch_size} "
                    f"of stage {name}"
                )


PAPER = Settings()


def _pretraining(iterations, pairwise, filters, **changes):
    """The two phases of pretrain by Adam; iterations, filters: the length and a rate of each."""
    names = ("pretrain_phase1", "pretrain_phase2")
    stages = {
        name: replace(
            PAPER_STAGES[name],
            rates={"pairwise": pairwise, "filters": rate},
            max_iter=length,
            solver="Adam",
            **changes,
        )
        for name, length, rate in zip(names, iterations, filters, strict=True)
    }
    start = f"{names[0]}_iter_{iterations[0]}.caffemodel"
    return stages | {names[1]: replace(stages[names[1]], weights=start)}


def _finetuning(unary, pairwise, **changes):
    """Stage finetune by Adam, at one rate for the unary branch, and one for all the rest."""
    rates = dict.fromkeys(("unary", "score"), unary)
    rates |= dict.fromkeys(("pairwise", "filters", "compatibility"), pairwise)
    return replace(PAPER_STAGES["finetune"], rates=rates, gamma=0.1, solver="Adam", **changes)


# The same topology with thin layers, to learn data/shapes from scratch in minutes. For that, SGD is
# too slow, and so is the paper's unary CNN in finetuning: see docs/experiments.md.
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
        **_pretraining((400, 100), pairwise=1e-3, filters=(1e-3, 1e-4), batch_size=5),
        "finetune": _finetuning(unary=3e-4, pairwise=1e-3, max_iter=400, steps=(320,)),
    },
)


# A frozen trunk with ImageNet weights, on which all stages train within an hour on two cores. Rates
# and iterations were chosen on VOC photographs: docs/voc.md.
LITE = Settings(
    trunk="efficientnet_lite2",
    pretrain=False,
    test_size=513,
    interval=500,
    fc_width=256,
    branch_width=64,
    branch_std=None,
    stages={
        "unary": Stage(
            batch_size=8,
            rates={"unary": 1e-3, "score": 1e-3},
            max_iter=3000,
            power=0.9,
            weight_decay=1e-4,
            weights="unary_init.caffemodel",
            solver="Adam",
        ),
        **_pretraining(
            (300, 200), pairwise=1e-4, filters=(1e-3, 1e-4), batch_size=8, weight_decay=0.0
        ),
        "finetune": _finetuning(
            unary=2.1e-4,
            pairwise=7e-4,
            batch_size=8,
            max_iter=2200,
            steps=(1650,),
            weight_decay=0.0,
        ),
    },
)


# ---- Parts of the networks. `learn` holds the lr_mult of each group of parameters that learns; a
# deploy net passes NO_LEARNING.


def unary(n, s, learn):
    """The unary network: class scores of each grid cell, before the softmax."""
    features, names = s.trunk_parts.features(n, "unary", s, learn), s.trunk_parts.score_layers
    for name, feature in zip(names, features, strict=True):
        n[f"unary/{name}"] = convolution(
            feature, s.num_classes, 1, lr_mult=learn.get("score"), std=SCORE_STD
        )
    scores = [n[f"unary/{name}"] for name in names]
    n["unary/fc_fusion"] = L.Eltwise(*scores, operation=P.Eltwise.SUM)
    return n["unary/fc_fusion"]


def pairwise(n, s, learn):
    """The pairwise network: the similarity s_ij of each pair of grid cells, eq. (5)."""
    features = s.trunk_parts.features(n, "pairwise", s, learn)
    features += s.trunk_parts.fine_features(n, "pairwise", s, learn)
    n["pairwise/features"] = L.Concat(*features)  # z
    n["pairwise/filters"] = convolution(  # f_m' z
        n["pairwise/features"],
        s.num_filters or s.num_classes,
        1,
        lr_mult=learn.get("filters"),
        std=SCORE_STD,
        bias=False,
    )
    n.similarity = L.Similarity(n["pairwise/filters"], window=s.window)
    return n.similarity


def gaussian_crf(n, s, learn):
    """The whole network: scores at full resolution."""
    n["unary/softmax"] = L.Softmax(unary(n, s, learn))
    pairwise(n, s, learn)
    param = {"param": dict(lr_mult=learn["compatibility"], decay_mult=1)} if learn else {}
    n.compatibility = L.MatrixGen(  # C = R R', eq. (3)
        num_classes=s.num_classes, diagonal=s.diagonal, **param
    )
    n.scores = L.Interp(mean_field(n, s), zoom_factor=STRIDE)
    return n.scores


def mean_field(n, s):
    """The GMF layers, between n.similarity, n.compatibility and the result: means on the grid."""
    mean = r = n["unary/softmax"]  # mu^1 = r
    for layer in range(1, s.gmf_layers + 1):
        for half, update in (("even", L.GMFEven), ("odd", L.GMFOdd)):
            n[f"gmf{layer}/{half}"] = mean = update(
                mean, r, n.similarity, n.compatibility, gmf_param=dict(window=s.window)
            )
    return mean


# ---- The networks


def with_variant(net, name, change):
    """Insert, after the layer called name, a copy of it that change(copy) was applied to.

    Caffe allows layers with the same name in different phases and stages; NetSpec does not.
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
    scale = {} if s.scale == (1, 1) else dict(scale_min=s.scale[0], scale_max=s.scale[1])
    n.data, n.label = L.SegData(
        ntop=2,
        include=dict(phase=caffe.TRAIN),
        image_source=f"{s.data}/{s.train_split}/images",
        label_source=f"{s.data}/{s.train_split}/labels",
        batch_size=stage.batch_size // s.iter_size,
        crop_size=s.crop_size,
        mirror=True,
        shuffle=True,
        **scale,
        mean_value=MEAN_BGR,
        ignore_label=IGNORE_LABEL,
        num_classes=s.num_classes,
        seed=s.seed,
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
        for field_name in ("mirror", "shuffle", "scale_min", "scale_max"):
            data.ClearField(field_name)

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
    """Stage pretrain: similarity loss, eq. (7). Only the rate of the filters differs by phase."""
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
    n.loss = L.MarginLoss(scores, n.label, margin=s.margin, loss_param=loss_param)
    n.accuracy = accuracy(scores, n.label)
    return training_net(n, "finetune", s)


def accuracy(scores, label):
    """The share of correct pixels, in the test phase."""
    return L.Accuracy(scores, label, ignore_label=IGNORE_LABEL, include=dict(phase=caffe.TEST))


def deploy_input(s):
    """A net with one image as input, which may be reshaped to any size that the trunk accepts."""
    n = caffe.NetSpec()
    n.data = L.Input(input_param=dict(shape=dict(dim=[1, 3, s.test_size, s.test_size])))
    # Stops at any other size, with this name, before the branches of the trunk disagree.
    step = s.trunk_parts.size_step
    n[f"size_must_be_{step}k_plus_1"] = check = L.Interp(n.data, shrink_factor=step)
    n.silence = L.Silence(check, ntop=0)
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


def crf_net(s):
    """The CRF alone, on the grid: its inputs are r, f_m' z, C and labels, of any size."""
    n, shapes = (
        caffe.NetSpec(),
        {
            "unary/softmax": [1, s.num_classes, 2, 2],
            "pairwise/filters": [1, s.num_filters or s.num_classes, 2, 2],
            "compatibility": [s.num_classes, s.num_classes],
            "label": [1, 1, 2, 2],
        },
    )
    for name, shape in shapes.items():
        n[name] = L.Input(input_param=dict(shape=dict(dim=shape)))
    n.similarity = L.Similarity(n["pairwise/filters"], window=s.window)
    n.scores = mean_field(n, s)
    loss_param = dict(ignore_label=IGNORE_LABEL)
    n.loss = L.MarginLoss(n.scores, n.label, margin=s.margin, loss_param=loss_param)
    return n.to_proto()


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
        test_iter=[s.test_images],
        test_interval=s.interval,
        test_initialization=False,
        display=20,
        average_loss=20,
        snapshot=s.interval,
        snapshot_prefix=f"{s.snapshots}/{name}",
        random_seed=s.seed,
        lr_policy="fixed",
    )
    if stage.power is not None:
        message.lr_policy = "poly"
        message.power = stage.power
    elif stage.steps:
        message.lr_policy = "multistep"
        message.gamma = stage.gamma
        message.stepvalue.extend(stage.steps)
    if stage.weights:
        message.weights.append(f"{s.snapshots}/{stage.weights}")
    if name == "pretrain_phase2":
        message.train_state.stage.append("phase2")
    return message


# ---- Files


def messages(s):
    """The files of a set of networks: {name: message}."""
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
    """Return what differs between the files on disk and their definition, one line per file.

    Messages are compared, not text: protobuf versions print floats differently.
    """
    expected, found = messages(s), {path.name: path for path in s.output.glob("*.prototxt")}
    lines = [f"{s.output / name}: missing" for name in expected.keys() - found.keys()]
    lines += [f"{found[name]}: no longer written" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        try:
            message = text_format.Parse(found[name].read_text(), type(expected[name])())
        except text_format.ParseError as error:
            lines.append(f"{found[name]}: {error}")
            continue
        if message != expected[name]:
            lines.append(f"{found[name]}: differs from its definition")
    return sorted(lines)


def add_arguments(group):
    """Add the options from which `chosen` makes a set of networks to an argparse group."""
    base = group.add_mutually_exclusive_group()
    base.add_argument(
        "--trunk",
        choices=TRUNKS,
        help=f"default: {PAPER.trunk}, the paper's; the others have their own schedule",
    )
    base.add_argument("--small", action="store_true", help="thin layers, as in the demo")
    for flag, type_, text in (
        ("--data", Path, "folder made by tools/prepare_lmdb.py"),
        ("--train-split", str, "name of the split to train on"),
        ("--test-split", str, "name of the split to test on"),
        ("--num-classes", cli.positive, "including background"),
        ("--crop-size", cli.positive, "training crop in pixels, 8k + 1 (EfficientNet: 16k + 1)"),
        (
            "--test-size",
            cli.positive,
            "test and deploy size in pixels, of the crop's form; no image may be larger",
        ),
        ("--window", cli.positive, "neighbourhood of the pairs, in grid cells, odd"),
        ("--gmf-layers", cli.positive, "number of layers: an even and an odd update each"),
        ("--batch-size", cli.positive, "for every stage, instead of the paper's"),
        ("--iter-size", cli.positive, "split each batch into this many passes, for memory"),
        ("--freeze", str, "last part of the trunk that does not learn: conv2, or block14"),
        ("--seed", cli.positive, "for fillers, dropout, and the order and crops of the images"),
    ):
        group.add_argument(flag, type=type_, help=text)
    group.add_argument(
        "--as-published",
        action="store_true",
        help="the paper's recipe: pretrain, and finetune from R = I and the filters as they are",
    )
    group.add_argument(
        "--set",
        action="append",
        metavar="[STAGE.]FIELD=VALUE",
        help="change any other setting, such as finetune.max_iter=2000, finetune.rates.unary=1e-4, "
        "unary.base_lr=5e-4 (all rates of a stage in proportion) or margin=1; may be repeated",
    )


def chosen(options):
    """Return the settings for a dict of options: those of `add_arguments`, or of Settings.

    An option that is None keeps its default. Raises ValueError for settings that do not fit.
    """
    changes = {name: value for name, value in options.items() if value is not None}
    base = SMALL if changes.pop("small", False) else PAPER
    if changes.get("trunk", PAPER.trunk) != PAPER.trunk:
        base = LITE
    if changes.pop("as_published", False):
        base = replace(base, pretrain=True, calibrate=False)
    assignments = changes.pop("set", ())
    if batch_size := changes.pop("batch_size", None):
        changes["stages"] = {
            name: replace(stage, batch_size=batch_size) for name, stage in base.stages.items()
        }
    return assign(replace(base, **changes), assignments)


def assign(settings, assignments):
    """Return settings changed by texts [STAGE.]FIELD=VALUE, or STAGE.rates.GROUP=VALUE.

    Raises ValueError for an unknown name, and for a value of another type.
    """
    stages, changes = dict(settings.stages), {}
    for text in assignments:
        name, equals, value = text.partition("=")
        *path, field_name = name.split(".")
        try:
            if not equals:
                raise ValueError("expected [STAGE.]FIELD=VALUE")
            if not path:
                changes[field_name] = _parse(Settings, field_name, value)
                continue
            stage = stages[_known(path[0], stages)]
            if path[1:] == ["rates"]:
                rates = stage.rates | {_known(field_name, GROUPS): float(value)}
            elif path[1:]:
                raise ValueError("expected STAGE.FIELD or STAGE.rates.GROUP")
            elif field_name == "base_lr":
                factor = float(value) / stage.base_lr
                rates = {group: rate * factor for group, rate in stage.rates.items()}
            else:
                stages[path[0]] = replace(stage, **{field_name: _parse(Stage, field_name, value)})
                continue
            stages[path[0]] = replace(stage, rates=rates)
        except ValueError as error:
            raise ValueError(f"--set {text}: {error}") from error
    return replace(settings, stages=stages, **changes)


def by_name(settings):
    """Return {name as --set takes it: value} of all settings."""
    found = {f.name: getattr(settings, f.name) for f in fields(settings)}
    for stage_name, stage in found.pop("stages").items():
        of_stage = {f.name: getattr(stage, f.name) for f in fields(stage)}
        rates = of_stage.pop("rates")
        of_stage |= {f"rates.{group}": rate for group, rate in rates.items()}
        found |= {f"{stage_name}.{name}": value for name, value in of_stage.items()}
    return found


def _parse(kind, name, text):
    """Return text as the value of a field of the dataclass `kind`."""
    types = {f.name: f.type for f in fields(kind) if f.type not in (dict, Path)}
    expected = types[_known(name, types)]
    if expected is bool:
        return _known(text, {"true": True, "false": False}) == "true"
    options = typing.get_args(expected) or (expected,)  # of int | None: int and NoneType
    if typing.get_origin(expected) is tuple:
        return tuple(options[0](part) for part in text.split(",") if part)
    if NoneType in options and text == "none":
        return None
    return options[0](text)


def _known(name, names):
    if name not in names:
        raise ValueError(f"no {name}, expected one of {', '.join(names)}")
    return name
