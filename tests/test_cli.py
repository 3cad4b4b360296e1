"""gcrf.cli: every command's exit codes, and what it says on standard error."""

import argparse
import os
import signal
from pathlib import Path

import pytest

from gcrf import cli


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("work", "arguments", "code", "message"),
    [
        (lambda: None, [], 0, ""),
        (lambda: 1, [], 1, ""),
        (fail, [ValueError("no list")], 1, "tool: no list\n"),
        (fail, [FileNotFoundError("no file")], 1, "tool: no file\n"),
        (fail, [ArithmeticError("no number")], 1, "tool: no number\n"),
        (fail, [KeyboardInterrupt()], 130, "tool: stopped; go on\n"),
    ],
)
def test_the_exit_code_tells_what_happened(work, arguments, code, message, capsys):
    options = {"errors": [ArithmeticError], "stopped": "stopped; go on"}
    assert cli.run("tool", work, *arguments, **options) == code
    assert capsys.readouterr().err == message


def test_an_error_that_nobody_expects_is_a_bug_and_shows_where():
    with pytest.raises(ArithmeticError):
        cli.run("tool", fail, ArithmeticError())


def test_sigterm_ends_a_command_as_ctrl_c_does(capsys):
    before = signal.getsignal(signal.SIGTERM)
    try:
        cli.raise_on_sigterm()
        assert cli.run("tool", os.kill, os.getpid(), signal.SIGTERM) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err == "tool: stopped\n"


def test_a_picture_has_the_suffix_of_one(capsys):
    parser = cli.parser("Example: tool --output a.png")
    cli.add_picture(parser)
    assert parser.parse_args(["--output", "a.svg"]).output == Path("a.svg")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--output", "a.txt"])
    assert "a.txt: expected a name ending with .png .svg .pdf" in capsys.readouterr().err


def test_positive_numbers():
    assert cli.positive("1") == 1
    with pytest.raises(argparse.ArgumentTypeError, match="0 is below 1"):
        cli.positive("0")
