"""tools/train.py: every stage in order, whatever interrupts it."""

import contextlib
import csv
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import train
from tiny_nets import write_split

from gcrf import nets, training
from gcrf.caffemodel import read_caffemodel, write_caffemodel
from gcrf.training_log import read_csv

STAGES = list(nets.SMALL.stages)
MAX_ITER, INTERVAL = 60, 10
ENDS = {
    f"{stage}_iter_{MAX_ITER}.{suffix}"
    for stage in STAGES
    for suffix in ("caffemodel", "solverstate")
}
# train.py with nets thin enough for a test: folder, data, iterations of a stage, and stages.
RUN = """
import pathlib, signal, sys
import test_train
from gcrf import cli, training
cli.raise_on_sigterm()
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
folder, data, max_iter, *stages = sys.argv[1:]
folder = pathlib.Path(folder)
settings = test_train.tiny(folder, pathlib.Path(data), max_iter=int(max_iter))
sys.exit(cli.run("train", training.train, settings, folder, stages, stopped="stopped here"))
"""


def tiny(folder, data, max_iter=MAX_ITER, **changes):
    """Settings of nets whose iterations take a few milliseconds."""
    stages = {
        name: replace(stage, batch_size=1, max_iter=max_iter, steps=(40,), **changes)
        for name, stage in nets.SMALL.stages.items()
    }
    phase2 = replace(
        stages["pretrain_phase2"], weights=f"pretrain_phase1_iter_{MAX_ITER}.caffemodel"
    )
    return replace(
        nets.SMALL,
        output=folder / "nets",
        snapshots=folder / "snapshots",
        data=data,
        test_images=2,
        num_classes=3,
        window=5,
        crop_size=65,
        test_size=129,
        interval=INTERVAL,
        conv_widths=(4, 4, 4, 4, 4),
        fc_width=8,
        branch_width=4,
        stages=stages | {"pretrain_phase2": phase2},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        write_split(folder / split, num_classes=3)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """The folder of an unbroken run of all stages."""
    folder = tmp_path_factory.mktemp("trained")
    training.train(tiny(folder, data), folder, STAGES)
    return folder


@contextlib.contextmanager
def started(folder, data, *stages, max_iter=MAX_ITER):
    """A run in its own process group, killed at the end if it is still running."""
    paths = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, folder, data, str(max_iter), *stages],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(is_there, process):
    """Return when is_there() is true."""
    deadline = time.monotonic() + 60
    while not is_there():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def child_of(process):
    """Return the process id of a process's only child, waiting for it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not children.read_text():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no child"
        time.sleep(0.002)
    return int(children.read_text())


def iterations(folder, stage):
    """The column iteration of a stage's CSV."""
    with (folder / f"{stage}.csv").open(newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file)]


def test_all_stages_end_with_whole_snapshots(trained):
    assert {path.name for path in (trained / "snapshots").iterdir()} >= ENDS


@pytest.mark.parametrize("stage", ["unary", "finetune"])
def test_the_csv_shows_what_each_snapshot_is_like(trained, stage):
    rows = read_csv(trained / f"{stage}.csv")
    looks = {int(row["iteration"]): row for row in rows if "mean_iou" in row}
    assert list(looks) == list(range(INTERVAL, MAX_ITER + 1, INTERVAL))
    assert all(0 <= float(row["mean_iou"]) <= 100 for row in looks.values())
    for row in looks.values() if stage == "finetune" else ():
        assert 0 <= float(row["similarity_like"]) <= 1
        assert 0 <= float(row["similarity_auc"]) <= 1
        assert 0 < float(row["compatibility_least"]) <= float(row["compatibility_greatest"])


def test_the_csv_shows_loss_rate_and_test(trained):
    with (trained / "finetune.csv").open(newline="") as file:
        rows = {int(row["iteration"]): row for row in csv.DictReader(file)}
    assert sorted(rows) == [0, 10, 20, 30, 40, 50, 60]
    assert float(rows[20]["learning_rate"]) == pytest.approx(1e-3)
    assert float(rows[40]["learning_rate"]) == pytest.approx(1e-4)  # after the step
    assert 0 < float(rows[40]["loss"]) < 2
    assert 0 <= float(rows[40]["test_accuracy"]) <= 1
    assert rows[10]["loss"] == ""  # caffe shows every 20th, but tests every 10th
    assert float(rows[10]["test_loss"]) > 0
    seconds = [float(rows[iteration]["seconds"]) for iteration in sorted(rows)]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_a_run_killed_in_each_stage_resumes_and_completes(tmp_path, data):
    settings = tiny(tmp_path, data)
    snapshots = settings.snapshots
    for stage in STAGES:
        with started(tmp_path, data, *STAGES) as process:
            # the first complete one; half of one is made again, which is another test
            wait_for(lambda: training.last_snapshot(settings, stage)[0], process)  # noqa: B023
        assert not (snapshots / f"{stage}_iter_{MAX_ITER}.solverstate").exists(), "killed too late"
    with started(tmp_path, data, *STAGES) as process:
        assert process.wait() == 0, process.communicate()[1]
    assert {path.name for path in snapshots.iterdir()} >= ENDS
    for stage in STAGES:
        assert "Resuming from" in (tmp_path / f"{stage}.log").read_text()
        # What the tool had not read when it was killed is missing; nothing appears twice.
        rows = iterations(tmp_path, stage)
        assert rows == sorted(set(rows))
        assert rows[-1] == MAX_ITER


def test_a_row_is_on_disk_when_a_snapshot_starts(tmp_path):
    progress = training.TrainingProgress(tmp_path / "unary.csv", "unary", 0, MAX_ITER)
    progress.read("I0 solver.cpp:239] Iteration 0 (1 iter/s, 1s/20 iters), loss = 2")
    progress.read("I0 solver.cpp:464] Snapshotting to binary proto file unary_iter_10.caffemodel")
    assert iterations(tmp_path, "unary") == [0]
    progress.close(finished=False)
    assert iterations(tmp_path, "unary") == [0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_snapshot_of_its_last_iteration(tmp_path, data, number):
    endless = 10**6  # a run too long to end before it is stopped
    with started(tmp_path, data, "unary", max_iter=endless) as process:
        wait_for((tmp_path / "snapshots" / f"unary_iter_{INTERVAL}.solverstate").exists, process)
        process.send_signal(number)
        assert "train: stopped here" in process.communicate(timeout=60)[1]
        assert process.returncode == 130
    assert "Optimization stopped early" in (tmp_path / "unary.log").read_text()
    iteration, _ = training.last_snapshot(tiny(tmp_path, data), "unary")
    assert INTERVAL <= iteration < endless


def test_two_runs_in_one_folder_are_refused(tmp_path, data):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another run is training"):
            training.train(tiny(tmp_path, data), tmp_path, ["unary"])


def test_caffe_that_outlives_the_tool_keeps_the_folder_locked(tmp_path, data):
    with started(tmp_path, data, "unary") as process:
        wait_for((tmp_path / "unary.log").exists, process)
        os.kill(child_of(process), signal.SIGSTOP)
        process.kill()
        process.wait()
        with pytest.raises(BlockingIOError, match="another run is training"):
            training.train(tiny(tmp_path, data), tmp_path, ["unary"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(trained, tmp_path, data):
    training.train(tiny(tmp_path, data), tmp_path, STAGES)
    name = f"snapshots/finetune_iter_{MAX_ITER}.caffemodel"
    once, twice = read_caffemodel(trained / name), read_caffemodel(tmp_path / name)
    assert once.keys() == twice.keys()
    for layer in once:
        for one, other in zip(once[layer], twice[layer], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=layer)


def test_a_complete_run_does_nothing(trained, data, capsys):
    before = {path: path.stat().st_mtime_ns for path in (trained / "snapshots").iterdir()}
    training.train(tiny(trained, data), trained, STAGES)
    assert capsys.readouterr().err.count("complete") == len(STAGES)
    assert before == {path: path.stat().st_mtime_ns for path in (trained / "snapshots").iterdir()}


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_last_field(path):
    state = training.caffe_pb2.SolverState.FromString(path.read_bytes())
    state.ClearField("current_step")
    path.write_bytes(state.SerializeToString())


def fill_with_nan(path):
    weights = read_caffemodel(path)
    weights["unary/fc8"][0][:] = np.nan
    write_caffemodel(path, weights)


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("solverstate", halve),
        ("solverstate", drop_last_field),
        ("caffemodel", halve),
        ("caffemodel", Path.unlink),
        ("caffemodel", fill_with_nan),
    ],
)
def test_a_damaged_snapshot_is_passed_over(tmp_path, data, trained, suffix, damage):
    (tmp_path / "snapshots").mkdir()
    for path in (trained / "snapshots").glob("unary_iter_*"):
        (tmp_path / "snapshots" / path.name).write_bytes(path.read_bytes())
    settings = tiny(tmp_path, data)
    assert training.last_snapshot(settings, "unary")[0] == MAX_ITER
    damage(tmp_path / "snapshots" / f"unary_iter_{MAX_ITER}.{suffix}")
    assert training.last_snapshot(settings, "unary")[0] == MAX_ITER - INTERVAL


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path):
    progress = training.TrainingProgress(tmp_path / "unary.csv", "unary", 0, MAX_ITER)
    with pytest.raises(FloatingPointError, match="iteration 20: training diverged; lower"):
        progress.read("I0 solver.cpp:239] Iteration 20 (3.4 iter/s, 5.8s/20 iters), loss = nan")
    progress.close(finished=False)


def test_the_rows_that_a_resumed_run_repeats_are_dropped(tmp_path):
    path = tmp_path / "unary.csv"
    path.write_text(
        "iteration,seconds,learning_rate,loss,test_loss,test_accuracy\n"
        "0,1.0,0.1,2,,\n20,2.0,0.1,2,,\n40,3.0,0.1,2,,\n60,4."
    )
    training.TrainingProgress(path, "unary", 40, MAX_ITER).close(finished=False)
    assert iterations(tmp_path, "unary") == [0, 20]


def test_what_caffe_stops_with_is_said(tmp_path, data):
    settings = replace(tiny(tmp_path, data), num_classes=2)
    with pytest.raises(RuntimeError, match=r"stage unary: caffe failed: .*label.*unary\.log"):
        training.train(settings, tmp_path, ["unary"])


def test_other_options_in_the_same_folder_are_refused_and_named(trained, data):
    settings = nets.assign(
        tiny(trained, data), ["window=7", "finetune.rates.unary=0.5", "unary.steps=30,50"]
    )
    with pytest.raises(ValueError) as error:
        training.train(settings, trained, STAGES)
    assert str(error.value) == (
        f"{trained}/settings.json: window was 5 and is now 7, unary.steps was [40] and is now "
        "[30, 50], finetune.rates.unary was 0.0003 and is now 0.5; give the options of the first "
        "run, or another --output"
    )


def test_nets_that_were_changed_by_hand_are_refused(trained, data):
    path = trained / "nets/unary.prototxt"
    before = path.read_text()
    path.write_text(before.replace("ignore_label: 255", "ignore_label: 254"))
    with pytest.raises(ValueError, match=r"unary\.prototxt: differs from its definition: the nets"):
        training.train(tiny(trained, data), trained, STAGES)
    path.write_text(before)


def test_a_stage_needs_the_one_before_it(tmp_path, data):
    with pytest.raises(FileNotFoundError, match="run stage unary first"):
        training.train(tiny(tmp_path, data), tmp_path, ["pretrain_phase1"])


def test_a_stage_under_a_started_one_is_not_trained_again(tmp_path, data, trained):
    (tmp_path / "snapshots").mkdir()
    for path in (trained / "snapshots").glob("finetune_iter_*"):
        (tmp_path / "snapshots" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="stage finetune has started, but unary"):
        training.train(tiny(tmp_path, data), tmp_path, STAGES)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "missing"], 1, "no LMDB missing/train_aug/images; tools/prepare_lmdb.py"),
        (["--stages", "all"], 2, "invalid choice"),
        (["--crop-size", "320"], 2, "expected 8k \\+ 1"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path, capsys, arguments, code, message):
    try:
        result = train.main(["--output", str(tmp_path / "run"), *arguments])
    except SystemExit as exit_:
        result = exit_.code
    assert result == code
    assert re.search(message, capsys.readouterr().err)


def test_the_paper_s_nets_need_weights_to_start_from(tmp_path, data, capsys):
    arguments = ["--output", str(tmp_path / "run"), "--data", str(data), "--train-split", "train"]
    assert train.main(arguments) == 1
    assert "give --vgg, or --unary to skip it" in capsys.readouterr().err
