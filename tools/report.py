#!/usr/bin/env python3
"""Write one HTML file that shows a training and its scores: tables, curves, bars and images.

Example:
    tools/report.py runs/shapes --unary results/unary --before results/before \\
        --eval results/val --output report.html

Takes the folder of a run of tools/train.py, and folders that tools/eval.py --save-predictions wrote
on one data set in VOC's layout: one for the finetuned network; one for stage unary, scored with
--unary and, to compare with a dense CRF, --dense-crf; and one for the weights that finetuning
started from. The HTML file contains its pictures. Exit codes: 0 done, 1 something is missing, 2 bad
usage.
"""

import sys
from pathlib import Path

from gcrf import atomic, cli
from gcrf.report import build, read_json


def report(args):
    """Write the page of the arguments; raise OSError or ValueError for what is wrong."""
    steps = read_json(args.steps, "tools/demo.py") if args.steps else None
    page = build(args.run, args.eval, args.unary, args.before, steps)
    with atomic.new_file(args.output) as path:
        path.write_text(page)


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("run", type=Path, help="folder of a run of tools/train.py")
    for flag, text, required in (
        ("--eval", "folder of tools/eval.py for the finetuned network", True),
        ("--unary", "the same for stage unary, scored with --unary", True),
        ("--before", "the same for the weights that finetuning started from", False),
    ):
        parser.add_argument(flag, type=Path, required=required, help=text)
    parser.add_argument(
        "--steps", type=Path, help="JSON file of the commands and their times, by tools/demo.py"
    )
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    return cli.run("report", report, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
