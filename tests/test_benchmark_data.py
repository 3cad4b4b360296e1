"""tools/benchmark/benchmark_data.py on a few records: what it prints and refuses."""

import re
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parent.parent / "tools/benchmark/benchmark_data.py"


def run(*arguments):
    """Run the tool and return the finished process."""
    command = [sys.executable, TOOL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_prints_the_speeds_in_order_and_the_memory():
    """Each row rises from the minimum to the maximum, and the data are as large as announced."""
    process = run(
        "--records", "12", "--repetitions", "3", "--crop-size", "33", "--scale", "0.5", "2"
    )
    assert process.returncode == 0, process.stderr
    header, *lines = process.stdout.splitlines()
    assert 80 < int(re.match(r"12 images, (\d+) KB each", header)[1]) < 120
    for row in ("decoding the JPEG", "SegData layer", "layer / decoder"):
        (line,) = (line for line in lines if line.startswith(row))
        low, median, high = map(float, line.removeprefix(row).split())
        assert 0 < low <= median <= high
    assert re.fullmatch(r"memory: \d+ MB before, \d+ MB after", lines[-1])


def test_no_records_are_refused():
    process = run("--records", "0")
    assert process.returncode == 2
    assert "--records: 0 is below 1" in process.stderr
