"""tests/run_tests.py: its summary must not count what did not run as passed."""

import sys

import run_tests

REPORT = """<testsuites><testsuite>
<testcase name="a" status="run"/>
<testcase name="b" status="run"><failure/></testcase>
<testcase name="c" status="notrun"/>
<testcase name="d"><skipped/></testcase>
<testcase name="e"><error/></testcase>
</testsuite></testsuites>"""


def run_python(code, report):
    return run_tests.run_suite("suite", [sys.executable, "-c", code], report, cwd=None, env=None)


def test_each_kind_of_result_is_counted_once(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert run_tests.count_results(report) == {"passed": 1, "failed": 2, "skipped": 1}


def test_what_needs_a_missing_gpu_counts_as_skipped(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    counts = run_tests.count_results(report, left_out="skipped")
    assert counts == {"passed": 1, "failed": 2, "skipped": 2}


def test_a_suite_that_leaves_no_report_is_a_failure(tmp_path):
    assert run_python("pass", tmp_path / "report.xml")["failed"] == 1


def test_a_suite_that_fails_without_a_failed_test_is_a_failure(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text('<testsuite><testcase name="a"/></testsuite>')
    assert run_python("raise SystemExit(3)", report) == {"passed": 1, "failed": 1, "skipped": 0}


def test_the_summary_is_one_plain_line():
    assert run_tests.summary({"passed": 3, "failed": 0, "skipped": 1}) == (
        "3 passed, 0 failed, 1 skipped"
    )
