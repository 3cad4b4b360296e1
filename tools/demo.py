#!/usr/bin/env python3
"""Make the paper's comparison on a synthetic data set: unary, dense CRF and Gaussian CRF.

Example: tools/demo.py --output demo

Makes the data, trains all stages of the small networks, tunes the rival dense CRF, scores all of
them on images that none has seen, and writes OUTPUT/report.html and OUTPUT/results.json (mean IoU
in per cent: unary, unary_dense_crf, gcrf_before_finetuning, gcrf). Each step is a command that it
shows. To go on after a stop, run the same command again: complete steps are skipped.
Exit codes: 0 done, 1 a step failed, 2 bad usage, 130 stopped by Ctrl-C or SIGTERM.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from gcrf import atomic, cli, nets, report

ROOT = Path(__file__).resolve().parent.parent
DENSE_CRF_IMAGES = 40  # of the training split, to tune the dense CRF on
PREDICTED_IMAGES = 4
SAVE_INTERVAL = 10  # seconds after which a step's time so far is on disk


class StepError(Exception):
    """A step failed; the message says which and what to do."""


def make_steps(folder, settings=nets.SMALL, train_images=800, val_images=60):
    """Return the steps {name: command, a list}, in order; settings: of the networks."""
    data, run, deploy = folder / "shapes", folder / "run", folder / "run/nets"
    stages, snapshots = settings.stages, run / "snapshots"
    weights = {
        name: snapshots / f"{name}_iter_{stage.max_iter}.caffemodel"
        for name, stage in stages.items()
    }
    split, tuned = ["--root", data, "--split"], folder / "dense_crf.json"
    gcrf = ["--deploy", deploy / "deploy.prototxt", "--weights"]
    unary = ["--deploy", deploy / "deploy_unary.prototxt", "--weights", weights["unary"]]
    images = range(train_images, train_images + PREDICTED_IMAGES)  # of val, which follows train
    steps = {
        "data": [
            *("data/shapes/make_shapes.py", "--out", data),
            *("--train", train_images, "--val", val_images),
        ],
        "lmdb": [
            *("tools/prepare_lmdb.py", "--root", data),
            *("--splits", "train", "val", "--out", folder / "lmdb"),
        ],
        "train": [
            *("tools/train.py", "--small", "--as-published"),
            *("--data", folder / "lmdb", "--output", run),
        ],
        "dense CRF": [
            *("tools/dense_crf.py", *unary, *split, "train"),
            *("--images", DENSE_CRF_IMAGES, "--output", tuned),
        ],
        "evaluate the unary": [
            *("tools/eval.py", *unary, *split, "val", "--unary", "--dense-crf", tuned),
            *("--save-predictions", "--resume", "--output", folder / "eval_unary"),
        ],
        "evaluate before finetuning": [
            *("tools/eval.py", *gcrf, snapshots / stages["finetune"].weights, *split, "val"),
            *("--resume", "--output", folder / "eval_before"),
        ],
        "evaluate": [
            *("tools/eval.py", *gcrf, weights["finetune"], *split, "val"),
            *("--save-predictions", "--resume", "--output", folder / "eval"),
        ],
        "predict": [
            *("tools/predict.py", *gcrf, weights["finetune"], "--output", folder / "predictions"),
            *(data / f"JPEGImages/shapes_{number:06d}.jpg" for number in images),
        ],
    }
    return {
        name: [os.path.relpath(ROOT / tool), *map(str, arguments)]
        for name, (tool, *arguments) in steps.items()
    }


class Log:
    """Which steps are complete, and the seconds that each took: a JSON file, always whole."""

    def __init__(self, path):
        self.path = path
        self.steps = json.loads(path.read_text()) if path.is_file() else {}

    def is_complete(self, name, command):
        """Whether a step is complete; raises ValueError if it was another command."""
        step = self.steps.get(name)
        if step and step["command"] != command:
            raise ValueError(
                f"{self.path}: step '{name}' was\n    {step['command']}\n"
                f"and is now\n    {command}\nRemove that folder, or choose another --output"
            )
        return bool(step) and step["complete"]

    def add(self, name, command, seconds, complete):
        """Keep that a step took so many seconds in all."""
        self.steps[name] = {"command": command, "seconds": seconds, "complete": complete}
        with atomic.new_file(self.path) as partial:
            partial.write_text(json.dumps(self.steps, indent=1) + "\n")

    def seconds(self, name):
        """Return the seconds that a step took so far, in all runs."""
        return self.steps[name]["seconds"] if name in self.steps else 0.0


def run_step(name, command, log, lock):
    """Run a command to its end; raises StepError if it fails.

    lock: file descriptor that the command inherits, so that the folder stays locked as long as it
    runs, even if this process is killed.
    """
    text, before, start = shlex.join(command), log.seconds(name), time.monotonic()
    _hold_sigterm(True)  # until the command has begun, and can be ended
    with subprocess.Popen(
        command,
        pass_fds=[lock],
        preexec_fn=lambda: _hold_sigterm(False),  # noqa: PLW1509  it takes no lock
    ) as process:
        code = None
        try:
            _hold_sigterm(False)
            while code is None:
                try:
                    code = process.wait(SAVE_INTERVAL)
                except subprocess.TimeoutExpired:
                    log.add(name, text, before + time.monotonic() - start, complete=False)
        except KeyboardInterrupt as stop:
            if isinstance(stop, cli.Terminated):
                process.terminate()
            process.wait()  # tools/train.py writes a snapshot
            raise
        finally:
            log.add(name, text, before + time.monotonic() - start, complete=code == 0)
    if code:
        raise StepError(
            f"step '{name}' failed with exit code {code}; the reason is above. Its command was\n"
            f"    {text}\nThen run the same demo again: the steps before it are complete"
        )


def _hold_sigterm(hold):
    signal.pthread_sigmask(signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK, [signal.SIGTERM])


def run_steps(steps, log, lock):
    """Run the steps {name: command} that are not complete; log and lock: as for run_step."""
    for number, (name, command) in enumerate(steps.items(), 1):
        text = shlex.join(command)
        complete = log.is_complete(name, text)
        print(f"[{number}/{len(steps)}] {name}: {'complete' if complete else text}", flush=True)
        if not complete:
            run_step(name, command, log, lock)


def run(folder, steps):
    """Run the steps {name: command} that are not complete, then write results and report.

    Returns the mean IoU of each method. Raises StepError, OSError or ValueError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{folder}: another demo is running here: wait for it"
    with atomic.locked(folder / ".lock", busy) as lock:
        log = Log(folder / "steps.json")
        run_steps(steps, log, lock)
        evaluations = [folder / name for name in ("eval", "eval_unary", "eval_before")]
        page = report.build(folder / "run", *evaluations, log.steps)
        with atomic.new_file(folder / "report.html") as partial:
            partial.write_text(page)
        results = report.read_results(*evaluations)
        mean_iou = {key: result["mean_iou"] for key, result in results.items()}
        with atomic.new_file(folder / "results.json") as partial:
            partial.write_text(json.dumps(mean_iou, indent=1) + "\n")
        print_summary(folder, results, sum(step["seconds"] for step in log.steps.values()))
    return mean_iou


def print_summary(folder, results, seconds):
    """Print the comparison, where the files are, and the time."""
    unary = results["unary"]["mean_iou"]
    print(f"\n{len(results['gcrf']['images'])} held-out images       mean IoU   over the unary")
    for key, result in results.items():
        gain = "" if key == "unary" else f"{result['mean_iou'] - unary:+17.2f}"
        print(f"{report.METHODS[key]:<24}{result['mean_iou']:11.2f}{gain}")
    print(f"\nReport:      {folder / 'report.html'}")
    print(f"Results:     {folder / 'results.json'}")
    print(f"Predictions: {folder / 'predictions'}")
    print(f"Time:        {report.duration(seconds)}")


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo"), help="folder to work in (default: %(default)s)"
    )
    folder = parser.parse_args(argv).output
    cli.raise_on_sigterm()
    return cli.run(
        *("demo", run, folder, make_steps(folder)),
        errors=[StepError],
        stopped="stopped; run the same command to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
