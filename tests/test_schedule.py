"""The learning rates of prototxt/ are those of the paper's section 5.1, and Caffe uses them."""

from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from tiny_nets import SMALL_IMAGES, tiny_settings, without_weights

from gcrf import nets
from gcrf.nets import PAPER_STAGES

PROTOTXT = Path(__file__).resolve().parent.parent / "prototxt"

FIRST_6000 = {"unary": 1e-6, "pairwise": 1e-2, "filters": 1e-2, "compatibility": 1e-2}
AFTER_6000 = {"unary": 1e-8, "pairwise": 1e-4, "filters": 1e-4, "compatibility": 1e-4}

# Section 5.1. Pretraining counts its iterations through both phases.
PAPER = {
    "pretrain": {
        0: {"pairwise": 1e-4, "filters": 1e-3},
        5999: {"pairwise": 1e-4, "filters": 1e-3},
        6000: {"pairwise": 1e-4, "filters": 1e-3},
        7999: {"pairwise": 1e-4, "filters": 1e-3},
        8000: {"pairwise": 1e-4, "filters": 1e-4},
        12999: {"pairwise": 1e-4, "filters": 1e-4},
    },
    "finetune": {
        0: FIRST_6000,
        5999: FIRST_6000,
        6000: AFTER_6000,
        8000: AFTER_6000,
        12999: AFTER_6000,
        30999: AFTER_6000,
    },
}
SOLVERS = {"pretrain": ("pretrain_phase1", "pretrain_phase2"), "finetune": ("finetune",)}
BATCH = {"pretrain": 15, "finetune": 5}
ITERATIONS = {"pretrain": 8000 + 5000, "finetune": 6000 + 25000}


def parse(path, message):
    return text_format.Parse(path.read_text(), message)


def group_of(layer):
    """The paper's name for a layer's parameters."""
    names = {"pairwise/filters": "filters", "compatibility": "compatibility"}
    return names.get(layer, layer.partition("/")[0])


def stage_rate(solver, iteration):
    """The rate before multipliers, from caffe.proto's description of lr_policy."""
    if solver.lr_policy == "fixed":
        return solver.base_lr
    assert solver.lr_policy == "multistep"
    return solver.base_lr * solver.gamma ** sum(iteration >= step for step in solver.stepvalue)


def is_in_stage(layer, stages):
    """Whether a training net in these stages includes a layer: caffe.proto, NetStateRule."""
    return not layer.include or any(
        rule.phase == caffe_pb2.TRAIN
        and set(rule.stage) <= set(stages)
        and not set(rule.not_stage) & set(stages)
        for rule in layer.include
    )


def parameters(solver):
    """Yield (layer name, blob index, ParamSpec) of a solver's training net."""
    net = parse(PROTOTXT.parent / solver.net, caffe_pb2.NetParameter())
    for layer in net.layer:
        if is_in_stage(layer, solver.train_state.stage):
            for index, spec in enumerate(layer.param):
                yield layer.name, index, spec


def solver_at(stage, iteration):
    """The solver that runs an iteration of a stage, and the iteration by that solver's count."""
    for name in SOLVERS[stage]:
        solver = parse(PROTOTXT / f"{name}_solver.prototxt", caffe_pb2.SolverParameter())
        if iteration < solver.max_iter:
            return solver, iteration
        iteration -= solver.max_iter
    raise AssertionError("the stage is over")


@pytest.mark.parametrize(("stage", "iteration"), [(s, i) for s in PAPER for i in PAPER[s]])
def test_rate_of_every_parameter_is_the_paper_s(stage, iteration):
    solver, local_iteration = solver_at(stage, iteration)
    groups = set()
    for layer, _, spec in parameters(solver):
        group = group_of(layer)
        groups.add(group)
        rate = stage_rate(solver, local_iteration) * spec.lr_mult
        assert rate == pytest.approx(PAPER[stage][iteration][group], rel=1e-6), layer
    assert groups == PAPER[stage][iteration].keys()


@pytest.mark.parametrize("stage", PAPER)
def test_batch_decay_momentum_and_length_are_the_paper_s(stage):
    length = 0
    for name in SOLVERS[stage]:
        solver = parse(PROTOTXT / f"{name}_solver.prototxt", caffe_pb2.SolverParameter())
        assert (solver.type, solver.momentum) == ("SGD", pytest.approx(0.9))
        assert solver.weight_decay == pytest.approx(5e-3)
        length += solver.max_iter
        net = parse(PROTOTXT.parent / solver.net, caffe_pb2.NetParameter())
        assert net.layer[0].seg_data_param.batch_size * solver.iter_size == BATCH[stage]
        for layer, index, spec in parameters(solver):
            assert spec.decay_mult == (1 if index == 0 else 0), layer  # none on biases
    assert length == ITERATIONS[stage]


@pytest.mark.parametrize("settings", [nets.PAPER, nets.SMALL], ids=["paper", "small"])
def test_phase_2_goes_on_from_the_last_snapshot_of_phase_1(settings):
    phase1, phase2 = (nets.solver(f"pretrain_phase{phase}", settings) for phase in (1, 2))
    last_snapshot = f"{phase1.snapshot_prefix}_iter_{phase1.max_iter}.caffemodel"
    assert list(phase2.weights) == [last_snapshot]


# ---- What Caffe's own solver does with these numbers, on thin nets


@pytest.fixture(scope="module")
def thin_settings(tmp_path_factory):
    """Thin nets with the paper's solvers, but batches of one image."""
    stages = without_weights(PAPER_STAGES, batch_size=1)
    return tiny_settings(tmp_path_factory.mktemp("schedule"), stages=stages, **SMALL_IMAGES)


def solver_resumed_at(settings, name, iteration, folder):
    """Caffe's solver of a stage, resumed from a snapshot of that iteration with no momentum."""
    solver = caffe.SGDSolver(str(settings.output / f"{name}_solver.prototxt"))
    blobs = [blob for blobs in solver.net.params.values() for blob in blobs]
    rng = np.random.default_rng(0)
    for blob in blobs:
        blob.data[...] = rng.normal(size=blob.data.shape) * 0.1
    state = caffe_pb2.SolverState(iter=iteration, learned_net=str(folder / "start.caffemodel"))
    state.current_step = sum(iteration > step for step in settings.stages[name].steps)
    for blob in blobs:
        zeros = state.history.add()
        zeros.shape.dim.extend(blob.data.shape)
        zeros.data.extend([0.0] * blob.data.size)
    solver.net.save(state.learned_net)
    (folder / "start.solverstate").write_bytes(state.SerializeToString())
    solver.restore(str(folder / "start.solverstate"))
    assert solver.iter == iteration
    return solver


@pytest.mark.parametrize(
    ("name", "iteration", "rates"),
    [
        ("pretrain_phase1", 0, PAPER["pretrain"][0]),
        ("pretrain_phase1", 7999, PAPER["pretrain"][7999]),
        ("pretrain_phase2", 0, PAPER["pretrain"][8000]),
        ("pretrain_phase2", 4999, PAPER["pretrain"][12999]),
        ("finetune", 0, PAPER["finetune"][0]),
        ("finetune", 5999, PAPER["finetune"][5999]),
        ("finetune", 6000, PAPER["finetune"][6000]),
        ("finetune", 30999, PAPER["finetune"][30999]),
    ],
)
def test_a_step_moves_each_parameter_by_rate_times_gradient(
    name, iteration, rates, thin_settings, tmp_path
):
    solver = solver_resumed_at(thin_settings, name, iteration, tmp_path)
    net = solver.net
    net.clear_param_diffs()
    net.forward()
    net.backward()
    before = {k: [(b.data.copy(), b.diff.copy()) for b in v] for k, v in net.params.items()}
    solver.apply_update()
    for layer, blobs in net.params.items():
        for index, (blob, (data, gradient)) in enumerate(zip(blobs, before[layer], strict=True)):
            decay = 5e-3 if index == 0 else 0.0
            expected = rates[group_of(layer)] * (gradient + decay * data)
            # blob.diff is now the update itself; a large parameter would lose its last digits.
            np.testing.assert_allclose(blob.diff, expected, rtol=1e-4, atol=1e-12, err_msg=layer)
            np.testing.assert_array_equal(blob.data, data - blob.diff, err_msg=layer)
    moved = {group_of(k) for k, v in net.params.items() if any(b.diff.any() for b in v)}
    assert moved == rates.keys()
