"""tools/convert_sbd.py on .mat files with the structure of SBD's."""

import re

import convert_sbd
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from small_voc import label_path, write_voc

from gcrf import label_maps

VOC_IDS = ["2007_000032", "2007_000039"]
SBD_IDS = ["2007_000032", "2008_000002", "2008_000003", "2008_000007"]


def write_mat(path, label_map):
    """Write a label map as SBD does: a struct with 20 sparse boundaries and the segmentation."""
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = scipy.sparse.csc_matrix(label_map == index + 1)
    present = np.unique(label_map[label_map > 0])[:, None]
    ground_truth = {
        "Boundaries": boundaries,
        "Segmentation": label_map,
        "CategoriesPresent": present,
    }
    scipy.io.savemat(path, {"GTcls": ground_truth}, do_compression=True)


@pytest.fixture
def folders(tmp_path):
    """SBD's dataset folder and VOC's, which share one image."""
    write_voc(tmp_path / "voc", {"train": VOC_IDS})
    (tmp_path / "sbd/cls").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in SBD_IDS:
        label_map = np.zeros((30, 40), np.uint8)
        label_map[5:20, 10:35] = random.integers(1, 21)
        write_mat(tmp_path / f"sbd/cls/{name}.mat", label_map)
    return tmp_path / "sbd", tmp_path / "voc"


def convert(sbd, voc, *arguments):
    """Run the tool and return its exit code."""
    return convert_sbd.main(["--sbd", str(sbd), "--voc", str(voc), *arguments])


def test_vocs_own_label_maps_are_kept_and_sbds_serve_the_other_images(folders):
    sbd, voc = folders
    assert convert(sbd, voc, "--jobs", "2") == 0
    out = voc / "SegmentationClassAug"
    assert sorted(path.stem for path in out.iterdir()) == sorted({*VOC_IDS, *SBD_IDS})
    for name in VOC_IDS:
        assert (out / f"{name}.png").read_bytes() == label_path(voc, name).read_bytes()
    for name in SBD_IDS[1:]:
        stored = scipy.io.loadmat(sbd / f"cls/{name}.mat")["GTcls"][0, 0]["Segmentation"]
        converted = label_maps.read_label_map((out / f"{name}.png").read_bytes())
        np.testing.assert_array_equal(converted, stored)
        assert set(np.unique(converted)) == {0, stored.max()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a mat file", "no GTcls.Segmentation"),
        ({"GTinst": np.zeros((2, 2))}, "no GTcls.Segmentation"),
        ({"GTcls": {"Segmentation": np.zeros((2, 2))}}, r"float64 \(2, 2\), expected uint8"),
        ({"GTcls": {"Segmentation": np.full((2, 2), 21, np.uint8)}}, "label 21 at row 0"),
    ],
)
def test_a_wrong_file_is_named_and_nothing_is_written(content, message, folders, capsys):
    sbd, voc = folders
    path = sbd / f"cls/{SBD_IDS[2]}.mat"
    path.write_bytes(content) if isinstance(content, bytes) else scipy.io.savemat(path, content)
    assert convert(sbd, voc, "--jobs", "1") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(path) in error and re.search(message, error)
    assert not (voc / "SegmentationClassAug").exists()


def test_a_wrong_folder_is_named(folders, tmp_path, capsys):
    _, voc = folders
    assert convert(tmp_path, voc) == 1
    assert "correct --voc or --sbd" in capsys.readouterr().err
