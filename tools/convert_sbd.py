#!/usr/bin/env python3
"""Convert SBD's label maps to palette PNGs, beside VOC's own, for training on train_aug.

Example:
    tools/convert_sbd.py --sbd data/benchmark_RELEASE/dataset --voc data/VOCdevkit/VOC2012

Writes VOC/SegmentationClassAug. Images that VOC has labelled keep VOC's label map, which marks the
void border; the others get SBD's class segmentation. The folder appears only when everything is
done. Exit codes: 0 done, 1 bad data, 2 bad usage.
"""

import concurrent.futures
import functools
import multiprocessing
import shutil
import sys
from pathlib import Path

import numpy as np
import scipy.io
from tqdm import tqdm

from gcrf import atomic, cli, label_maps, voc


def read_sbd_label_map(path):
    """Return the class segmentation, (H, W) uint8, in one of SBD's .mat files.

    SBD keeps it in GTcls.Segmentation: 0 background, 1..20 the classes of VOC.
    Raises ValueError for a file without it, and for other values.
    """
    try:
        label_map = scipy.io.loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise
    except Exception as error:  # scipy has no one error for a damaged file
        raise ValueError(
            f"{path}: no GTcls.Segmentation to read ({error}); take SBD's folder cls, unpacked anew"
        ) from error
    if label_map.ndim != 2 or label_map.dtype != np.uint8:
        raise ValueError(
            f"{path}: GTcls.Segmentation is {label_map.dtype} {label_map.shape}, "
            "expected uint8 (height, width)"
        )
    try:
        label_maps.count_labels(label_map, len(voc.CLASSES))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return label_map


def convert(path, out):
    """Write the .mat file `path` as a palette PNG to the folder `out`."""
    data = label_maps.encode_palette_png(read_sbd_label_map(path), voc.palette())
    (out / f"{path.stem}.png").write_bytes(data)


def convert_all(args):
    """Convert what the arguments name; raise OSError or ValueError for what is wrong."""
    own = {path.stem: path for path in args.voc.glob("SegmentationClass/*.png")}
    paths = [path for path in sorted(args.sbd.glob("cls/*.mat")) if path.stem not in own]
    for found, pattern in (
        (own, args.voc / "SegmentationClass/*.png"),
        (paths, args.sbd / "cls/*.mat"),
    ):
        if not found:
            raise ValueError(f"no files {pattern}; correct --voc or --sbd")
    # Spawned, not forked: a forked worker would keep the lock on the folder
    context = multiprocessing.get_context("spawn")
    with (
        atomic.new_folder(args.voc / "SegmentationClassAug") as out,
        concurrent.futures.ProcessPoolExecutor(args.jobs, context) as pool,
    ):
        for path in own.values():
            shutil.copyfile(path, out / path.name)
        done = pool.map(functools.partial(convert, out=out), paths, chunksize=16)
        for _ in tqdm(done, total=len(paths), unit="file"):
            pass
    print(f"{args.voc}/SegmentationClassAug: {len(own)} label maps of VOC, {len(paths)} of SBD")


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument("--sbd", type=Path, required=True, help="SBD's folder 'dataset'")
    parser.add_argument("--voc", type=Path, required=True, help="the folder VOCdevkit/VOC2012")
    cli.add_jobs(parser, "processes")
    return cli.run("convert_sbd", convert_all, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
