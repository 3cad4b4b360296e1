"""What is known of a training at an iteration: Caffe's log, and a look at the snapshot.

A row is a dictionary, {column: text}, of one iteration; it lacks what Caffe did not say of that
iteration. tools/train.py keeps rows as CSV.
"""

import csv
import re

COLUMNS = [
    *("iteration", "seconds", "learning_rate", "loss", "test_loss", "test_accuracy"),
    # by gcrf.monitor, at each snapshot, on some test images
    "mean_iou",  # per cent, as the next, on the grid
    "unary_mean_iou",
    "similarity_like",  # mean of the pairs of one label
    "similarity_unlike",  # mean of the pairs of two labels
    "similarity_auc",  # share of (like pair, unlike pair) whose like one is the more similar
    "compatibility_least",  # on the diagonal of C
    "compatibility_greatest",
]
NUMBER = r"(-?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?))"
# In the order in which one iteration may show them
TESTING = re.compile(r"Iteration (\d+), Testing net")
TEST_OUTPUT = re.compile(rf"Test net output #\d+: (loss|accuracy) = {NUMBER}")
LOSS = re.compile(rf"Iteration (\d+) \(.*, loss = {NUMBER}")
SNAPSHOT = re.compile(r"Snapshotting solver state to \S+ proto file (.*_iter_(\d+))\.solverstate")
LEARNING_RATE = re.compile(rf"Iteration (\d+), lr = {NUMBER}")


def parse_line(line):
    """Return what a line of the log says, {column: text}, mostly nothing.

    A line that has no iteration in it is about that of the line before.
    """
    if match := TESTING.search(line):
        return {"iteration": match[1]}
    if match := TEST_OUTPUT.search(line):
        return {f"test_{match[1]}": match[2]}
    if match := LOSS.search(line):
        return {"iteration": match[1], "loss": match[2]}
    if match := LEARNING_RATE.search(line):
        return {"iteration": match[1], "learning_rate": match[2]}
    return {}


def read_log(path):
    """Return the rows of a log of Caffe; of an iteration that a resumed run repeated, the last."""
    rows, row = {}, {}
    with path.open(errors="replace") as file:
        for line in file:
            found = parse_line(line)
            if "iteration" in found:
                row = rows.setdefault(int(found["iteration"]), {})
            row.update(found)
    return [rows[iteration] for iteration in sorted(rows)]


def read_csv(path):
    """Return the rows of a CSV of tools/train.py, without one that a killed run cut short."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if None not in row.values()]
    return [
        {column: text for column, text in row.items() if text}
        for row in rows
        if row["iteration"].isdigit()
    ]
