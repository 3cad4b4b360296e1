#!/usr/bin/env python3
"""Write the networks and solvers of the Gaussian CRF network.

Example: tools/make_nets.py                         (rewrites prototxt/)
Example: tools/make_nets.py --output nets/camvid --num-classes 11 --data data/camvid_lmdb

They are defined in tools/lib/gcrf/nets.py. Paths in the files are relative to the folder in which
caffe runs: here, the repository.
Exit codes: 0 done, 1 with --check: a file differs from its definition, 2 bad usage.
"""

import sys
from pathlib import Path

from gcrf import cli, nets


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--check", action="store_true", help="compare with the files, write nothing"
    )
    parser.add_argument("--output", type=Path, help="write a set of nets of your own here")
    own = parser.add_argument_group("a set of your own (with --output)")
    nets.add_arguments(own)
    own.add_argument("--test-images", type=cli.positive, help="number of images in the test split")
    own.add_argument(
        "--snapshots",
        type=Path,
        help="folder that weights are read from and written to; default: snapshots/<its name>",
    )
    args = parser.parse_args(argv)
    options = vars(args)
    check = options.pop("check")
    if not args.output and any(options.values()):
        parser.error("give --output: prototxt/ holds the paper's nets")
    settings = nets.PAPER
    if args.output:
        args.snapshots = args.snapshots or settings.snapshots / args.output.name
        try:
            settings = nets.chosen(options)
        except ValueError as error:
            parser.error(str(error))
    if not check:
        nets.write(settings)
        return 0
    lines = nets.differences(settings)
    for line in lines:
        print(f"make_nets: {line}; run tools/make_nets.py", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
