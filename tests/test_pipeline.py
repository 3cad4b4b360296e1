"""gcrf.pipeline: steps that are commands; none runs twice, whatever stops them."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from gcrf import origin, pipeline


def count_runs(folder, name, code="0"):
    """A command that notes in folder/NAME that it ran, and ends with the exit code in code."""
    return ["sh", "-c", f"echo ran >>{shlex.quote(str(folder / name))}; exit {code}"]


def run_steps(folder, steps, minutes=None):
    """Run steps as pipeline.run does, without the report."""
    log = pipeline.Log(folder / "steps.json")
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        pipeline.run_steps(steps, log, lock, minutes)
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
    with pytest.raises(pipeline.StepError, match="step 'two' failed with exit code 3"):
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
    log = pipeline.Log(tmp_path / "steps.json")
    log.add("sleep", "sleep 0.1", 100.0, complete=False)
    seconds = run_steps(tmp_path, {"sleep": ["sleep", "0.1"]}).seconds("sleep")
    assert 100.1 <= seconds < 105


def test_another_command_for_a_complete_step_is_refused(tmp_path):
    run_steps(tmp_path, {"one": ["true"]})
    with pytest.raises(ValueError, match=r"step 'one' was\n    true\nand is now\n    true now"):
        run_steps(tmp_path, {"one": ["true", "now"]})


def test_another_command_is_refused_before_any_step_runs(tmp_path):
    run_steps(tmp_path, {"two": ["true"]})
    with pytest.raises(ValueError, match="step 'two' was"):
        run_steps(tmp_path, {"one": count_runs(tmp_path, "one"), "two": ["true", "now"]})
    assert not (tmp_path / "one").exists()


def test_what_is_left_is_said_before_each_step(tmp_path, capfd):
    pipeline.Log(tmp_path / "steps.json").add("two", "true", 90.0, complete=False)
    steps = {"one": ["true"], "two": ["true"], "three": ["true"]}
    run_steps(tmp_path, steps, {"one": 10, "two": 2, "three": 1})
    left = [line.partition("(")[2] for line in capfd.readouterr().out.splitlines()]
    assert left == [f"about {minutes} min left): true" for minutes in (12, 2, 1)]  # of two, 0.5


def test_each_step_says_on_what_it_ran(tmp_path):
    log = run_steps(tmp_path, {"one": ["true"]})
    assert log.steps["one"]["commit"] == origin.commit()
    assert origin.processor() in log.steps["one"]["machine"]


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another run is using this folder"):
            pipeline.run(tmp_path, {})


def test_sigterm_ends_the_step_too(tmp_path):
    code = "import pathlib, test_pipeline\n"
    code += "from gcrf import cli\ncli.raise_on_sigterm()\n"
    code += "steps = {'sleep': ['sh', '-c', 'echo $$; exec sleep 60']}\n"
    code += f"test_pipeline.run_steps(pathlib.Path({str(tmp_path)!r}), steps)"
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
