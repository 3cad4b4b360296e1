"""Steps from a data set to a comparison of methods: each is a command, and none runs twice.

The folder holds, depending on how far the steps have got:
steps.json     {step: its command, seconds, whether it is complete, commit and machine}
lmdb/, run/    the data as LMDBs, and the training of tools/train.py
dense_crf.json parameters of the dense CRF, tuned on training images
eval_unary/    scores of the network of stage unary, with the dense CRF
eval_before/   scores of the weights that finetuning started from
eval/          scores of the finetuned network
report.html, results.json    the comparison
"""

import json
import math
import os
import shlex
import signal
import subprocess
import time

from gcrf import atomic, cli, origin, report

SAVE_INTERVAL = 10  # seconds after which a step's time so far is on disk


class StepError(Exception):
    """A step failed; the message says which and what to do."""


def command(tool, *arguments):
    """Return the command that calls a tool of this project, named by its path, as a list."""
    return [os.path.relpath(origin.ROOT / tool), *map(str, arguments)]


def trained(folder, settings, stage):
    """Return the (deploy net, weights) that stage unary or finetune of folder/run ends with."""
    run, max_iter = folder / "run", settings.stages[stage].max_iter
    deploy = "deploy_unary" if stage == "unary" else "deploy"
    return (
        run / f"nets/{deploy}.prototxt",
        run / f"snapshots/{stage}_iter_{max_iter}.caffemodel",
    )


def network(deploy, weights):
    """Return the arguments that give a network to a tool."""
    return ["--deploy", deploy, "--weights", weights]


def comparison_steps(folder, settings, data_set, splits, options):
    """Return the steps {name: command} from a data set to the scores of all methods.

    settings: of the networks, those that tools/train.py chooses for options["train"]; data_set:
    the tools' arguments that say where it is; splits: to tune the dense CRF on, and to score on;
    options: {step: more arguments for its command}.
    """
    deploy, finetuned = trained(folder, settings, "finetune")
    start = finetuned.parent / settings.stages["finetune"].weights
    unary = network(*trained(folder, settings, "unary"))
    tuned, test = folder / "dense_crf.json", [*data_set, "--split", splits[1], "--resume"]
    steps = {
        "train": ["tools/train.py", "--data", folder / "lmdb", "--output", folder / "run"],
        "dense CRF": [
            *("tools/dense_crf.py", *unary, *data_set),
            *("--split", splits[0], "--output", tuned),
        ],
        "evaluate the unary": [
            *("tools/eval.py", *unary, *test, "--unary", "--dense-crf", tuned),
            *("--save-predictions", "--output", folder / "eval_unary"),
        ],
        "evaluate before finetuning": [
            *("tools/eval.py", *network(deploy, start), *test),
            *("--output", folder / "eval_before"),
        ],
        "evaluate": [
            *("tools/eval.py", *network(deploy, finetuned), *test),
            *("--save-predictions", "--output", folder / "eval"),
        ],
    }
    return {name: command(*arguments, *options.get(name, ())) for name, arguments in steps.items()}


class Log:
    """The state of each step, and the seconds that it took: a JSON file, complete at any time."""

    def __init__(self, path):
        self.path = path
        self._origin = {"commit": origin.commit(), "machine": origin.machine()}
        self.steps = json.loads(path.read_text()) if path.is_file() else {}

    def is_complete(self, name, text):
        """Whether a step is complete; raises ValueError if its command was a different one."""
        step = self.steps.get(name)
        if step and step["command"] != text:
            raise ValueError(
                f"{self.path}: step '{name}' was\n    {step['command']}\n"
                f"and is now\n    {text}\nRemove that folder, or choose another --output"
            )
        return bool(step) and step["complete"]

    def add(self, name, text, seconds, complete):
        """Record the seconds that a step took in all."""
        step = {"command": text, "seconds": seconds, "complete": complete}
        self.steps[name] = step | self._origin
        with atomic.new_file(self.path) as partial:
            partial.write_text(json.dumps(self.steps, indent=1) + "\n")

    def seconds(self, name):
        """Return the seconds that a step took so far, in all runs."""
        return self.steps[name]["seconds"] if name in self.steps else 0.0


def run_step(name, arguments, log, lock):
    """Run a step's command to its end; raises StepError if it fails.

    lock: file descriptor that the command inherits, so that the folder stays locked as long as it
    runs, even if this process is killed.
    """
    text, before, start = shlex.join(arguments), log.seconds(name), time.monotonic()
    _hold_sigterm(True)  # until the command has started and can be stopped
    with subprocess.Popen(
        arguments,
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
            f"    {text}\nThen run the same command again: the steps before it are complete"
        )


def _hold_sigterm(hold):
    signal.pthread_sigmask(signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK, [signal.SIGTERM])


def run_steps(steps, log, lock, minutes=None):
    """Run the steps {name: command} that are not complete; log and lock: as for run_step.

    minutes: {name: expected time}, to say before each step how much is left, or None.
    """
    texts = {name: shlex.join(arguments) for name, arguments in steps.items()}
    waiting = [name for name, text in texts.items() if not log.is_complete(name, text)]
    for number, (name, arguments) in enumerate(steps.items(), 1):
        complete, left = name not in waiting, ""
        if minutes and not complete:
            rest = waiting[waiting.index(name) :]
            seconds = sum(max(0, 60 * minutes[each] - log.seconds(each)) for each in rest)
            left = f" (about {math.ceil(seconds / 60)} min left)"
        what = "complete" if complete else texts[name]
        print(f"[{number}/{len(steps)}] {name}{left}: {what}", flush=True)
        if not complete:
            run_step(name, arguments, log, lock)


def run(folder, steps, minutes=None):
    """Run the steps {name: command} that are not complete, then write results and report.

    minutes: as for run_steps. Returns the mean IoU of each method. Raises StepError, OSError or
    ValueError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{folder}: another run is using this folder: wait for it"
    with atomic.locked(folder / ".lock", busy) as lock:
        log = Log(folder / "steps.json")
        run_steps(steps, log, lock, minutes)
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
    print(
        f"\n{len(results['gcrf']['images'])} held-out images   mean IoU   over the unary   accuracy"
    )
    for key, result in results.items():
        gain = "" if key == "unary" else f"{result['mean_iou'] - unary:+.2f}"
        print(
            f"{report.METHODS[key]:<24}{result['mean_iou']:7.2f}{gain:>17}"
            f"{result['pixel_accuracy']:11.2f}"
        )
    print(f"\nReport:      {folder / 'report.html'}")
    print(f"Results:     {folder / 'results.json'}")
    print(f"Time:        {report.duration(seconds)}")
