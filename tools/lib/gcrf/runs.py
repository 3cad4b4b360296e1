"""What is in the folder of a training and in that of an evaluation, and how to read it.

RUN/STAGE.csv                        by tools/train.py: the rows of training_log
RUN/snapshots/STAGE_iter_N.caffemodel
RUN/scores/STAGE_N/                  by tools/score_snapshots.py: an evaluation of that snapshot
EVALUATION/results.json              by tools/eval.py: {NAME: measures}
EVALUATION/images.jsonl              ScoredImages
EVALUATION/RESULTS[NAME]/SUBMISSION/ID.png    with --save-predictions
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gcrf import atomic
from gcrf.nets import PAPER
from gcrf.training_log import read_csv, read_log

SCORES = "scores"
SUBMISSION = Path("VOC2012/Segmentation/comp6_test_cls")  # VOC 2012 devkit, section 6.2
DENSE_CRF = "unary_dense_crf"
RESULTS = {  # folders of saved predictions
    "network": "results",
    "unary": "results_unary",
    DENSE_CRF: f"results_{DENSE_CRF}",
}


# ---- A training


class Curves(NamedTuple):
    """What is known about one stage: rows as in training_log, and the scores of its snapshots."""

    name: str
    rows: list
    mean_iou: dict  # {what was scored: [(iteration, per cent), ...]}

    def column(self, name):
        """Return the iterations at which a column has values, and the values."""
        pairs = [(int(row["iteration"]), float(row[name])) for row in self.rows if name in row]
        return np.array(pairs).reshape(-1, 2).T


def read_scores(run_folder, stage):
    """Return the mean IoU of the snapshots of a run's stage, as in Curves."""
    found = {}
    for path in run_folder.glob(f"{SCORES}/{stage}_*/results.json"):
        iteration = path.parent.name.removeprefix(f"{stage}_")
        for name, result in json.loads(path.read_text()).items():
            found.setdefault(name, []).append((int(iteration), result["mean_iou"]))
    return {name: sorted(points) for name, points in found.items()}


def mean_iou_of(rows):
    """Return the mean IoU that tools/train.py saw at the snapshots, as in Curves."""
    found = {}
    for name, column in (("network", "mean_iou"), ("unary", "unary_mean_iou")):
        points = [(int(row["iteration"]), float(row[column])) for row in rows if column in row]
        if points:
            found[name] = points
    return found


def read_run(source):
    """Return the Curves of each stage in the folder of a run, in order, or those of a log."""
    if source.is_dir():
        rows = {
            stage: read_csv(source / f"{stage}.csv")
            for stage in PAPER.stages
            if (source / f"{stage}.csv").is_file()
        }
        curves = [
            Curves(stage, found, read_scores(source, stage) or mean_iou_of(found))
            for stage, found in rows.items()
        ]
        expected = "a folder with STAGE.csv in it, as tools/train.py writes them"
    else:
        curves = [Curves(source.stem, read_log(source), {})]
        expected = "the log that caffe train writes to standard error with GLOG_minloglevel=0"
    if not any(stage.rows for stage in curves):
        raise ValueError(f"{source}: no loss of any iteration; expected {expected}")
    return curves


def snapshots(run_folder, stage):
    """Return the weights of a run's stage, [(iteration, path), ...] in order."""
    found = (run_folder / "snapshots").glob(f"{stage}_iter_*.caffemodel")
    return sorted((int(path.stem.rpartition("_")[2]), path) for path in found)


# ---- An evaluation


def digest(path):
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read_settings(folder):
    """Return the settings that an evaluation was made with, as in ScoredImages."""
    with (folder / "images.jsonl").open() as file:
        return json.loads(file.readline())


class ScoredImages:
    """The confusion matrices of the images scored so far, in a file that survives a killed run.

    The first line holds the settings that they were made with, every other line an image.
    """

    def __init__(self, path, settings, resume):
        """Open the file; with resume, keep what is in it. Raises ValueError if it does not fit."""
        self.done, path = {}, Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # the run was killed while writing
        if lines and not resume:
            raise ValueError(
                f"{path} holds {len(lines) - 1} scored images: continue with --resume, remove the "
                "file, or choose another --output"
            )
        if lines:
            before = json.loads(lines[0])
            changed = [name for name in settings if before.get(name) != settings[name]]
            if changed:
                raise ValueError(
                    f"{path} was made with a different {', '.join(changed)}: remove it, or choose "
                    "another --output"
                )
        for line in lines[1:]:
            row = json.loads(line)
            self.done[row.pop("id")] = row
        with atomic.new_file(path) as partial:
            partial.write_text("".join(lines or [json.dumps(settings) + "\n"]))
        self._file = path.open("a")
        self._num_classes = settings["num_classes"]

    def add(self, image_id, matrices):
        """Record {name: confusion matrix} of an image, as [true class, predicted class, pixels]."""
        row = {}
        for name, matrix in matrices.items():
            places = np.argwhere(matrix)
            row[name] = np.column_stack([places, matrix[tuple(places.T)]]).tolist()
        self._file.write(json.dumps({"id": image_id, **row}) + "\n")
        self._file.flush()
        self.done[image_id] = row

    def matrix(self, image_id, name):
        """Return the confusion matrix of an image that was scored."""
        matrix = np.zeros((self._num_classes, self._num_classes), np.int64)
        for true, predicted, pixels in self.done[image_id][name]:
            matrix[true, predicted] = pixels
        return matrix
