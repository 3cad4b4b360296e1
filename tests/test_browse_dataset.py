"""browse_dataset: the sheet shows the records, and damage is named."""

import browse_dataset
import label_maps
import numpy as np
import prepare_lmdb
import pytest
import records
import voc
from PIL import Image
from small_voc import make_label_map, make_photo, write_voc


@pytest.fixture
def split(tmp_path):
    """A prepared split of five records."""
    write_voc(tmp_path / "voc", {"train": list("abcde")})
    out = tmp_path / "out"
    assert (
        prepare_lmdb.main(["--root", str(tmp_path / "voc"), "--splits", "train", "--out", str(out)])
        == 0
    )
    return out / "train"


def test_a_row_shows_the_image_its_label_and_a_crop_of_both():
    """The crop is padded: the mean colour beside ignored pixels, which are white."""
    random = np.random.default_rng(0)
    photo, label_map = make_photo(random), make_label_map(random)
    pictures = browse_dataset.draw_record(photo, label_map, 80, seed=1)
    assert [picture.shape for picture in pictures] == [(48, 64, 3)] * 3 + [(80, 80, 3)] * 2
    image, label, overlay, crop, crop_label = pictures
    np.testing.assert_array_equal(image, photo)
    assert (label[label_map == 255] == 255).all()
    np.testing.assert_array_equal(label[label_map == 0], 0)
    np.testing.assert_array_equal(overlay[label_map == 0], photo[label_map == 0])
    assert (overlay[label_map > 0] != photo[label_map > 0]).any()
    assert (crop[60, 70] == np.round(browse_dataset.MEAN_BGR)).all()
    assert (crop_label[60, 70] == 255).all()
    shown = crop[:48, :64]
    assert (shown == photo).all() or (shown == photo[:, ::-1]).all()


def test_the_sheet_is_written_with_a_legend_of_its_classes(split, tmp_path):
    """As many rows as records were asked for; the same seed gives the same sheet."""
    sheets = []
    for name in ("one.png", "same.png"):
        arguments = [str(split), "--out", str(tmp_path / name), "--count", "3", "--crop-size", "41"]
        assert browse_dataset.main(arguments) == 0
        sheets.append(np.asarray(Image.open(tmp_path / name)))
    np.testing.assert_array_equal(*sheets)
    cell, text = browse_dataset.CELL, browse_dataset.TEXT
    assert sheets[0].shape[1] == 5 * cell
    assert 3 * (cell + text) < sheets[0].shape[0] < 3 * (cell + text) + 5 * text
    colours = {tuple(pixel) for pixel in sheets[0][-4 * text :].reshape(-1, 3)}
    labels = records.RecordReader(split / "labels")
    seen = set()
    for key in labels.keys:
        seen |= set(np.unique(label_maps.read_label_map(labels.read(key).data)))
    assert any(tuple(voc.palette()[index]) in colours for index in seen - {0, 255})


def test_more_records_than_there_are_show_all(split, tmp_path):
    """No error for a small data set."""
    assert browse_dataset.main([str(split), "--out", str(tmp_path / "a.jpg"), "--count", "99"]) == 0
    height = Image.open(tmp_path / "a.jpg").height
    assert height > 5 * (browse_dataset.CELL + browse_dataset.TEXT)


def test_a_folder_without_databases_is_named(tmp_path, capsys):
    """With exit code 1."""
    assert browse_dataset.main([str(tmp_path), "--out", str(tmp_path / "a.png")]) == 1
    assert str(tmp_path / "summary.json") in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--out", "a.tiff"], ["--out", "a.png", "--count", "0"]])
def test_bad_usage_has_exit_code_2(options, split):
    """As every tool's."""
    with pytest.raises(SystemExit) as error:
        browse_dataset.main([str(split), *options])
    assert error.value.code == 2
