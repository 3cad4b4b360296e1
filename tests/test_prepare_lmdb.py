"""tools/prepare_lmdb.py: every byte arrives, every bad file is named, nothing is left half done."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import benchmark_photos
import caffe
import cv2
import numpy as np
import prepare_lmdb
import pytest
from caffe.proto import caffe_pb2
from PIL import Image
from small_voc import encode, image_path, label_path, make_label_map, make_photo, write_voc

from gcrf import images, label_maps, records, voc

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "tools/prepare_lmdb.py"
TRAIN = [f"2008_{number:06d}" for number in range(12)]
VAL = [f"2009_{number:06d}" for number in range(5)]


@pytest.fixture
def root(tmp_path):
    """A small data set with the splits train and val."""
    write_voc(tmp_path / "voc", {"train": TRAIN, "val": VAL})
    return tmp_path / "voc"


def prepare(root, *arguments, splits=("train",)):
    """Run the tool in this process and return its exit code; the output is root/../out."""
    command = ["--root", root, "--out", root.parent / "out", "--splits", *splits, *arguments]
    return prepare_lmdb.main([str(word) for word in command])


def readers(folder):
    """Return the readers of the two LMDBs of a split."""
    return [records.RecordReader(folder / name) for name in ("images", "labels")]


def test_both_databases_hold_every_sample_under_the_same_keys(root):
    """Images keep their bytes; labels keep their indices, in one channel."""
    assert prepare(root, splits=["train", "val"]) == 0
    for split, ids in (("train", TRAIN), ("val", VAL)):
        images, labels = readers(root.parent / "out" / split)
        assert images.keys == labels.keys
        assert sorted(key[9:] for key in images.keys) == ids
        assert [int(key[:8]) for key in images.keys] == list(range(len(ids)))
        for key in images.keys:
            image, label = images.read(key), labels.read(key)
            assert image.data == image_path(root, key[9:]).read_bytes()
            assert (image.channels, image.height, image.width) == (3, 48, 64)
            stored = cv2.imdecode(np.frombuffer(label.data, np.uint8), cv2.IMREAD_UNCHANGED)
            expected = np.asarray(Image.open(label_path(root, key[9:])))
            np.testing.assert_array_equal(stored, expected)
            assert (label.channels, label.height, label.width) == (1, 48, 64)


def test_the_seed_makes_the_order(root, tmp_path):
    """The same seed gives the same order, which is not the list's; another seed gives another."""
    orders = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"out{number}"
        assert prepare(root, "--seed", seed, "--out", out, "--jobs", number + 1) == 0
        orders.append(readers(out / "train")[0].keys)
    assert orders[0] == orders[1] != orders[2]
    assert [key[9:] for key in orders[0]] != TRAIN


def test_the_summary_counts_what_is_stored(root, capsys):
    assert prepare(root) == 0
    summary = json.loads((root.parent / "out/train/summary.json").read_text())
    maps = np.stack([np.asarray(Image.open(label_path(root, name))) for name in TRAIN])
    assert (summary["count"], summary["skipped"]) == (12, 0)
    assert summary["height"] == {"min": 48, "max": 48}
    assert summary["width"] == {"min": 64, "max": 64}
    sizes = [image_path(root, name).stat().st_size for name in TRAIN]
    assert summary["image_bytes"] == sum(sizes)
    assert summary["ignore_share"] == pytest.approx((maps == 255).mean(), abs=1e-6)
    for row in summary["classes"]:
        assert row["pixels"] == (maps == row["index"]).sum()
        assert row["images"] == (maps == row["index"]).any((1, 2)).sum()
    digest = hashlib.sha256(voc.list_path(root, "train").read_bytes()).hexdigest()
    assert summary["list_sha256"] == digest
    printed = capsys.readouterr().out
    assert "train: 12 images" in printed and "background" in printed


def test_a_list_of_pairs_will_do(root, tmp_path):
    """The paths are relative to the root; the key contains the image's."""
    pairs = tmp_path / "pairs.txt"
    pairs.write_text(
        f"JPEGImages/{TRAIN[0]}.jpg SegmentationClass/{TRAIN[0]}.png\n\n"
        f"JPEGImages/{TRAIN[1]}.jpg SegmentationClass/{TRAIN[1]}.png\n"
    )
    assert prepare(root, splits=[f"own={pairs}"]) == 0
    keys = readers(root.parent / "out/own")[0].keys
    assert sorted(key[9:] for key in keys) == [f"JPEGImages/{name}" for name in TRAIN[:2]]


def test_classes_txt_names_the_classes_and_limits_the_labels(root, capsys):
    """With two classes, VOC's other labels are wrong."""
    (root / "classes.txt").write_text("ground\nthing\n")
    assert prepare(root) == 1
    assert "expected 0..1 or 255" in capsys.readouterr().err


def test_png_and_grey_images_keep_their_bytes(root):
    photo = make_photo(np.random.default_rng(3))
    files = {TRAIN[0]: encode(photo, "PNG"), TRAIN[1]: encode(photo[:, :, 0], "JPEG")}
    for name, data in files.items():
        image_path(root, name).write_bytes(data)
    assert prepare(root) == 0
    images = readers(root.parent / "out/train")[0]
    by_name = {key[9:]: images.read(key) for key in images.keys}
    assert {name: by_name[name].data for name in files} == files
    assert [by_name[name].channels for name in files] == [3, 1]


def test_a_dry_run_checks_everything_and_writes_nothing(root, capsys):
    """It reports what a real run would."""
    assert prepare(root, "--dry-run") == 0
    label_path(root, TRAIN[3]).write_bytes(b"")
    assert prepare(root, "--dry-run") == 1
    assert str(label_path(root, TRAIN[3])) in capsys.readouterr().err
    assert os.listdir(root.parent) == ["voc"]


def exif_turned(pixels):
    """Return a JPEG whose EXIF tag asks the reader to turn it by 90 degrees."""
    exif = Image.Exif()
    exif[images.EXIF_ORIENTATION] = 6
    return encode(pixels, "JPEG", exif=exif)


PHOTO = make_photo(np.random.default_rng(2))
LABEL_MAP = make_label_map(np.random.default_rng(2))
WRONG_INDEX = np.where(LABEL_MAP == 0, np.uint8(33), LABEL_MAP)
BAD_FILES = {
    "RGB label": (label_path, encode(PHOTO, "PNG"), "in colours.*convert_rgb_labels"),
    "index": (label_path, encode(WRONG_INDEX, "PNG"), r"label 33 at row 0, .*expected 0\.\.20"),
    "small label": (label_path, encode(LABEL_MAP[:-1], "PNG"), "64 x 47 pixels.*64 x 48"),
    "no label": (label_path, None, "no such file; correct the list"),
    "no image": (image_path, None, "no such file; correct the list"),
    "empty image": (image_path, b"", "empty file"),
    "empty label": (label_path, b"", "empty file"),
    "text": (image_path, b"<html>not found</html>", "neither a JPEG nor a PNG"),
    "GIF": (image_path, encode(LABEL_MAP, "GIF"), "neither a JPEG nor a PNG"),
    "JPEG label": (label_path, encode(LABEL_MAP, "JPEG"), "not a PNG"),
    "half a JPEG": (image_path, encode(PHOTO, "JPEG")[:900], "JPEG"),
    "half a PNG": (image_path, encode(PHOTO, "PNG")[:900], "truncated"),
    "CMYK": (image_path, encode(PHOTO, "JPEG", "CMYK"), "CMYK.*save it as RGB"),
    "turned": (image_path, exif_turned(PHOTO), "EXIF orientation 6, expected 1"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_named_with_the_mend_and_nothing_is_written(kind, root, capsys):
    path, data, message = BAD_FILES[kind]
    path = path(root, TRAIN[7])
    path.unlink() if data is None else path.write_bytes(data)
    assert prepare(root) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if str(path) in line)
    assert line.startswith(f"prepare_lmdb: {path}: ")
    assert re.search(message, line)
    assert os.listdir(root.parent) == ["voc"]


def test_skip_bad_stores_the_rest_and_reports_the_bad(root, capsys):
    """The exit code is still 1, except with --exit-zero."""
    image_path(root, TRAIN[2]).write_bytes(b"")
    label_path(root, TRAIN[5]).unlink()
    assert prepare(root, "--skip-bad") == 1
    out = root.parent / "out"
    images, labels = readers(out / "train")
    assert images.keys == labels.keys
    assert sorted(key[9:] for key in images.keys) == sorted({*TRAIN} - {TRAIN[2], TRAIN[5]})
    skipped = (out / "train/skipped.txt").read_text().splitlines()
    bad = {str(image_path(root, TRAIN[2])), str(label_path(root, TRAIN[5]))}
    assert {line.partition(": ")[0] for line in skipped} == bad
    assert json.loads((out / "train/summary.json").read_text())["skipped"] == 2
    assert "2 bad samples left out" in capsys.readouterr().err
    shutil.rmtree(out)
    assert prepare(root, "--skip-bad", "--exit-zero") == 0


def test_a_split_of_bad_files_only_is_an_error_with_skip_bad_too(root, capsys):
    for name in VAL:
        image_path(root, name).write_bytes(b"")
    assert prepare(root, "--skip-bad", splits=["train", "val"]) == 1
    assert "all of its 5 samples are bad" in capsys.readouterr().err
    assert os.listdir(root.parent) == ["voc"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([TRAIN[0], TRAIN[1], TRAIN[0]], f"{TRAIN[0]} is in line 1 and again in line 3"),
        ([], "the list is empty"),
        (["a b c"], "line 1 has 3 words"),
    ],
)
def test_a_wrong_list_is_refused(lines, message, root, capsys):
    """No file is read before."""
    voc.list_path(root, "train").write_text("\n".join(lines))
    assert prepare(root) == 1
    assert message in capsys.readouterr().err


def test_an_image_in_train_and_val_is_refused(root, capsys):
    """It would be both trained and scored on. A list of pairs is checked too."""
    voc.list_path(root, "val").write_text("\n".join([*VAL, TRAIN[4]]))
    assert prepare(root, splits=["train", "val"]) == 1
    message = capsys.readouterr().err
    assert "1 images stand in both train" in message and TRAIN[4] in message
    pair = root / "pair.txt"
    pair.write_text(f"JPEGImages/{TRAIN[4]}.jpg SegmentationClass/{TRAIN[4]}.png\n")
    assert prepare(root, splits=["train", f"val={pair}"]) == 1
    assert os.listdir(root.parent) == ["voc"]


def test_what_is_there_already_is_kept(root, capsys):
    """A second run is told to remove it first."""
    assert prepare(root) == 0
    before = (root.parent / "out/train/summary.json").stat()
    assert prepare(root, splits=["val"]) == 1
    assert "remove it first" in capsys.readouterr().err
    assert (root.parent / "out/train/summary.json").stat() == before


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--exit-zero"], ["--colour"]])
def test_bad_usage_has_exit_code_2(arguments, root):
    with pytest.raises(SystemExit) as error:
        prepare(root, *arguments)
    assert error.value.code == 2


def corrupt(data, kind, random):
    """Return a damaged copy of an encoded file; flipped: 64 bits of a JPEG, one bit of a PNG."""
    if kind == "truncated":
        return data[: random.integers(1, len(data))]
    if kind == "flipped":
        damaged = bytearray(data)
        is_jpeg = data.startswith(b"\xff\xd8")
        # After the headers of a JPEG: a changed bit in its tables only makes another picture
        first = data.index(b"\xff\xda") if is_jpeg else 0
        for bit in random.integers(8 * first, 8 * len(data), 64 if is_jpeg else 1):
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)
    if kind == "other format":
        pixels = random.integers(0, 9, (48, 64), np.uint8)
        return encode(pixels, ["GIF", "BMP", "TIFF", "PPM"][random.integers(4)])
    return b"" if random.integers(2) else bytes(len(data))


@pytest.mark.slow
def test_500_damaged_files_are_each_named_and_none_is_stored(tmp_path):
    """They are among 300 good ones: images and labels, 125 of each kind."""
    random = np.random.default_rng(5)
    ids = [f"{number:06d}" for number in range(800)]
    root = tmp_path / "voc"
    write_voc(root, {"train": ids})
    kinds = ["truncated", "flipped", "other format", "zero bytes"]
    damaged = {}
    for number, name in enumerate(random.permutation(ids)[:500]):
        path = (image_path, label_path)[number // 4 % 2](root, name)
        path.write_bytes(corrupt(path.read_bytes(), kinds[number % 4], random))
        damaged[name] = path
    assert prepare(root, "--skip-bad") == 1
    skipped = (tmp_path / "out/train/skipped.txt").read_text().splitlines()
    assert {line.partition(": ")[0] for line in skipped} == {str(path) for path in damaged.values()}
    images, labels = readers(tmp_path / "out/train")
    assert images.keys == labels.keys
    assert {key[9:] for key in images.keys} == {*ids} - {*damaged}


@pytest.mark.slow
def test_a_run_killed_at_any_moment_leaves_no_database_or_a_whole_one(tmp_path):
    """SIGKILL at ten random moments of a run; then the next run succeeds."""
    ids = [f"{number:06d}" for number in range(400)]
    write_voc(tmp_path / "voc", {"train": ids})
    out = tmp_path / "out"
    command = [sys.executable, str(TOOL), "--root", str(tmp_path / "voc"), "--out", str(out)]
    command += ["--splits", "train"]

    def run(kill_after=None):
        """Return how long the run took, or None if it was killed."""
        start = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                process.communicate(timeout=kill_after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                return None
        assert process.returncode == 0
        return time.monotonic() - start

    def check_whole():
        for reader in readers(out / "train"):
            assert sorted(key[9:] for key in reader.keys) == ids
            assert all(reader.read(key).data for key in reader.keys)
        assert (out / "train/summary.json").exists()
        shutil.rmtree(out)

    duration = run()
    check_whole()
    killed = 0
    for moment in np.random.default_rng(6).uniform(0, duration, 10):
        killed += run(kill_after=moment) is None
        if out.exists():
            check_whole()
    assert killed >= 5
    run()
    check_whole()
    assert os.listdir(tmp_path) == ["voc"]


def test_caffes_own_data_layer_and_compute_image_mean_read_them(root, tmp_path):
    """They are ordinary Datum records."""
    assert prepare(root) == 0
    folder = tmp_path / "out/train"
    net_path = tmp_path / "net.prototxt"
    net_path.write_text(
        "".join(
            f'layer {{ name: "{name}" type: "Data" top: "{name}" '
            f'data_param {{ source: "{folder / name}" backend: LMDB batch_size: 12 }} }}\n'
            for name in ("images", "labels")
        )
    )
    net = caffe.Net(str(net_path), caffe.TEST)
    net.forward()
    keys = readers(folder)[0].keys
    decoded = [
        (
            cv2.imread(str(image_path(root, key[9:]))).transpose(2, 0, 1),
            np.asarray(Image.open(label_path(root, key[9:])))[None],
        )
        for key in keys
    ]
    np.testing.assert_array_equal(net.blobs["labels"].data, np.stack([pair[1] for pair in decoded]))
    # Two builds of libjpeg differ by rounding
    difference = net.blobs["images"].data - np.stack([pair[0] for pair in decoded])
    assert np.abs(difference).max() <= 3
    command = ["compute_image_mean", str(folder / "images"), str(tmp_path / "mean.binaryproto")]
    command[0] = str(Path(caffe.__file__).parents[2] / "tools/compute_image_mean")
    subprocess.run(command, check=True, capture_output=True)
    blob = caffe_pb2.BlobProto.FromString((tmp_path / "mean.binaryproto").read_bytes())
    mean = np.array(blob.data).reshape(3, 48, 64)
    np.testing.assert_allclose(mean, net.blobs["images"].data.mean(0), atol=3)


@pytest.fixture(scope="module")
def real_photographs(tmp_path_factory):
    """Three photographs of VOC with palette label maps, from Debian's package labelme-examples."""
    cache = ROOT / "build/labelme-examples"
    if not list(cache.glob("*.deb")):
        cache.mkdir(parents=True, exist_ok=True)
        process = subprocess.run(
            ["apt-get", "download", "labelme-examples"], cwd=cache, capture_output=True, check=False
        )
        if process.returncode:
            pytest.skip("the package labelme-examples cannot be had: no apt-get, or no network")
    folder = tmp_path_factory.mktemp("labelme")
    subprocess.run(["dpkg-deb", "-x", next(cache.glob("*.deb")), folder], check=True)
    examples = folder / "usr/share/doc/labelme-examples/examples/instance_segmentation"
    root = folder / "voc"
    root.mkdir()
    shutil.copytree(examples / "data_dataset_voc/JPEGImages", root / "JPEGImages")
    shutil.copytree(examples / "data_dataset_voc/SegmentationClassPNG", root / "SegmentationClass")
    voc.list_path(root, "train").parent.mkdir(parents=True)
    names = sorted(path.stem for path in (root / "JPEGImages").iterdir())
    voc.list_path(root, "train").write_text("\n".join(names) + "\n")
    return root, examples


def test_real_photographs_of_voc_are_stored_with_the_labels_drawn_for_them(real_photographs):
    """The package also has the label maps as arrays: an independent reading."""
    root, examples = real_photographs
    assert prepare(root) == 0
    images, labels = readers(root.parent / "out/train")
    assert len(images.keys) == 3
    for key in images.keys:
        name = key[9:]
        assert images.read(key).data == image_path(root, name).read_bytes()
        array = np.load(examples / f"data_dataset_voc/SegmentationClass/{name}.npy")
        stored = label_maps.decode_grey_png(labels.read(key).data)
        np.testing.assert_array_equal(stored, np.where(array == -1, 255, array))
        assert len(np.unique(stored)) > 1


@pytest.mark.slow
def test_train_aug_is_prepared_in_a_minute(tmp_path, capsys):
    """10582 samples with the size and number of bytes of VOC's, on at most four cores."""
    random = np.random.default_rng(0)
    photos = [benchmark_photos.make_photo(random) for _ in range(100)]
    maps = [benchmark_photos.make_label(random) for _ in range(100)]
    root = tmp_path / "voc"
    ids = [f"2008_{number:06d}" for number in range(10582)]
    write_voc(root, {})
    voc.list_path(root, "train").write_text("\n".join(ids) + "\n")
    for number, name in enumerate(ids):
        image_path(root, name).write_bytes(photos[number % 100])
        label_path(root, name).write_bytes(maps[number % 100])
    start = time.monotonic()
    assert prepare(root) == 0
    seconds = time.monotonic() - start
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("data.mdb")) / 1e6
    with capsys.disabled():
        print(f"\n{len(ids) / seconds:.0f} images/s, {size / seconds:.0f} MB/s, {seconds:.1f} s")
    assert seconds < 60
