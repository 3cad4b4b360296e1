#!/usr/bin/env python3
"""Measure how fast the SegData layer makes crops, compared with only decoding their JPEGs.

Example: tools/benchmark/benchmark_data.py --records 100 --repetitions 9 --scale 0.5 2

Prints images per second of processor time (that is, per core), the layer's share of the decoder's
speed, and the memory. The images are photograph-like noise, 500 x 375, about 100 KB each, generated
by the command. Exit codes: 0 done, 2 bad usage.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "1")  # before caffe, which reads it once

import caffe
import lmdb
import numpy as np
import simplejpeg
from benchmark_photos import HEIGHT, NUM_CLASSES, WIDTH, make_label, make_photo
from caffe.proto import caffe_pb2
from tqdm import tqdm

from gcrf import cli
from gcrf.nets import MEAN_BGR

BATCH_SIZE = 10


def write_database(path, files):
    """Write encoded files as an LMDB of Datum messages."""
    with lmdb.open(str(path), map_size=1 << 32) as database, database.begin(write=True) as writer:
        for i, data in enumerate(files):
            datum = caffe_pb2.Datum(data=data, encoded=True)
            writer.put(f"{i:08d}".encode(), datum.SerializeToString())


def make_net(folder, crop_size, scale):
    """Return a net of one SegData layer over the databases in folder."""
    layer = caffe_pb2.LayerParameter(name="data", type="SegData", top=["data", "label"])
    layer.seg_data_param.MergeFrom(
        caffe_pb2.SegDataParameter(
            image_source=str(folder / "images"),
            label_source=str(folder / "labels"),
            batch_size=BATCH_SIZE,
            crop_size=crop_size,
            scale_min=scale[0],
            scale_max=scale[1],
            mirror=True,
            shuffle=True,
            mean_value=MEAN_BGR,
            num_classes=NUM_CLASSES,
        )
    )
    prototxt = folder / "net.prototxt"
    prototxt.write_text(str(caffe_pb2.NetParameter(layer=[layer])))
    return caffe.Net(str(prototxt), caffe.TRAIN)


def images_per_second(work, num_images):
    """Return how many images work() processes in a second of processor time."""
    start = time.process_time()
    work()
    return num_images / (time.process_time() - start)


def resident_megabytes():
    """Return the memory that this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def measure(args):
    """Measure as the arguments say, and print the results."""
    random = np.random.default_rng(0)
    progress = tqdm(range(args.records), desc="making photographs", unit="image")
    images, labels = zip(*((make_photo(random), make_label(random)) for _ in progress), strict=True)
    pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)

    def decode():
        for image in images:
            simplejpeg.decode_jpeg(image, "BGR", buffer=pixels)

    with tempfile.TemporaryDirectory() as folder:
        write_database(Path(folder) / "images", images)
        write_database(Path(folder) / "labels", labels)
        net = make_net(Path(folder), args.crop_size, args.scale)
        batches = -(-args.records // BATCH_SIZE)

        def crop():
            for _ in range(batches):
                net.forward()

        speeds, before = [], None
        for _ in tqdm(range(args.repetitions), desc="measuring", unit="repetition"):
            crop()  # empties the queue, so that the next calls wait for each batch
            before = before or resident_megabytes()
            crops = images_per_second(crop, batches * BATCH_SIZE)
            decode()  # meanwhile the layer fills its queue, and is then idle
            decoded = images_per_second(decode, args.records)
            speeds.append((decoded, crops, crops / decoded))
        after = resident_megabytes()

    size = sum(map(len, images)) / args.records / 1e3
    print(f"{args.records} images, {size:.0f} KB each; images per second per core:")
    print(f"{'':24}{'min':>8}{'median':>8}{'max':>8}")
    rows = ("decoding the JPEG", "SegData layer", "layer / decoder")
    for row, values, digits in zip(rows, zip(*speeds, strict=True), (0, 0, 2), strict=True):
        summary = (min(values), np.median(values), max(values))
        print(f"{row:24}" + "".join(f"{value:8.{digits}f}" for value in summary))
    print(f"memory: {before:.0f} MB before, {after:.0f} MB after")


def main(argv=None):
    parser = cli.parser(__doc__)
    for flag, default, unit in (
        ("--records", 100, ""),
        ("--crop-size", 321, " pixels"),
        ("--repetitions", 9, ""),
    ):
        parser.add_argument(
            flag, type=cli.positive, default=default, help=f"default: %(default)s{unit}"
        )
    parser.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=(1, 1),
        metavar=("MIN", "MAX"),
        help="range of the random factor; default: 1 1, none",
    )
    return cli.run("benchmark_data", measure, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
