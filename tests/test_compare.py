"""tools/compare.py: predictions of several networks side by side."""

import compare
import numpy as np
from PIL import Image
from small_voc import write_voc

from gcrf import voc
from gcrf.runs import SUBMISSION


def test_each_column_shows_its_own_label_maps(tmp_path):
    write_voc(tmp_path, {"val": ["a", "b"]})
    for name, label in (("one", 1), ("two", 2)):
        folder = tmp_path / name / SUBMISSION
        folder.mkdir(parents=True)
        for image_id in "ab":
            Image.fromarray(np.full((5, 7), label, np.uint8)).save(folder / f"{image_id}.png")
    columns = {"first": tmp_path / "one", "second": tmp_path / "two"}
    figure = compare.comparison_figure(tmp_path, ["a", "b"], columns)
    axes = figure.get_axes()
    assert [each.get_title() for each in axes[:4]] == ["image", "truth", "first", "second"]
    for row in (0, 4):
        for offset, label in ((2, 1), (3, 2)):
            shown = axes[row + offset].images[0].get_array()
            np.testing.assert_array_equal(shown, np.tile(voc.palette()[label], (5, 7, 1)))
    shown = axes[5].images[0].get_array()
    truth = np.array(Image.open(tmp_path / "SegmentationClass/b.png"))
    np.testing.assert_array_equal(shown[truth != 255], voc.palette()[truth[truth != 255]])


def test_a_missing_prediction_is_named(tmp_path, capsys):
    write_voc(tmp_path, {"val": ["a"]})
    arguments = ["--root", str(tmp_path), "--ids", "a", "--output", str(tmp_path / "x.png")]
    assert compare.main([*arguments, "--predictions", f"one={tmp_path / 'none'}"]) == 1
    assert f"none/{SUBMISSION}/a.png" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
