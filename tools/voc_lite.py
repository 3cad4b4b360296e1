#!/usr/bin/env python3
"""Compare unary, dense CRF and Gaussian CRF on photographs, from a folder in VOC's layout.

Examples:
    tools/voc_lite.py --root data/VOCdevkit/VOC2012 --output runs/voc_lite
    tools/voc_lite.py --root data/VOCdevkit/VOC2012 --output runs/voc_2 --full --seed 2

Checks every file, trains on a frozen trunk with ImageNet weights, tunes a dense CRF on training
images to compare with, scores all methods in the same way on the test split (whole images), and
times them. With 3000 training and 500 test images this takes about 40 minutes on two cores; with
--full, the schedule of tools/train.py, an hour. Writes OUTPUT/report.html and OUTPUT/results.json
(mean IoU in per cent); tools/voc_table.py makes tables from one or more such folders.
Prints the command of each step, and the time left. To resume after a stop, run the same command
again: complete steps are skipped, and the others continue where they stopped.
Exit codes: 0 done, 1 a step failed, 2 bad usage, 130 stopped by Ctrl-C or SIGTERM.
"""

import sys
from pathlib import Path

import numpy as np

from gcrf import atomic, cli, dense_crf, efficientnet, nets, pipeline, voc

# Instead of the schedule of tools/train.py, which takes 20 minutes longer.
SHORT = ("unary.max_iter=2000", "finetune.max_iter=1200", "finetune.steps=900")
TEST_SPLITS = ("dev", "val")
WATCHED = "watched"  # split of some test images, on which the network is tested during training
WATCHED_IMAGES = 50

# Seconds on two cores of 2026, to estimate the time left.
PER_FILE = 0.01  # to check an image and its label map, or to store them
PER_PASS = {"unary": 0.035, "pretrain": 0.06, "finetune": 0.08}  # to train on a crop of 321
PER_TEST = 0.6  # while training, of an image
PER_IMAGE = 0.25  # of a network
PER_REFINEMENT = 0.45  # of the dense CRF


def find_lists(args):
    """Return the lists of (training, test) images; raise OSError or ValueError for bad ones.

    Each of their images must be there, with its label map.
    """
    lists = []
    for split in (args.train_split, args.test_split):
        path = voc.list_path(args.root, split)
        if not path.is_file():
            there = ", ".join(sorted(each.stem for each in path.parent.glob("*.txt"))) or "none"
            raise FileNotFoundError(
                f"no list {path}; its folder has {there}: see --root, --train-split, --test-split"
            )
        samples = voc.read_samples(path, args.root, args.labels)
        files = [file for sample in samples for file in (sample.image, sample.label)]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{path}: {len(missing)} of its {len(files)} files are missing, the first is "
                f"{missing[0]}; correct the list, --root or --labels"
            )
        lists.append(samples)
    return lists


def write_watched(folder, args):
    """Write the list of the split WATCHED, a random part of the test split; return its path."""
    lines = voc.list_path(args.root, args.test_split).read_text().splitlines()
    lines = [line for line in lines if line.strip()]
    np.random.default_rng(0).shuffle(lines)
    with atomic.new_file(folder / f"{WATCHED}.txt") as partial:
        partial.write_text("\n".join(lines[:WATCHED_IMAGES]) + "\n")
    return folder / f"{WATCHED}.txt"


def train_options(args, num_classes):
    """Return the options of tools/train.py that choose the networks, as nets.chosen takes them."""
    return {
        "trunk": args.trunk,
        "num_classes": num_classes,
        "train_split": args.train_split,
        "test_split": WATCHED,
        "seed": args.seed,
        "as_published": args.as_published,
        "set": [*(() if args.full else SHORT), *args.set],
    }


def as_arguments(options):
    """Return options {name: value} as arguments of a command."""
    arguments = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            arguments += [word for each in value for word in (flag, each)]
        elif value is True:
            arguments.append(flag)
        elif value is not False:
            arguments += [flag, value]
    return arguments


def make_steps(args, settings, options, watched):
    """Return the steps {name: command}, in order.

    settings, options: of the networks, as nets.chosen makes one of the other; watched: a list.
    """
    folder, splits = args.output, (args.train_split, args.test_split)
    data_set = ["--root", args.root, "--labels", args.labels]
    mirror = ["--mirror"] if args.mirror else []
    unary, gcrf = (pipeline.trained(folder, settings, stage) for stage in ("unary", "finetune"))
    prepare = ["tools/prepare_lmdb.py", *data_set, "--out", folder / "lmdb"]
    tuning = ["--images", args.tuning_images, "--candidates", args.candidates, "--seed", args.seed]
    return {
        "check": pipeline.command(*prepare, "--dry-run", "--splits", *splits),
        "store": pipeline.command(*prepare, "--splits", splits[0], f"{WATCHED}={watched}"),
        **pipeline.comparison_steps(
            *(folder, settings, data_set, splits),
            options={
                "train": as_arguments(options),
                "dense CRF": [*tuning, *mirror],
                "evaluate the unary": mirror,
                "evaluate before finetuning": mirror,
                "evaluate": ["--unary", *mirror],
            },
        ),
        "time": pipeline.command(
            *("tools/time_methods.py", "--unary", *unary, "--gcrf", *gcrf),
            *("--dense-crf", folder / "dense_crf.json", *data_set, "--split", splits[1]),
            *("--output", folder / "timing.json"),
        ),
    }


def expected_minutes(args, settings, num_train, num_test):
    """Return {step: minutes} on two cores."""
    training = 0
    for name, stage in settings.stages.items():
        group = name.partition("_")[0]
        if group != "pretrain" or settings.pretrain:
            per_pass = PER_PASS[group] * (settings.crop_size / 321) ** 2
            tests = stage.max_iter // settings.interval * min(WATCHED_IMAGES, num_test)
            training += stage.max_iter * stage.batch_size * per_pass + tests * PER_TEST
    seconds = {
        "check": (num_train + num_test) * PER_FILE,
        "store": num_train * PER_FILE,
        "train": training,
        "dense CRF": dense_crf.num_runs(args.candidates, args.tuning_images) * PER_REFINEMENT,
        "evaluate the unary": num_test * (PER_IMAGE + PER_REFINEMENT),
        "evaluate before finetuning": num_test * PER_IMAGE,
        "evaluate": num_test * PER_IMAGE,
        "time": 60,
    }
    return {name: each / 60 for name, each in seconds.items()}


def compare(args):
    """Run what is left; raise OSError, ValueError or StepError for what is wrong."""
    train, test = find_lists(args)
    efficientnet.read_published(efficientnet.published_file(args.trunk), args.trunk)
    options = train_options(args, len(voc.class_names(args.root)))
    settings = nets.chosen(options)
    steps = make_steps(args, settings, options, write_watched(args.output, args))
    pipeline.run(args.output, steps, expected_minutes(args, settings, len(train), len(test)))


def parse_arguments(argv):
    """Return the command line's arguments."""
    parser = cli.parser(__doc__)
    cli.add_data_set(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder to work in")
    parser.add_argument("--train-split", default="train", help="default: %(default)s")
    parser.add_argument(
        "--test-split", help=f"default: the first of {', '.join(TEST_SPLITS)} that ROOT has"
    )
    parser.add_argument("--full", action="store_true", help="the schedule of tools/train.py")
    parser.add_argument("--mirror", action="store_true", help="test all methods with mirror images")
    parser.add_argument(
        "--tuning-images",
        type=cli.positive,
        default=24,
        help="training images to tune the dense CRF on (default: %(default)s)",
    )
    parser.add_argument(
        "--candidates",
        type=cli.positive,
        default=200,
        help="parameters of the dense CRF to begin with (default: %(default)s)",
    )
    group = parser.add_argument_group("for tools/train.py")
    group.add_argument("--trunk", choices=efficientnet.VARIANTS, default=nets.LITE.trunk)
    group.add_argument("--seed", type=cli.positive, default=1, help="default: %(default)s")
    group.add_argument("--as-published", action="store_true", help="the paper's recipe")
    group.add_argument(
        "--set", action="append", default=[], metavar="[STAGE.]FIELD=VALUE", help="any setting"
    )
    args = parser.parse_args(argv)
    if not args.test_split:
        there = (each for each in TEST_SPLITS if voc.list_path(args.root, each).is_file())
        args.test_split = next(there, TEST_SPLITS[-1])
    return args


def main(argv=None):
    args = parse_arguments(argv)
    cli.raise_on_sigterm()
    return cli.run(
        *("voc_lite", compare, args),
        errors=[pipeline.StepError],
        stopped="stopped; run the same command to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
