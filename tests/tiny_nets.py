"""Networks thin enough to run in a blink, and a data set of two images to train on."""

from dataclasses import replace

import caffe
import cv2
import lmdb
import numpy as np
from caffe.proto import caffe_pb2

from gcrf import nets

SMALL_IMAGES = {"crop_size": 65, "test_size": 65}


def write_split(folder, num_classes, size=129, num_images=2):
    """Write LMDBs folder/images and folder/labels as tools/prepare_lmdb.py does."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, encoding, channels, maximum in (
        ("images", ".jpg", 3, 256),
        ("labels", ".png", 1, num_classes),
    ):
        with lmdb.open(str(folder / name)) as database, database.begin(write=True) as writer:
            for index in range(num_images):
                coarse = rng.integers(0, maximum, (5, 5, channels), np.uint8)
                pixels = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_NEAREST)
                datum = caffe_pb2.Datum(data=cv2.imencode(encoding, pixels)[1].tobytes())
                datum.encoded = True
                writer.put(str(index).encode(), datum.SerializeToString())


def without_weights(stages, **changes):
    """The stages with changes, starting from the nets' fillers instead of a file."""
    return {name: replace(stage, weights="", **changes) for name, stage in stages.items()}


def tiny_settings(folder, base=nets.SMALL, **changes):
    """Write nets and a data set of two images per split to folder, and return their settings."""
    settings = replace(
        base,
        output=folder / "nets",
        snapshots=folder,
        data=folder / "data",
        **{"stages": without_weights(base.stages), **changes},
    )
    for split in (settings.train_split, settings.test_split):
        write_split(settings.data / split, settings.num_classes)
    nets.write(settings)
    return settings


def random_net(path, seed=0):
    """Return the deploy net of a file with random parameters and a random image in it."""
    rng = np.random.default_rng(seed)
    net = caffe.Net(str(path), caffe.TEST)
    for blobs in net.params.values():
        fan_in = max(1, blobs[0].data[0].size)
        for blob in blobs:
            blob.data[...] = rng.normal(size=blob.data.shape) * (2 / fan_in) ** 0.5
    net.blobs["data"].data[...] = rng.normal(size=net.blobs["data"].data.shape) * 50
    return net


def write_deploy_nets(folder, num_classes=21):
    """Write the tiny deploy nets with random weights to folder; return the paths of both."""
    settings = replace(nets.SMALL, output=folder, num_classes=num_classes, test_size=65, window=7)
    nets.write(settings)
    deploy, weights = folder / "deploy.prototxt", folder / "random.caffemodel"
    net = random_net(deploy)
    net.params["pairwise/filters"][0].data[...] *= 0.01  # similarities between 0 and 1, not all 0
    net.save(str(weights))
    return deploy, weights
