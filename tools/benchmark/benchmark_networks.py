#!/usr/bin/env python3
"""Compare the project's speed and memory on the CPU with PyTorch's, and with the dense CRF.

Example: taskset -c 0,2 tools/benchmark/benchmark_networks.py
Example: tools/benchmark/benchmark_networks.py --small --repeats 2 --docs /tmp/try
(--small: thin nets, in half a minute)

Takes about eight minutes on a quiet machine, and longer the first time, to compile. Every contender
computes the same thing from the same weights and inputs in its own process. The results are
compared first, and the benchmark stops if they differ. Then the contenders take turns, one pass
each, so that slow moments of the machine hit all of them equally.
Writes the tables into DOCS/performance.md, between its two "benchmark" comments, and the picture
DOCS/roofline.png. The tables also go to standard output.
PyTorch: build/venv/bin/pip install --no-deps -r requirements-benchmark.txt
Exit codes: 0 done, 1 a contender failed or disagrees, 2 bad usage.
"""

import copy
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # errors only, not every layer

import caffe
import cv2
import numpy as np
from benchmark_photos import make_noise, make_photo
from benchmark_worker import Worker, WorkerError
from caffe import layers as L  # noqa: N812  as in all of Caffe's examples
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from matplotlib.figure import Figure
from tqdm import tqdm

from gcrf import atomic, cli, markdown, nets, origin
from gcrf.caffemodel import write_caffemodel

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "build/venv/bin/pip install --no-deps -r requirements-benchmark.txt"
FLOAT = 4  # bytes
CHECKED_STEP = "step_check"  # without dropout, whose random numbers differ

# Greatest difference of two contenders, relative to the greatest value. Gradients may differ more:
# a rounding error may change which pixel is the largest of a pool, and so move a whole gradient.
TOLERANCE = {"trunk": 1e-4, "deploy": 1e-4, CHECKED_STEP: 2e-2, "crf": 1e-4}


@dataclass(frozen=True)
class Contender:
    """A way to compute a task: what the tables call it, its module, and the Runner's setting."""

    name: str
    module: str
    setting: str


PYTORCH = [
    Contender(f"PyTorch {setting}", "benchmark_torch", setting)
    for setting in ("NCHW", "channels-last", "compiled")
]
DENSE_CRF = [
    Contender(f"dense CRF, {count} iterations", "benchmark_densecrf", str(count))
    for count in (5, 10)
]
TITLES = {
    "trunk": "Trunk, forward: `deploy_unary.prototxt`, {size} x {size}",
    "deploy": "The whole network, forward: `deploy.prototxt`, {size} x {size}",
    "step": "A finetune step, forward, backward and update: `finetune.prototxt`, {crop} x {crop}, "
    "batch 1",
    "crf": "The CRF alone: similarities, five GMF layers and upsampling, {classes} classes, "
    "500 x 375 pixels",
}


# ---- What is computed


def engines():
    """Return the engines of this build, its default first."""
    # Only the build knows its default: libraries that it does not use are not loaded.
    found = "libdnnl" in Path("/proc/self/maps").read_text()
    return ["DNNL", "CAFFE"] if found else ["CAFFE"]


def with_engine(net, engine):
    """Return the net with this engine in every layer that has a choice; DNNL is the default."""
    net = copy.deepcopy(net)
    for layer in net.layer if engine == "CAFFE" else ():
        for field in layer.DESCRIPTOR.fields:
            if field.name.replace("_", "") == f"{layer.type.lower()}param" and (
                "engine" in field.message_type.fields_by_name
            ):
                parameters = getattr(layer, field.name)
                parameters.engine = parameters.CAFFE
    return net


def training_net(settings, crop_size):
    """Return the finetune net in its training phase, with one image and its labels as input."""
    net = nets.finetune_net(settings)
    layers = [layer for layer in net.layer if not layer.include and layer.type != "Accuracy"]
    inputs = caffe.NetSpec()
    inputs.data = L.Input(shape=dict(dim=[1, 3, crop_size, crop_size]))
    inputs.label = L.Input(shape=dict(dim=[1, 1, crop_size, crop_size]))
    return caffe_pb2.NetParameter(layer=[*inputs.to_proto().layer, *layers])


def crf_net(settings):
    """Return the layers behind the CNNs, on the grid of a 500 x 375 image."""
    n, shape = caffe.NetSpec(), [1, settings.num_classes, 48, 64]
    n.r = L.Input(shape=dict(dim=shape))
    n.p = L.Input(shape=dict(dim=shape))
    n.similarity = L.Similarity(n.p, window=settings.window)
    n.compatibility = L.MatrixGen(num_classes=settings.num_classes)
    mean = n.r
    for index in range(settings.gmf_layers):
        for update in (L.GMFEven, L.GMFOdd):
            mean = update(
                mean, n.r, n.similarity, n.compatibility, gmf_param=dict(window=settings.window)
            )
            n[f"gmf{index}{mean.fn.type_name}"] = mean
    n.scores = L.Interp(mean, zoom_factor=nets.STRIDE)
    return n.to_proto()


def benchmark_nets(settings):
    """Return {task: net} for everything that is timed, and for the step that is compared."""
    without_dropout = replace(settings, dropout=0.0)
    return {
        "trunk": nets.deploy_unary_net(settings),
        "deploy": nets.deploy_net(settings),
        "step": training_net(settings, settings.crop_size),
        CHECKED_STEP: training_net(without_dropout, 161),  # smaller, to be done faster
        "crf": crf_net(settings),
    }


def random_weights(net, random):
    """Return {layer: [array, ...]} for a net: activations of a similar size in all layers."""
    weights = {}
    for name, blobs in net.params.items():
        shape = blobs[0].data.shape
        if name == "compatibility":
            weights[name] = [np.tril(np.eye(*shape) + 0.1 * random.normal(size=shape))]
            continue
        scale = (2 / np.prod(shape[1:])) ** 0.5
        if shape[2:] == (1, 1) and not name.endswith(("_fc", "fc7")):
            scale *= 0.01  # scores and filters: r and s are not just 0 or 1
        weights[name] = [scale * random.normal(size=blob.data.shape) for blob in blobs]
    return {
        name: [array.astype(np.float32) for array in arrays] for name, arrays in weights.items()
    }


def random_inputs(net, random):
    """Return {blob: array} for a net's inputs."""
    arrays = {}
    for layer in net.layer:
        if layer.type != "Input":
            continue
        shape = tuple(layer.input_param.shape[0].dim)
        values = random.normal(size=shape)
        if layer.name == "label":
            values = random.integers(0, 7, shape)
            values[:, :, ::9] = nets.IGNORE_LABEL
        elif layer.name == "data":
            values = values * 50
        else:
            values = np.stack([make_grid(random, *shape[2:]) for _ in range(shape[1])])[None]
            if layer.name == "r":
                values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
            else:
                values = values * 0.3
        arrays[layer.name] = values.astype(np.float32)
    return arrays


def make_grid(random, height, width):
    """Return smooth noise (height, width)."""
    return cv2.resize(make_noise(random, 16), (width, height))


def prepare(folder, settings):
    """Write nets, weights and inputs for the workers; return the costs of the trunk's layers."""
    random = np.random.default_rng(0)
    for task, net in benchmark_nets(settings).items():
        for engine in engines():
            path = folder / f"{task}_{engine}.prototxt"
            path.write_text(text_format.MessageToString(with_engine(net, engine)))
            if task.startswith("step"):
                solver = caffe_pb2.SolverParameter(
                    net=str(path),
                    type="SGD",
                    base_lr=1e-7,  # the weights hardly move, so all passes cost the same
                    lr_policy="fixed",
                    momentum=0.9,
                    weight_decay=settings.stages["finetune"].weight_decay,
                )
                solver_path = folder / f"{path.stem}_solver.prototxt"
                solver_path.write_text(text_format.MessageToString(solver))
        arrays = random_inputs(net, random)
        if task == "crf":
            arrays["image"] = cv2.imdecode(np.frombuffer(make_photo(random), np.uint8), 1)
        np.savez(folder / f"{task}.npz", **arrays)
    weights = random_weights(caffe.Net(str(folder / "deploy_CAFFE.prototxt"), caffe.TEST), random)
    write_caffemodel(folder / "weights.caffemodel", weights)
    named = {
        f"{layer}:{i}": array for layer, arrays in weights.items() for i, array in enumerate(arrays)
    }
    np.savez(folder / "weights.npz", **named)
    return costs(caffe.Net(str(folder / "trunk_CAFFE.prototxt"), caffe.TEST))


@dataclass(frozen=True)
class Cost:
    """The minimal cost of a layer's forward pass: arithmetic, and floats read and written once."""

    name: str
    type: str
    flops: int
    bytes: int

    @property
    def intensity(self):
        return self.flops / self.bytes


def costs(net):
    """Return the Cost of every layer of a net; only that of convolutions has any arithmetic."""
    result = []
    for name, layer in zip(net._layer_names, net.layers, strict=True):
        bottoms = [net.blobs[blob].count for blob in net.bottom_names[name]]
        tops = [net.blobs[blob].count for blob in net.top_names[name]]
        weights = [blob.count for blob in layer.blobs]
        flops = 0
        if layer.type == "Convolution":  # weights: output channels x what each output sums up
            flops = 2 * tops[0] * weights[0] // layer.blobs[0].num
        result.append(Cost(name, layer.type, flops, FLOAT * sum(bottoms + tops + weights)))
    return result


# ---- Measurement


def disagreement(results):
    """Return the greatest difference from the first of results, relative to its greatest value.

    results: [{name: array}, ...]; each array has its own greatest value. NaN counts as infinite.
    """
    worst = 0.0
    for name, expected in results[0].items():
        scale = np.abs(expected).max()
        for result in results[1:]:
            difference = np.abs(result[name] - expected).max() / scale
            worst = max(worst, float(difference) if np.isfinite(difference) else np.inf)
    return worst


@dataclass(frozen=True)
class Measurement:
    """A contender's result in a task: its times in milliseconds, by round, and MB of memory."""

    contender: Contender
    times: list
    memory: float
    libraries: float  # of memory, before the net was loaded


def measure(folder, task, contenders, repeats, bar):
    """Return a Measurement of each contender, except those that cannot compile, and disagreement.

    Raises WorkerError if a contender fails, or if the results are not the same.
    """
    workers, results = [], []
    try:
        for contender in contenders:
            bar.set_description(f"{task}: {contender.name}, first pass")
            worker = Worker(contender.module, str(folder), task, contender.setting)
            workers.append(worker)
            worker.call("run")
            if task in TOLERANCE and contender not in DENSE_CRF:
                results.append(worker.call("result"))
            bar.update()
        difference = disagreement(results) if results else None
        if difference is not None and not difference <= TOLERANCE[task]:
            raise WorkerError(
                f"{task}: the results differ by {difference:.1e} of the greatest value, expected "
                f"at most {TOLERANCE[task]:.0e}"
            )
        times = {contender: [] for contender in contenders}
        pairs = list(zip(contenders, workers, strict=True))
        for repeat in range(repeats):
            shift = repeat % len(pairs)  # so that none always runs after the same one
            for contender, worker in pairs[shift:] + pairs[:shift]:
                bar.set_description(f"{task}: {contender.name}")
                times[contender].append(worker.call("run"))
                bar.update()
        memories = [worker.call("memory") for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    found = [Measurement(c, times[c], *m) for c, m in zip(contenders, memories, strict=True)]
    return found, difference


def measure_layers(folder, repeats, bar):
    """Return the machine's best speeds, and {engine: [milliseconds of each layer of the trunk]}."""
    times, workers = {}, {}
    try:
        for engine in engines():
            workers[engine] = Worker("benchmark_caffe", str(folder), "trunk", engine)
            workers[engine].call("run")
        speeds = [workers["CAFFE"].call("machine_speed")]
        for engine, worker in workers.items():
            bar.set_description(f"layers: engine {engine}")
            times[engine] = worker.call("layer_times", repeats)
            speeds.append(workers["CAFFE"].call("machine_speed"))
            bar.update()
    finally:
        for worker in workers.values():
            worker.close()
    return np.max(speeds, axis=0), times


def physical_cores(topology=Path("/sys/devices/system/cpu")):
    """Return on how many cores this process may run; two threads of a core count once."""
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        path = topology / f"cpu{cpu}/topology/thread_siblings_list"
        siblings.add(path.read_text() if path.exists() else str(cpu))
    return len(siblings)


# ---- Report


def ratios(times, reference):
    """Return the quotients of two contenders' times, round by round, sorted."""
    return sorted(np.divide(times, reference).tolist())


def rival(measurements):
    """Return the Measurement that the others are compared with.

    This is the first dense CRF; if there is none, the PyTorch with the lowest median; without
    PyTorch, the last one.
    """
    dense_crf = [m for m in measurements if m.contender in DENSE_CRF]
    pytorch = [m for m in measurements if m.contender in PYTORCH]
    fastest = sorted(pytorch, key=lambda m: np.median(m.times))
    return [*dense_crf[:1], *fastest, measurements[-1]][0]


def table(measurements):
    """Return the lines of a Markdown table: times, their ratio to the rival's, and memory."""
    reference = rival(measurements)
    lines = [
        f"| | least, ms | median | greatest | time / {reference.contender.name} (least to "
        "greatest) | peak memory, MB (libraries alone) |",
        "|---|---|---|---|---|---|",
    ]
    for m in measurements:
        low, middle, high = min(m.times), np.median(m.times), max(m.times)
        digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
        times = " | ".join(f"{value:.{digits}f}" for value in (low, middle, high))
        quotients = ratios(m.times, reference.times)
        ratio = f"{np.median(quotients):.2f} ({quotients[0]:.2f} to {quotients[-1]:.2f})"
        memory = f"{m.memory:.0f} ({m.libraries:.0f})"
        lines.append(f"| {m.contender.name} | {times} | {ratio} | {memory} |")
    return lines


def report(settings, args, found, layers, trunk_costs):
    """Return the Markdown text of a whole run.

    found: {task: (measurements, disagreement)}; layers: as of measure_layers.
    """
    (flops, memory), times = layers
    packages = ["pydensecrf2"] if args.no_pytorch else ["torch", "pydensecrf2"]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    lines = [
        f"`{args.command}` on {args.threads} threads, {origin.processor()}, {', '.join(versions)}, "
        f"GOMP_SPINCOUNT={os.environ['GOMP_SPINCOUNT']}: "
        f"{args.repeats} rounds, in which each contender ran one pass in turn. A large matrix "
        f"product reached {flops / 1e6:.0f} GFLOP/s, a large copy {memory / 1e6:.1f} GB/s.",
        "",
    ]
    sizes = {
        "size": settings.test_size,
        "crop": settings.crop_size,
        "classes": settings.num_classes,
    }
    for task, title in TITLES.items():
        measurements, difference = found[task]
        what = "updates" if task == "step" else "scores"
        agreement = (
            f"Greatest difference of {what}, relative: {difference:.1e}." if difference else ""
        )
        lines += [f"**{title.format(**sizes)}.** {agreement}", "", *table(measurements), ""]
    gigaflops = sum(cost.flops for cost in trunk_costs) / 1e9
    lines += [
        "Peak memory is that of the whole process (VmHWM); a compiled network's includes the "
        "compiler. The updates are compared without dropout, at 161 x 161.",
        "",
        "![The trunk's layers under the roofline](roofline.png)",
        "",
        f"The trunk's convolutions, {gigaflops:.1f} GFLOP in a direct computation; a Winograd "
        "convolution needs fewer, so its dots can lie above the roof. The share of other layers, "
        "which have hardly any arithmetic: "
        + ", ".join(
            f"{other_share(trunk_costs, each):.0%} with engine {engine}"
            for engine, each in times.items()
        )
        + ".",
    ]
    return "\n".join(lines)


def other_share(trunk_costs, times):
    """Return the share of the time that layers other than convolutions take."""
    other = sum(t for cost, t in zip(trunk_costs, times, strict=True) if not cost.flops)
    return other / sum(times)


def labels(convolutions, shares):
    """Return [(text, indices), ...] for the picture: one for all convolutions of a shape.

    Shapes with less than 4 % of the time get no label.
    """
    groups = {}
    for index, cost in enumerate(convolutions):
        groups.setdefault((cost.flops, cost.bytes), []).append(index)
    return [
        (" to ".join(dict.fromkeys(names(convolutions, (members[0], members[-1])))), members)
        for members in groups.values()
        if sum(shares[index] for index in members) >= 0.04
    ]


def names(layers, indices):
    """Return the names of layers without that of their branch."""
    return [layers[index].name.rpartition("/")[2] for index in indices]


def draw_roofline(path, trunk_costs, layers):
    """Draw the convolutions' speed over their arithmetic intensity, under the machine's limits."""
    (flops, memory), times = layers
    peak, bandwidth = flops / 1e6, memory / 1e6  # GFLOP/s, GB/s
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    shown = [i for i, cost in enumerate(trunk_costs) if cost.flops]
    x = np.array([trunk_costs[i].intensity for i in shown])
    limits = np.array([min(x.min() / 1.5, 0.5 * peak / bandwidth), 1.5 * x.max()])
    roof = np.array([limits[0], peak / bandwidth, limits[1]])
    axes.plot(roof, np.minimum(peak, bandwidth * roof), color="0.3", zorder=1)
    axes.annotate(f"matrix product: {peak:.0f} GFLOP/s", (roof[1], peak), (0, 5),
                  textcoords="offset points", color="0.3")  # fmt: skip
    axes.annotate(f"copy: {bandwidth:.0f} GB/s", (limits[0], bandwidth * limits[0]), (12, 0),
                  textcoords="offset points", va="center", color="0.3")  # fmt: skip
    styles = {"DNNL": ("C0", "o"), "CAFFE": ("C1", "s")}
    for engine, each in times.items():
        colour, marker = styles[engine]
        y = np.array([trunk_costs[i].flops / each[i] / 1e6 for i in shown])
        share = np.array([each[i] for i in shown]) / sum(each)
        label = f"engine {engine}: {sum(each):.0f} ms"
        axes.scatter(x, y, 20 + 1500 * share, colour, marker=marker, alpha=0.6, lw=0, label=label)
        if engine == next(iter(times)):
            for text, members in labels([trunk_costs[i] for i in shown], share):
                place = x[members[0]], np.exp(np.log(y[members]).mean())
                axes.annotate(text, place, (-3, 4), textcoords="offset points", size=8,
                              ha="right", va="bottom", rotation=-35)  # fmt: skip
    axes.set(xlabel="arithmetic intensity, FLOP per byte", ylabel="GFLOP/s", xlim=limits)
    axes.set_ylim(top=1.8 * axes.get_ylim()[1])  # for the labels
    axes.legend(loc="lower right", title="each dot a convolution, its area the share of the time")
    axes.grid(alpha=0.3)
    with atomic.new_file(path) as partial:
        figure.savefig(partial, dpi=120, metadata={"Software": None})


# ---- The command


def run(args):
    """Measure and write as the arguments say; raise WorkerError, OSError or ValueError."""
    if not args.no_pytorch and not importlib.util.find_spec("torch"):
        raise ValueError(f"PyTorch is missing: {INSTALL}\nor leave it out with --no-pytorch")
    page = args.docs / "performance.md"
    markdown.between_markers(page.read_text(), "benchmark", "")  # before minutes of work, not after
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)  # for the contenders
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as in env.sh, for all of them
    settings = nets.SMALL if args.small else nets.PAPER
    caffes = [Contender(f"Caffe, engine {name}", "benchmark_caffe", name) for name in engines()]
    pytorch = [] if args.no_pytorch else PYTORCH
    contenders = {
        "trunk": caffes + pytorch,
        "deploy": caffes + pytorch,
        CHECKED_STEP: caffes + pytorch[:2],  # another net would have to be compiled
        "step": caffes + pytorch,
        "crf": caffes[:1] + pytorch[:1] + DENSE_CRF,
    }
    repeats = {task: 0 if task == CHECKED_STEP else args.repeats for task in contenders}
    total = sum(len(contenders[task]) * (1 + repeats[task]) for task in contenders)
    found = {}
    with (
        tempfile.TemporaryDirectory() as name,
        tqdm(total=total + len(caffes), unit="pass") as bar,
    ):
        folder = Path(name)
        trunk_costs = prepare(folder, settings)
        for task, those in contenders.items():
            found[task] = measure(folder, task, those, repeats[task], bar)
        found["step"] = found["step"][0], found.pop(CHECKED_STEP)[1]
        layers = measure_layers(folder, args.repeats, bar)
    draw_roofline(args.docs / "roofline.png", trunk_costs, layers)
    text = report(settings, args, found, layers, trunk_costs)
    with atomic.new_file(page) as partial:
        partial.write_text(markdown.between_markers(page.read_text(), "benchmark", text))
    print(text)


def main(argv=None):
    parser = cli.parser(__doc__)
    for flag, default, what in (
        ("--threads", physical_cores(), "of each"),
        ("--repeats", 5, "rounds"),
    ):
        parser.add_argument(
            flag, type=cli.positive, default=default, help=f"{what} (default: %(default)s)"
        )
    parser.add_argument("--small", action="store_true", help="the same nets in thin layers")
    parser.add_argument("--no-pytorch", action="store_true", help="leave PyTorch out")
    parser.add_argument(
        "--docs", type=Path, default=ROOT / "docs", help="folder to write to (default: docs)"
    )
    args = parser.parse_args(argv)
    args.command = " ".join(
        ["tools/benchmark/benchmark_networks.py", *(sys.argv[1:] if argv is None else argv)]
    )
    return cli.run("benchmark_networks", run, args, errors=[WorkerError])


if __name__ == "__main__":
    sys.exit(main())
