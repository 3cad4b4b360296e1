#!/usr/bin/env python3
"""Measure how fast the SegData layer makes crops, against decoding their JPEGs and no more.

Example: tools/benchmark/benchmark_data.py --records 100 --repetitions 9 --scale 0.5 2
Prints images per second of processor time (that is, per core), the layer's share of the decoder's
speed, and the memory, to standard output. The data are photograph-like noise, 500 x 375, about
100 KB each, made on the spot. Exit codes: 0 done, 2 bad usage.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "1")  # before caffe, which reads it once

import caffe
import cv2
import lmdb
import numpy as np
import simplejpeg
from caffe.proto import caffe_pb2
from tqdm import tqdm

HEIGHT, WIDTH = 375, 500  # the commonest size in VOC 2012
NUM_CLASSES = 21
BATCH_SIZE = 10
MEAN_BGR = (104.008, 116.669, 122.675)


def make_noise(random, cells):
    """Return a map (HEIGHT, WIDTH) of smooth noise; cells: its detail, in cells across."""
    coarse = random.standard_normal((cells * HEIGHT // WIDTH + 2, cells + 2)).astype(np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def make_photo(random):
    """Return a JPEG of noise of all scales, as many bytes as VOC's photographs of that size."""
    cells = 2 ** np.arange(1, 10)
    channels = [sum(make_noise(random, n) / n**0.3 for n in cells) for _ in range(3)]
    pixels = np.clip(128 + 40 * np.stack(channels, axis=2), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def make_label(random):
    """Return a label PNG of a few smooth regions, compressed as VOC's are: without filters."""
    scores = np.stack([make_noise(random, 4) for _ in range(4)])
    classes = random.integers(0, NUM_CLASSES, len(scores))[scores.argmax(0)]
    options = {
        cv2.IMWRITE_PNG_FILTER: cv2.IMWRITE_PNG_FILTER_NONE,
        cv2.IMWRITE_PNG_STRATEGY: cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
        cv2.IMWRITE_PNG_COMPRESSION: 6,
    }
    flags = [value for option in options.items() for value in option]
    return cv2.imencode(".png", classes.astype(np.uint8), flags)[1].tobytes()


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
    """Return how many images work() gets through in a second of processor time."""
    start = time.process_time()
    work()
    return num_images / (time.process_time() - start)


def resident_megabytes():
    """Return the memory that this process occupies."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def main(argv=None):
    """Run the tool; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--crop-size", type=int, default=321, help="default: %(default)s pixels")
    parser.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=(1, 1),
        metavar=("MIN", "MAX"),
        help="range of the random factor; default: 1 1, none",
    )
    parser.add_argument("--repetitions", type=int, default=9, help="default: %(default)s")
    args = parser.parse_args(argv)
    if min(args.records, args.crop_size, args.repetitions) < 1:
        parser.error("--records, --crop-size and --repetitions must be at least 1")

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
            decode()  # meanwhile the layer fills its queue, and is quiet then
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
