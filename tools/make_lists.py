#!/usr/bin/env python3
"""Write the lists of the usual VOC 2012 experiment from VOC's and SBD's own lists.

Example:
    tools/make_lists.py --voc data/VOCdevkit/VOC2012 --sbd data/benchmark_RELEASE/dataset \\
        --out data/lists

Writes OUT/train_aug.txt (10582 ids: VOC train and all of SBD, without VOC val), OUT/val.txt (1449)
and, if VOC's test set is unpacked too, OUT/test.txt (1456). Checks each count, and that no image of
val or test is in train_aug. Exit codes: 0 done, 1 bad data, 2 bad usage.
"""

import sys
from pathlib import Path

from gcrf import atomic, cli, voc

COUNTS = {  # VOC 2012 devkit and SBD; train_aug as in DeepLab
    "VOC train": 1464,
    "VOC val": 1449,
    "VOC test": 1456,
    "SBD train": 8498,
    "SBD val": 2857,
    "train_aug": 10582,
}


def make_lists(voc_train, voc_val, voc_test, sbd_train, sbd_val):
    """Return {name: ids} of the lists to write; `voc_test` may be empty.

    Raises ValueError for an unexpected count, an id twice in a list, and an image of val or test
    among the training images.
    """
    train_aug = sorted((set(sbd_train) | set(sbd_val) | set(voc_train)) - set(voc_val))
    found = {
        "VOC train": voc_train,
        "VOC val": voc_val,
        "SBD train": sbd_train,
        "SBD val": sbd_val,
        "train_aug": train_aug,
    } | ({"VOC test": voc_test} if voc_test else {})
    for name, ids in found.items():
        if len(set(ids)) != len(ids):
            raise ValueError(f"{name}: an id stands twice in the list; unpack it again")
        if len(ids) != COUNTS[name]:
            raise ValueError(
                f"{name}: {len(ids)} ids, expected {COUNTS[name]}; use VOC 2012's segmentation "
                "lists and SBD's train.txt and val.txt, unchanged"
            )
    lists = {"train_aug": train_aug, "val": voc_val} | ({"test": voc_test} if voc_test else {})
    for name in ("val", "test"):
        leaked = sorted(set(lists.get(name, ())) & {*train_aug, *voc_train})
        if leaked:
            raise ValueError(f"{len(leaked)} images of {name} are in training too: {leaked[0]} ...")
    return lists


def write_lists(args):
    """Write the lists of the arguments; raise OSError or ValueError for what is wrong."""
    test = voc.list_path(args.voc, "test")
    lists = make_lists(
        voc.read_ids(voc.list_path(args.voc, "train")),
        voc.read_ids(voc.list_path(args.voc, "val")),
        voc.read_ids(test) if test.exists() else [],
        voc.read_ids(args.sbd / "train.txt"),
        voc.read_ids(args.sbd / "val.txt"),
    )
    for name, ids in lists.items():
        with atomic.new_file(args.out / f"{name}.txt") as path:
            path.write_text("\n".join(ids) + "\n")
        print(f"{args.out / name}.txt: {len(ids)} ids")
    if "test" not in lists:
        print(f"no test.txt: there is no {test} (it comes with VOC's test images)")


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--voc", type=Path, required=True, help="the folder VOCdevkit/VOC2012")
    parser.add_argument("--sbd", type=Path, required=True, help="SBD's folder 'dataset'")
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists")
    return cli.run("make_lists", write_lists, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
