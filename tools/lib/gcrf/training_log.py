"""What is known about a training at an iteration, from Caffe's log and from the snapshot.

A row is a dictionary, {column: text}, for one iteration, without the columns that Caffe did not
report. tools/train.py stores rows as CSV.
"""

import csv
import re

COLUMNS = [
    *("iteration", "seconds", "learning_rate", "loss", "test_loss", "test_accuracy"),
    # from gcrf.monitor, at each snapshot, on some test images
    "mean_iou",  # per cent, as the next, on the grid
    "unary_mean_iou",
    "similarity_like",  # mean over the pairs with the same label
    "similarity_unlike",  # mean over the pairs with different labels
    "similarity_auc",  # share of (like pair, unlike pair) in which the like one is more similar
    "compatibility_least",  # on the diagonal of C
    "compatibility_greatest",
]
NUMBER = r"(-?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?))"
# In the order in which one iteration may report them
TESTING = re.compile(r"Iteration (\d+), Testing net")
TEST_OUTPUT = re.compile(rf"Test net output #\d+: (loss|accuracy) = {NUMBER}")
LOSS = re.compile(rf"Iteration (\d+) \(.*, loss = {NUMBER}")
SNAPSHOT = re.compile(r"Snapshotting solver state to \S+ proto file (.*_iter_(\d+))\.solverstate")
LEARNING_RATE = re.compile(rf"Iteration (\d+), lr = {NUMBER}")


def parse_line(line):
    """Return what a line of the log says, {column: text}, usually nothing.

    A line without an iteration is about that of the line before.
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
    """Return the rows of a Caffe log; an iteration repeated by a resumed run has its last row."""
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
