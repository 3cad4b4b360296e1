"""SegData in a net against its NumPy twin, bit for bit, and its memory over a long run."""

import io
import os
import zlib
from itertools import islice

import caffe
import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from PIL import Image

from python_layers import seg_data

SIZES = [(37, 53), (64, 48), (20, 80), (90, 21), (48, 48), (16, 16), (33, 70)]  # rows, columns


def encode(pixels, image_format, **options):
    """Return pixels as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def write_database(path, files):
    """Write encoded files, {key: bytes}, as an LMDB of Datum messages."""
    with lmdb.open(str(path), map_size=1 << 28) as database, database.begin(write=True) as writer:
        for key, data in files.items():
            datum = caffe_pb2.Datum(data=data, encoded=True)
            writer.put(key.encode(), datum.SerializeToString())


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """The folder of noise images, in each kind of JPEG that users have, and labels."""
    random = np.random.default_rng(0)
    kinds = [
        {"quality": 95, "subsampling": 0},
        {"quality": 85, "subsampling": 1},
        {"quality": 75, "subsampling": 2},
        {"quality": 75, "progressive": True},
    ]
    images, labels = {}, {}
    for i, (height, width) in enumerate(SIZES):
        key = f"{i:08d}_photo"
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        images[key] = encode(pixels, "JPEG", **kinds[i % len(kinds)])
        labels[key] = encode(random.integers(0, 6, (height, width), np.uint8), "PNG")
    pixels = random.integers(0, 256, (41, 59, 3), np.uint8)
    images["00000008_png"] = encode(pixels, "PNG")
    labels["00000008_png"] = encode(random.integers(0, 6, (41, 59), np.uint8), "PNG")
    images["00000007_grey"] = encode(random.integers(0, 256, (30, 30), np.uint8), "JPEG")
    labels["00000007_grey"] = encode(np.zeros((30, 30), np.uint8), "PNG")
    folder = tmp_path_factory.mktemp("databases")
    write_database(folder / "images", images)
    write_database(folder / "labels", labels)
    return folder


def make_net(folder, parameters, phase):
    """Return a net of one SegData layer and the layer's parameters."""
    layer = caffe_pb2.LayerParameter(name="data", type="SegData", top=["data", "label"])
    text_format.Parse(
        f'image_source: "{folder}/images" label_source: "{folder}/labels" num_classes: 6 '
        + parameters,
        layer.seg_data_param,
    )
    prototxt = folder / "net.prototxt"
    prototxt.write_text(str(caffe_pb2.NetParameter(layer=[layer])))
    return caffe.Net(str(prototxt), phase), layer.seg_data_param


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
@pytest.mark.parametrize(
    "parameters",
    [
        "batch_size: 3 crop_size: 33 mirror: true shuffle: true mean_value: 104.008 "
        "mean_value: 116.669 mean_value: 122.675",
        "batch_size: 5 crop_size: 48 mirror: true shuffle: true seed: 4000000000 mean_value: 99.9",
        "batch_size: 1 mirror: true rand_skip: 1000 seed: 7 prefetch: 1 ignore_label: 0",
        "batch_size: 2 crop_size: 100 ignore_label: 3 prefetch: 7",
        "batch_size: 3 crop_size: 33 mirror: true shuffle: true scale_min: 0.5 scale_max: 2",
        "batch_size: 4 crop_size: 70 mirror: true scale_min: 0.125 scale_max: 8 mean_value: 99.9",
        "batch_size: 2 crop_size: 1 scale_min: 0.3 scale_max: 0.3",
    ],
)
def test_layer_and_twin_give_the_same_batches_over_several_epochs(databases, parameters, phase):
    """Data and labels are equal to the last bit."""
    net, seg_data_param = make_net(databases, parameters, phase)
    stream = seg_data.SegDataStream(seg_data_param, train=phase == caffe.TRAIN)
    for data, label in islice(stream, 30):
        net.forward()
        np.testing.assert_array_equal(net.blobs["data"].data, data)
        np.testing.assert_array_equal(net.blobs["label"].data, label)


@pytest.mark.parametrize("solver_rank", range(3))
def test_layer_and_twin_share_records_alike_among_solvers(databases, solver_rank):
    """Solver r of three reads what the twin says."""
    caffe.set_solver_count(3)
    caffe.set_solver_rank(solver_rank)
    try:
        parameters = "batch_size: 2 crop_size: 25 mirror: true shuffle: true seed: 3"
        net, seg_data_param = make_net(databases, parameters, caffe.TRAIN)
    finally:
        caffe.set_solver_count(1)
        caffe.set_solver_rank(0)
    stream = seg_data.SegDataStream(seg_data_param, True, solver_rank, 3)
    for data, label in islice(stream, 10):
        net.forward()
        np.testing.assert_array_equal(net.blobs["data"].data, data)
        np.testing.assert_array_equal(net.blobs["label"].data, label)


def test_memory_stays_flat_over_ten_thousand_batches(databases):
    """A leak of a hundred bytes per batch would show."""
    parameters = "batch_size: 2 crop_size: 33 mirror: true shuffle: true"
    net, _ = make_net(databases, parameters, caffe.TRAIN)
    page = os.sysconf("SC_PAGESIZE")

    sizes = []
    for batches in (1000, *[2000] * 5):
        for _ in range(batches):
            net.forward()
        with open("/proc/self/statm") as statm:
            sizes.append(int(statm.read().split()[1]) * page)
    # The heap may grow once, when threads first coincide; a leak grows in each part.
    assert min(np.diff(sizes)) < 200_000, sizes


def test_mix_is_splitmix64():
    """The first outputs of splitmix64 from the state 0, as published with its reference code."""
    golden_ratio = 0x9E3779B97F4A7C15
    states = np.array([0, golden_ratio], np.uint64)
    assert seg_data.mix(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_choices_are_even():
    """Each of seven values comes up a seventh of the time, and no two epochs are alike."""
    draws = seg_data.draw(0, 1, np.arange(7000), seg_data.ROW)
    counts = np.bincount([seg_data.below(u, 7) for u in draws], minlength=7)
    assert counts.min() > 900 and counts.max() < 1100
    order = seg_data.epoch_order(0, 0, 100)
    assert sorted(order) == list(range(100))
    assert (order == seg_data.epoch_order(0, 1, 100)).sum() < 10


def test_crop_and_mirror_by_hand():
    """A crop that extends beyond the image, as it is and mirrored."""
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    label = np.array([[1, 2], [3, 4]], np.uint8)
    window = seg_data.Window(slice(0, 2), slice(0, 2), (2, 2), False)
    data, classes = seg_data.crop_and_mirror(image, label, 3, window, mean=[1, 1, 1])
    assert classes.tolist() == [[[1, 2, 255], [3, 4, 255], [255, 255, 255]]]
    assert data[0].tolist() == [[-1, 2, 0], [5, 8, 0], [0, 0, 0]]
    window = window._replace(mirrored=True)
    data, classes = seg_data.crop_and_mirror(image, label, 3, window, ignore_label=9)
    assert classes.tolist() == [[[2, 1, 9], [4, 3, 9], [9, 9, 9]]]
    assert data[2].tolist() == [[5, 2, 0], [11, 8, 0], [0, 0, 0]]


def test_scaling_by_hand():
    """A window of two pixels, shown as four, then as one."""
    image = np.repeat(np.array([[[0], [100]]], np.uint8), 3, axis=2)
    label = np.array([[1, 2]], np.uint8)
    window = seg_data.Window(slice(0, 1), slice(0, 2), (1, 4), False)
    data, classes = seg_data.crop_and_mirror(image, label, 4, window)
    assert data[0, 0].tolist() == [0, 25, 75, 100]
    assert classes[0, 0].tolist() == [1, 1, 2, 2]
    data, classes = seg_data.crop_and_mirror(image, label, 1, window._replace(size=(1, 1)))
    assert (data[0].tolist(), classes[0].tolist()) == ([[50]], [[2]])


@pytest.mark.parametrize(
    "image, crop, factor, expected",
    [
        (100, 40, 1, (40, 40)),
        (30, 40, 1, (30, 30)),
        (100, 40, 2, (20, 40)),
        (100, 41, 2, (21, 41)),  # 20.5 rounded up
        (15, 40, 2, (15, 30)),
        (100, 40, 0.5, (80, 40)),
        (60, 40, 0.5, (60, 30)),
        (1, 40, 0.125, (1, 1)),
        (9, 1, 8, (1, 1)),
    ],
)
def test_window_and_size_along_an_axis(image, crop, factor, expected):
    """m and k of Eq. (3)."""
    assert seg_data.fit_axis(image, crop, int(factor * seg_data.SCALE_ONE)) == expected


def test_no_scaling_leaves_the_stream_as_it_has_always_been(tmp_path):
    """The checksums are from before the layer could scale."""
    random = np.random.default_rng(0)
    files = {str(i): encode(random.integers(0, 6, SIZES[i], np.uint8), "PNG") for i in range(7)}
    for name in ("images", "labels"):
        write_database(tmp_path / name, files)
    parameters = "batch_size: 3 crop_size: 33 mirror: true shuffle: true seed: 5"
    net, _ = make_net(tmp_path, parameters, caffe.TRAIN)
    checksums = {"data": 0, "label": 0}
    for _ in range(20):
        net.forward()
        for name, value in checksums.items():
            checksums[name] = zlib.crc32(net.blobs[name].data.tobytes(), value)
    assert checksums == {"data": 0x5F9363F7, "label": 0xB712045E}


def test_twin_rejects_a_palette_label():
    """It is not turned into colours."""
    palette = Image.fromarray(np.zeros((2, 2), np.uint8)).convert("P")
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    with pytest.raises(ValueError, match="PNG of mode P, expected a greyscale PNG"):
        seg_data.decode_label(buffer.getvalue())
