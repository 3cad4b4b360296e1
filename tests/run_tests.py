"""Run every test suite and end with one line: "N passed, N failed, N skipped".

Example: build/venv/bin/python tests/run_tests.py --fast
Exit codes: 0 all passed, 1 a test failed or a suite did not finish.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build/source"
UPSTREAM_CPU_TESTS = 1138  # what Caffe at commit 99bd997 has, without those for a GPU


def count_results(report, left_out="not counted"):
    """Return a Counter of "passed", "failed" and "skipped" from a gtest or pytest XML report.

    report: path of the XML file; left_out: what tests that a gtest filter left out are.
    """
    counts = Counter(passed=0, failed=0, skipped=0)
    for case in ElementTree.parse(report).iter("testcase"):
        if case.get("status") == "notrun":
            result = left_out
        elif case.find("failure") is not None or case.find("error") is not None:
            result = "failed"
        else:
            result = "skipped" if case.find("skipped") is not None else "passed"
        if result in counts:
            counts[result] += 1
    return counts


def run_suite(name, command, report, *, cwd, env, left_out="not counted"):
    """Run one suite and return its counts; one that leaves no report counts as one failure."""
    print(f"\n==== {name}", flush=True)
    returncode = subprocess.run(command, cwd=cwd, env=env, check=False).returncode
    try:
        counts = count_results(report, left_out)
    except (OSError, ElementTree.ParseError):
        counts = Counter(passed=0, failed=1, skipped=0)
    if returncode and not counts["failed"]:
        print(f"{name}: exit status {returncode}, with no failed test", file=sys.stderr)
        counts["failed"] = 1
    return counts


def summary(counts):
    return f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build/current", help="a build folder")
    parser.add_argument("--fast", action="store_true", help="our own tests, without the slow ones")
    args = parser.parse_args(argv)
    build = args.build.resolve()
    env = dict(os.environ, PYTHONPATH=f"{build / 'python'}:{ROOT / 'tools/lib'}")
    env["PATH"] = f"{build / 'tools'}:{Path(sys.executable).parent}:{env['PATH']}"
    # A gradient check starts thousands of tiny thread teams. Two threads are enough to see a race.
    env.setdefault("OMP_NUM_THREADS", "2")
    env.setdefault("GOMP_SPINCOUNT", "1000")  # as in env.sh
    # With CUDA, the test programs leave out what needs a device where there is none.
    has_cuda = "CPU_ONLY:BOOL=OFF" in (build / "CMakeCache.txt").read_text()
    filters = () if has_cuda else ("--gtest_filter=-*GPU*",)
    left_out = "skipped" if has_cuda else "not counted"
    with tempfile.TemporaryDirectory() as folder:

        def gtest(name, program, *options):
            report = f"{folder}/{program}.xml"
            command = [build / "test" / program, f"--gtest_output=xml:{report}", *options]
            return run_suite(name, command, report, cwd=SOURCE, env=env, left_out=left_out)

        def pytest(name, tests, cwd, *options):
            report = f"{folder}/{name.split()[0]}.xml"
            command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *options]
            return run_suite(name, [*command, tests], report, cwd=cwd, env=env)

        results = {"layers": gtest("layers", "gcrf.testbin")}
        if not args.fast:
            upstream = gtest("upstream", "test.testbin", *filters)
            if upstream["passed"] < UPSTREAM_CPU_TESTS:
                print(f"upstream: expected {UPSTREAM_CPU_TESTS} passed", file=sys.stderr)
                upstream["failed"] = max(upstream["failed"], 1)
            results["upstream"] = upstream
            nothing = ("-c", os.devnull, "-p", "no:cacheprovider")
            results["pycaffe"] = pytest("pycaffe", "python/caffe/test", SOURCE, *nothing)
        fast = ("-m", "not slow", "-n", "2", "--dist", "loadfile") if args.fast else ()
        results["python"] = pytest("python", "tests", ROOT, *fast)
    print()
    for name, counts in results.items():
        print(f"{name}: {summary(counts)}")
    total = sum(results.values(), Counter())
    print(summary(total))
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
