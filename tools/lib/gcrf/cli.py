"""What all commands have in common: help, exit codes, and error messages."""

import argparse
import os
import signal
import sys
from pathlib import Path

PICTURES = (".png", ".svg", ".pdf")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which, unlike Ctrl-C in a terminal, is sent to this process alone."""


def parser(doc):
    """Return an ArgumentParser whose help is the docstring of a command, verbatim."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(name, work, *arguments, errors=(), stopped="stopped"):
    """Run work(*arguments) for the command `name`, and return the exit code.

    It is 1 for an OSError, a ValueError, or one of `errors`, whose message goes to standard error;
    130, with the message `stopped`, for a KeyboardInterrupt; else what work returned, or 0.
    """
    try:
        return work(*arguments) or 0
    except (OSError, ValueError, *errors) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: {stopped}", file=sys.stderr)
        return 130


def raise_on_sigterm():
    """Let SIGTERM end the command as Ctrl-C does, by raising Terminated."""

    def terminate(*_):
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


# ---- Arguments that several commands take, and types of arguments


def add_data_set(parser):
    """Add --root, a data set, and --labels, the folder of its label maps."""
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument(
        "--labels",
        default="SegmentationClass",
        metavar="FOLDER",
        help="folder below ROOT with the label maps (default: %(default)s)",
    )


def add_jobs(parser, what):
    """Add --jobs, the number of things done at once; what: their name."""
    parser.add_argument(
        "--jobs", type=positive, default=os.cpu_count(), help=f"{what} (default: one per core)"
    )


def add_picture(parser, default=None):
    """Add --output, the picture that a command draws; it is required if it has no default."""
    parser.add_argument(
        "--output",
        type=_picture,
        default=default,
        required=default is None,
        help=f"picture: {' '.join(PICTURES)}" + (f" (default: {default})" if default else ""),
    )


def positive(text):
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _picture(text):
    if Path(text).suffix not in PICTURES:
        raise argparse.ArgumentTypeError(
            f"{text}: expected a name ending with {' '.join(PICTURES)}"
        )
    return Path(text)
