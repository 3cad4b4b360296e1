"""The shapes: always the same, valid, and ambiguous where they should be."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import prepare_lmdb
import pytest

from gcrf import label_maps, voc

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "data/shapes"))
import make_shapes  # noqa: E402


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A data set of 20 training and 6 validation images."""
    out = tmp_path_factory.mktemp("shapes") / "voc"
    assert make_shapes.main(["--out", str(out), "--train", "20", "--val", "6"]) == 0
    return out


def test_prepare_lmdb_accepts_every_file_and_finds_every_class(shapes, tmp_path):
    """In both splits, with ignored pixels around the objects."""
    arguments = ["--root", str(shapes), "--splits", "train", "val", "--out", str(tmp_path / "out")]
    assert prepare_lmdb.main(arguments) == 0
    summary = json.loads((tmp_path / "out/train/summary.json").read_text())
    assert summary["count"] == 20
    assert [row["name"] for row in summary["classes"]] == make_shapes.CLASS_NAMES
    assert all(row["images"] > 0 for row in summary["classes"])
    assert 0.02 < summary["ignore_share"] < 0.1
    assert 161 <= summary["height"]["min"] <= summary["height"]["max"] <= 241


def test_the_seed_makes_the_pixels(shapes, tmp_path):
    """Another image in the set changes none of the others; another seed changes all."""
    for name, arguments in (("same", ["--train", "21"]), ("other", ["--seed", "2"])):
        command = ["--out", str(tmp_path / name), "--val", "1", "--train", "20", *arguments]
        assert make_shapes.main(command) == 0
    for number in range(20):
        file = f"JPEGImages/shapes_{number:06d}.jpg"
        assert (shapes / file).read_bytes() == (tmp_path / "same" / file).read_bytes()
        assert (shapes / file).read_bytes() != (tmp_path / "other" / file).read_bytes()


def test_ignored_pixels_border_the_objects_two_or_three_wide():
    """Between two labels there is never a third one."""
    for number in range(10):
        _, label_map = make_shapes.make_sample(np.random.default_rng(number))
        for one, other in ((label_map[1:], label_map[:-1]), (label_map[:, 1:], label_map[:, :-1])):
            differ = (one != other) & (one != 255) & (other != 255)
            assert not differ.any()


def test_the_colour_of_a_body_tells_no_class():
    """Over many objects, the mean colour away from the badge is the same for every class."""
    means = {index: [] for index in range(1, 7)}
    for number in range(60):
        image, label_map = make_shapes.make_sample(np.random.default_rng((9, number)))
        for index in np.unique(label_map):
            if 0 < index < 255:
                means[index].append(np.median(image[label_map == index], axis=0))
    spread = np.std(np.concatenate(list(means.values())), axis=0)
    for colours in means.values():
        error = spread / np.sqrt(len(colours))
        overall = np.mean(np.concatenate(list(means.values())), axis=0)
        assert (np.abs(np.mean(colours, axis=0) - overall) < 4 * error).all()


def test_every_object_shows_its_badge(shapes):
    """So each image shows the classes of its objects."""
    for name in voc.read_ids(voc.list_path(shapes, "train")):
        image = make_shapes.cv2.imread(str(shapes / f"JPEGImages/{name}.jpg"))[:, :, ::-1]
        label_map = label_maps.read_label_map(
            (shapes / f"SegmentationClass/{name}.png").read_bytes()
        )
        for index in set(np.unique(label_map)) - {0, 255}:
            colour = make_shapes.BADGES[make_shapes.CLASS_NAMES[index]]
            distance = np.abs(image.astype(int) - colour).max(2)
            assert (distance[label_map == index] < 40).sum() > 60


def test_bad_usage_has_exit_code_2_and_an_old_folder_is_kept(shapes):
    command = [sys.executable, str(ROOT / "data/shapes/make_shapes.py"), "--out"]
    usage = subprocess.run([*command, "x", "--val", "0"], capture_output=True, check=False)
    assert usage.returncode == 2
    again = subprocess.run([*command, shapes], capture_output=True, text=True, check=False)
    assert again.returncode == 1 and "remove it first" in again.stderr
