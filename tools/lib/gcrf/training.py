"""A training: its stages in order, each by `caffe train`, in a folder that records its progress.

The folder holds settings.json, nets/ and snapshots/, and for each stage STAGE.log, Caffe's own log,
and STAGE.csv, the rows of training_log. Complete stages are skipped, and stopped ones resumed.
"""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError
from tqdm import tqdm

from gcrf import atomic, efficientnet, nets, starting_weights
from gcrf.caffemodel import read_caffemodel, write_caffemodel
from gcrf.calibration import Calibrator, make_case
from gcrf.monitor import Monitor
from gcrf.records import read_samples
from gcrf.segmenter import Segmenter
from gcrf.training_log import COLUMNS, SNAPSHOT, parse_line, read_csv

CALIBRATION_IMAGES = 24
WORST_START = 10.0  # points of mean IoU below the unary, from which finetuning does not recover


def count_samples(data, split):
    """Return the number of samples in a split made by tools/prepare_lmdb.py."""
    counts = set()
    for name in ("images", "labels"):
        folder = data / split / name
        if not (folder / "data.mdb").is_file():
            raise FileNotFoundError(f"no LMDB {folder}; tools/prepare_lmdb.py writes one")
        with lmdb.open(str(folder), readonly=True, lock=False) as database:
            counts.add(database.stat()["entries"])
    if len(counts) > 1 or 0 in counts:
        raise ValueError(
            f"{data / split}: {sorted(counts)} images and labels, expected the same number"
        )
    return counts.pop()


def last_snapshot(settings, name):
    """Return (iteration, path of the solver state) of a stage's last usable snapshot, or (0, None).

    Caffe writes the weights, then the solver state, both in place. A run that is killed meanwhile
    leaves half a file, which may still parse. So the state's last field must be there too.
    """
    found = []
    for path in settings.snapshots.glob(f"{name}_iter_*.solverstate"):
        found.append((int(path.stem.rpartition("_")[2]), path))
    for iteration, path in sorted(found, reverse=True):
        try:
            state = caffe_pb2.SolverState.FromString(path.read_bytes())
            weights = read_caffemodel(path.with_suffix(".caffemodel"))
        except (DecodeError, OSError, ValueError):
            continue
        arrays = [array for layer in weights.values() for array in layer]
        whole = state.HasField("current_step") and state.iter == iteration
        if whole and all(np.isfinite(array).all() for array in arrays):
            return iteration, path
    return 0, None


def write_start(settings, name, unary, vgg):
    """Write the weights that a stage starts from, using those of the stages before it.

    unary: .caffemodel that replaces stage unary, or None; vgg: VGG-16's, or None.
    Raises ValueError if the CRF would ruin the unary's labels at the start.
    """
    path = settings.snapshots / settings.stages[name].weights
    trained = {
        stage: settings.snapshots / f"{stage}_iter_{settings.stages[stage].max_iter}.caffemodel"
        for stage in settings.stages
    }
    if name == "unary":
        if path == settings.snapshots:
            return  # from scratch
        net = settings.output / "deploy_unary.prototxt"
        if settings.trunk in efficientnet.VARIANTS:
            start = starting_weights.start_light_unary(net, settings.trunk)
        elif vgg:
            start = starting_weights.start_unary(net, vgg)
        else:
            raise ValueError("stage unary starts from VGG-16: give --vgg, or --unary to skip it")
    elif name == "pretrain_phase2":
        require(trained["pretrain_phase1"], "pretrain_phase1")
        return
    else:
        unary = unary or require(trained["unary"], "unary")
        pairwise = None
        if name == "finetune" and settings.pretrain:
            pairwise = require(trained["pretrain_phase2"], "pretrain_phase2")
        net = settings.output / "deploy.prototxt"
        start = starting_weights.start_gcrf(net, unary, pairwise, seed=settings.seed)
        if name == "finetune":
            start.weights = calibrated(settings, start.weights)
    write_caffemodel(path, start.weights)


def calibrated(settings, weights):
    """Return weights with the best filters and R for finetuning to start from.

    If settings.calibrate is False, they stay as they are. Prints how the CRF does on some training
    images, and raises ValueError if that is far worse than the unary alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.caffemodel"
        write_caffemodel(path, weights)
        segmenter = Segmenter(settings.output / "deploy.prototxt", path)
        samples = read_samples(settings.data / settings.train_split, CALIBRATION_IMAGES)
        cases = [make_case(segmenter, *sample) for sample in samples]
    calibrator = Calibrator(settings, cases)
    start = (
        calibrator.best_start() if settings.calibrate else calibrator.start(1.0, settings.diagonal)
    )
    unary = calibrator.unary_mean_iou()
    tqdm.write(f"finetune: {start.describe(len(cases), unary)}", file=sys.stderr)
    if start.mean_iou < unary - WORST_START:
        raise ValueError(
            f"finetuning would start from a mean IoU of {start.mean_iou:.1f} on training images, "
            f"where the unary alone has {unary:.1f}, and never recover; leave out --as-published"
        )
    R = start.diagonal * np.eye(settings.num_classes)
    filters = start.scale * weights["pairwise/filters"][0]
    return weights | {"pairwise/filters": [filters], "compatibility": [R]}


def keep_settings(settings, path):
    """Write the settings of a run to a file, so that no others can be used to resume it.

    Raises ValueError, which names all that changed, if it was started with others.
    """
    now = json.loads(json.dumps(nets.by_name(settings), default=str))
    before = json.loads(path.read_text()) if path.is_file() else now
    changed = [
        f"{name} was {before[name]} and is now {now[name]}"
        for name in now
        if name in before and before[name] != now[name]
    ]
    if changed:
        raise ValueError(
            f"{path}: {', '.join(changed)}; give the options of the first run, or another --output"
        )
    for line in nets.differences(settings):
        if not line.endswith(": missing"):
            raise ValueError(
                f"{line}: the nets were different when the run started; give another --output"
            )
    with atomic.new_file(path) as partial:
        partial.write_text(json.dumps(now, indent=1) + "\n")
    nets.write(settings)


def require(path, stage):
    """Return the path of a stage's weights; raises FileNotFoundError if it has not run."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights {path}; run stage {stage} first")
    return path


class TrainingProgress:
    """Caffe's log as it arrives, written to STAGE.csv and to a progress bar on standard error."""

    def __init__(self, path, name, iteration, max_iter):
        """path: the CSV. Its rows after iteration, which the run repeats, are dropped."""
        rows = []
        if path.is_file():
            rows = [row for row in read_csv(path) if int(row["iteration"]) < iteration]
        with atomic.new_file(path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self.before = float(rows[-1]["seconds"]) if rows else 0.0
        self.start = time.monotonic()
        self.file = path.open("a", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS)
        self.row = {}
        self.bar = tqdm(desc=name, initial=iteration, total=max_iter, unit="it")

    def read(self, line):
        """Take in one line of the log; raises FloatingPointError if the loss is not finite."""
        found = parse_line(line)
        if "iteration" in found and found["iteration"] != self.row.get("iteration"):
            self._write()
            self.row = {"seconds": self._seconds()}
            self.bar.update(int(found["iteration"]) - self.bar.n)
        self.row |= found
        if "loss" in found:
            self.bar.set_postfix(loss=found["loss"])
            if not math.isfinite(float(found["loss"])):
                raise FloatingPointError(
                    f"loss is {found['loss']} at iteration {found['iteration']}: training "
                    "diverged; lower the stage's learning rates in tools/lib/gcrf/nets.py, and "
                    "check the images"
                )
        elif "Snapshotting" in line:
            self._write()  # a run resumed from there does not repeat it

    def add(self, iteration, found):
        """Add {column: text} to the row of an iteration, the last one or a new one."""
        if self.row.get("iteration") != iteration:
            self._write()
            self.row = {"iteration": iteration, "seconds": self._seconds()}
        self.row |= found

    def _seconds(self):
        return f"{self.before + time.monotonic() - self.start:.1f}"

    def _write(self):
        if "iteration" in self.row:
            self.writer.writerow(self.row)
            self.file.flush()
        self.row = {}

    def close(self, finished):
        """Write the last row; a finished stage fills the bar."""
        self._write()
        self.file.close()
        if finished:
            self.bar.update(self.bar.total - self.bar.n)
        self.bar.close()


def caffe_train(settings, name, folder, lock, gpu):
    """Run one stage to its end, from its last snapshot if it has one.

    lock: file descriptor that caffe inherits, so that the folder stays locked if it outlives us.
    Raises RuntimeError if caffe fails, FloatingPointError if the loss is not finite.
    """
    iteration, snapshot = last_snapshot(settings, name)
    command = ["caffe", "train", "-solver", str(settings.output / f"{name}_solver.prototxt")]
    command += ["-snapshot", str(snapshot)] if snapshot else []
    command += ["-gpu", gpu] if gpu else []
    environment = {
        **os.environ,
        "GLOG_minloglevel": "0",
        "GLOG_logtostderr": "1",
    }
    log_path, fatal, finished = folder / f"{name}.log", "", False
    monitor = None if name.startswith("pretrain") else Monitor(settings, name)
    progress = TrainingProgress(
        folder / f"{name}.csv", name, iteration, settings.stages[name].max_iter
    )
    if monitor and snapshot:
        progress.add(str(iteration), monitor.look(snapshot.with_suffix(".caffemodel")))
    with (
        log_path.open("a" if snapshot else "w") as log,
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, pass_fds=[lock]
        ) as process,
    ):
        try:
            for line in process.stderr:
                log.write(line)
                log.flush()
                if line.startswith("F"):
                    fatal = line.rstrip()
                progress.read(line)
                if monitor and (match := SNAPSHOT.search(line)):
                    progress.add(match[2], monitor.look(f"{match[1]}.caffemodel"))
            finished = process.wait() == 0
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # caffe then writes a snapshot and ends
            log.write(process.communicate()[1])
            raise
        finally:
            process.kill()
            progress.close(finished)
    if not finished:
        reason = fatal or f"it ended with exit code {process.returncode}"
        raise RuntimeError(f"caffe failed: {reason}; its log is {log_path}")


def train(settings, folder, stages, *, unary=None, vgg=None, gpu=None):
    """Run stages in order, each to its end.

    settings: of nets, with output and snapshots in folder; the number of test images is set here.
    unary, vgg: as for write_start; gpu: device of caffe, such as "0", or None.
    Raises ValueError, OSError, RuntimeError or FloatingPointError, which say what to fix.
    """
    count_samples(settings.data, settings.train_split)
    test_images = count_samples(settings.data, settings.test_split)
    settings = replace(settings, test_images=test_images)
    settings.snapshots.mkdir(parents=True, exist_ok=True)
    busy = f"{folder}: another run is training here: wait for it"
    with atomic.locked(folder / ".lock", busy) as lock:
        keep_settings(settings, folder / "settings.json")
        names = list(settings.stages)
        for name in (name for name in names if name in stages):
            iteration, snapshot = last_snapshot(settings, name)
            if iteration >= settings.stages[name].max_iter:
                tqdm.write(f"{name}: complete", file=sys.stderr)
                continue
            for later in names[names.index(name) + 1 :]:
                if last_snapshot(settings, later)[1]:
                    raise ValueError(
                        f"stage {later} has started, but {name} before it is incomplete; remove "
                        f"{settings.snapshots / later}_iter_* to train {later} again"
                    )
            if not snapshot:
                write_start(settings, name, unary, vgg)
            try:
                caffe_train(settings, name, folder, lock, gpu)
            except (RuntimeError, FloatingPointError) as error:
                raise type(error)(f"stage {name}: {error}") from error
