"""tools/demo.py: the whole comparison in one command, step by step."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import demo
import pytest

from gcrf import nets

SETTINGS = replace(
    nets.SMALL,
    window=7,
    crop_size=65,
    interval=4,
    conv_widths=(4, 4, 4, 4, 4),
    fc_width=8,
    branch_width=4,
    stages={
        name: replace(
            stage,
            batch_size=1,
            max_iter=4,
            weights=stage.weights.replace("phase1_iter_400", "phase1_iter_4"),
        )
        for name, stage in nets.SMALL.stages.items()
    },
)
# tools/train.py, but --small is the network above
TRAIN = "import sys, test_demo, train; train.nets.SMALL = test_demo.SETTINGS; "
TRAIN += "sys.exit(train.main(sys.argv[1:]))"


def count_runs(folder, name, code="0"):
    """A command that notes in folder/NAME that it ran, and ends with the exit code in code."""
    return ["sh", "-c", f"echo ran >>{shlex.quote(str(folder / name))}; exit {code}"]


def run_steps(folder, steps):
    """Run steps as demo.run does, without the report."""
    log = demo.Log(folder / "steps.json")
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        demo.run_steps(steps, log, lock)
    finally:
        os.close(lock)
    return log


def test_a_complete_step_is_not_run_again(tmp_path, capfd):
    fails = f"$(cat {shlex.quote(str(tmp_path / 'code'))})"
    (tmp_path / "code").write_text("3")
    steps = {
        "one": count_runs(tmp_path, "one"),
        "two": count_runs(tmp_path, "two", fails),
        "three": count_runs(tmp_path, "three"),
    }
    with pytest.raises(demo.StepError, match="step 'two' failed with exit code 3"):
        run_steps(tmp_path, steps)
    assert not (tmp_path / "three").exists()
    (tmp_path / "code").write_text("0")
    log = run_steps(tmp_path, steps)
    assert [(tmp_path / name).read_text().count("ran") for name in steps] == [1, 2, 1]
    assert all(step["complete"] for step in log.steps.values())
    assert "[1/3] one: complete" in capfd.readouterr().out


def test_the_command_of_a_step_is_shown_before_it_runs(tmp_path, capfd):
    run_steps(tmp_path, {"greet": ["echo", "hello world"]})
    assert capfd.readouterr().out == "[1/1] greet: echo 'hello world'\nhello world\n"


def test_the_time_of_all_runs_counts(tmp_path):
    log = demo.Log(tmp_path / "steps.json")
    log.add("sleep", "sleep 0.1", 100.0, complete=False)
    seconds = run_steps(tmp_path, {"sleep": ["sleep", "0.1"]}).seconds("sleep")
    assert 100.1 <= seconds < 105


def test_another_command_for_a_complete_step_is_refused(tmp_path):
    run_steps(tmp_path, {"one": ["true"]})
    with pytest.raises(ValueError, match=r"step 'one' was\n    true\nand is now\n    true now"):
        run_steps(tmp_path, {"one": ["true", "now"]})


def test_two_demos_in_one_folder_are_refused(tmp_path, capsys):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert demo.main(["--output", str(tmp_path)]) == 1
    assert "another demo is running here" in capsys.readouterr().err


def test_sigterm_ends_the_step_too(tmp_path):
    code = "import pathlib, test_demo\n"
    code += "from gcrf import cli\ncli.raise_on_sigterm()\n"
    code += "steps = {'sleep': ['sh', '-c', 'echo $$; exec sleep 60']}\n"
    code += f"test_demo.run_steps(pathlib.Path({str(tmp_path)!r}), steps)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("[1/1] sleep: sh -c")
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) != 0
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{child}"):
        assert time.monotonic() < deadline, "the step goes on"
        time.sleep(0.01)
    assert json.loads((tmp_path / "steps.json").read_text())["sleep"]["complete"] is False


def test_every_step_runs_a_tool_that_is_there():
    for command in demo.make_steps(demo.ROOT / "demo").values():
        assert os.access(command[0], os.X_OK), command[0]


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """The steps of the demo with thin networks, few iterations and few images."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    steps = demo.make_steps(tmp_path / "demo", SETTINGS, train_images=4, val_images=4)
    steps["train"] = [sys.executable, "-c", TRAIN, *steps["train"][1:]]
    return steps


@pytest.mark.slow
def test_the_whole_demo(steps, tmp_path, capfd):
    folder = tmp_path / "demo"
    mean_iou = demo.run(folder, steps)
    assert list(mean_iou) == ["unary", "unary_dense_crf", "gcrf_before_finetuning", "gcrf"]
    assert json.loads((folder / "results.json").read_text()) == mean_iou
    unary, before, after = (
        json.loads((folder / name / "results.json").read_text())
        for name in ("eval_unary", "eval_before", "eval")
    )
    assert mean_iou == {
        "unary": unary["unary"]["mean_iou"],
        "unary_dense_crf": unary["unary_dense_crf"]["mean_iou"],
        "gcrf_before_finetuning": before["network"]["mean_iou"],
        "gcrf": after["network"]["mean_iou"],
    }
    assert len(list((folder / "predictions").glob("*_overlay.jpg"))) == demo.PREDICTED_IMAGES
    page = (folder / "report.html").read_text()
    assert all(f"{value:.2f}" in page for value in mean_iou.values())
    assert f"{mean_iou['gcrf']:.2f}" in capfd.readouterr().out
    assert demo.run(folder, steps) == mean_iou  # nothing left to do
    assert capfd.readouterr().out.count(": complete\n") == len(steps)
