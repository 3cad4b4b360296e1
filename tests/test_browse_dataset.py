"""tools/browse_dataset.py: the sheet shows what SegData delivers, and damage is reported."""

import browse_dataset
import cv2
import lmdb
import numpy as np
import prepare_lmdb
import pytest
from caffe.proto import caffe_pb2
from PIL import Image
from small_voc import make_label_map, make_photo, write_voc

from gcrf import drawing, label_maps, records
from gcrf.nets import MEAN_BGR
from python_layers import seg_data

CELL, LINE, ENTRY = browse_dataset.CELL, drawing.LINE, drawing.ENTRY


@pytest.fixture
def split(tmp_path):
    """A prepared split of five records."""
    write_voc(tmp_path / "voc", {"train": list("abcde")})
    out = tmp_path / "out"
    arguments = ["--root", tmp_path / "voc", "--splits", "train", "--out", out]
    assert prepare_lmdb.main(list(map(str, arguments))) == 0
    return out / "train"


def browse(split, path, *options):
    """Return the tool's exit code."""
    return browse_dataset.main([str(split), "--out", str(path), *options])


def replace_record(folder, key, data):
    """Store other bytes under a key of an LMDB."""
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        datum = caffe_pb2.Datum.FromString(transaction.get(key.encode()))
        datum.data = data
        transaction.put(key.encode(), datum.SerializeToString())


@pytest.mark.parametrize("crop_size", [33, 80], ids=["cropped", "padded"])
@pytest.mark.parametrize("seed", range(1, 5))
def test_the_crop_is_the_layers_own(split, crop_size, seed):
    """For every record, at its place in the LMDB, in the first epoch of the layer."""
    parameters = caffe_pb2.SegDataParameter(
        image_source=str(split / "images"),
        label_source=str(split / "labels"),
        batch_size=1,
        crop_size=crop_size,
        mirror=True,
        mean_value=MEAN_BGR,
        seed=seed,
    )
    readers = [records.RecordReader(split / name) for name in ("images", "labels")]
    samples = [browse_dataset.read_record(readers, key) for key in readers[0].keys]
    del readers  # an LMDB can be open only once
    batches = seg_data.SegDataStream(parameters)
    for record, (sample, (data, labels)) in enumerate(zip(samples, batches, strict=False)):
        crop, crop_label = browse_dataset.crop_as_layer(*sample, crop_size, seed, record)
        np.testing.assert_array_equal(crop_label, labels[0, 0])
        expected = data[0].transpose(1, 2, 0) + MEAN_BGR
        np.testing.assert_allclose(crop, expected, atol=0.5)


def test_a_record_is_drawn_as_image_label_and_overlay():
    random = np.random.default_rng(0)
    photo, label_map = make_photo(random), make_label_map(random)
    image, label, overlay, _, _ = browse_dataset.draw_record(photo, label_map, 33, 1, 0)
    np.testing.assert_array_equal(image, photo)
    np.testing.assert_array_equal(label, drawing.colour(label_map))
    np.testing.assert_array_equal(overlay, drawing.overlay(photo, label_map))


def test_shrinking_mixes_no_classes():
    """The colour halfway between those of two classes is often that of a third."""
    label_map = np.zeros((500, 700), np.uint8)
    label_map[:, 1::3], label_map[:, 2::3] = 15, 255
    image, small = browse_dataset.shrink(np.zeros((500, 700, 3), np.uint8), label_map)
    assert image.shape == (*small.shape, 3) == (171, 240, 3)
    assert set(np.unique(small)) == {0, 15, 255}


def test_the_sheet_has_a_row_a_record_and_a_legend_of_their_classes(split, tmp_path):
    for name in ("one.png", "same.png"):
        assert browse(split, tmp_path / name, "--count", "5", "--crop-size", "41") == 0
    sheet, same = (np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "same.png"))
    np.testing.assert_array_equal(sheet, same)
    labels = records.RecordReader(split / "labels")
    seen = set()
    for key in labels.keys:
        seen |= set(np.unique(label_maps.read_label_map(labels.read(key).data)).tolist())
    legend_top = LINE + 5 * (LINE + CELL)
    legend_columns = 5 * CELL // ENTRY
    lines = -(-len(seen) // legend_columns)
    assert sheet.shape == (legend_top + lines * LINE, 5 * CELL, 3)
    for number, index in enumerate(sorted(seen)):
        row, column = divmod(number, legend_columns)
        swatch = sheet[legend_top + row * LINE + LINE // 2, column * ENTRY + 14]
        np.testing.assert_array_equal(swatch, drawing.rgb(drawing.colour(np.uint8(index))))


def test_more_records_than_there_are_show_all_and_a_jpeg_will_do(split, tmp_path):
    assert browse(split, tmp_path / "a.jpg", "--count", "99") == 0
    with Image.open(tmp_path / "a.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.height > LINE + 5 * (LINE + CELL)


def test_a_label_without_a_name_stands_out(split, tmp_path, monkeypatch):
    """prepare_lmdb.py rejects it, but a database made elsewhere may contain one."""
    labels = records.RecordReader(split / "labels")
    wrong = np.full((48, 64), 99, np.uint8)
    key = labels.keys[0]
    del labels
    replace_record(split / "labels", key, cv2.imencode(".png", wrong)[1].tobytes())
    legends = []
    sheet = drawing.sheet
    monkeypatch.setattr(
        drawing,
        "sheet",
        lambda titles, rows, legend, cell: (
            legends.append(legend) or sheet(titles, rows, legend, cell)
        ),
    )
    assert browse(split, tmp_path / "a.png") == 0
    assert (99, "no class!") in legends[0]


@pytest.mark.parametrize("name", ["images", "labels"])
@pytest.mark.parametrize("damage", ["no image", "truncated", "another size"])
def test_a_damaged_record_is_named(split, tmp_path, capsys, name, damage):
    reader = records.RecordReader(split / name)
    key = reader.keys[3]
    data = {
        "no image": b"no image",
        "truncated": reader.read(key).data[:-200],
        "another size": cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes(),
    }[damage]
    del reader
    replace_record(split / name, key, data)
    assert browse(split, tmp_path / "a.png") == 1
    message = capsys.readouterr().err
    assert message.startswith(f"browse_dataset: {split}: record {key}: ")
    assert message.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_a_folder_without_databases_is_named(tmp_path, capsys):
    assert browse(tmp_path, tmp_path / "a.png") == 1
    assert str(tmp_path / "summary.json") in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--out", "a.tiff"], ["--count", "0"], ["--seed", "-1"]])
def test_bad_usage_has_exit_code_2(options, split, tmp_path):
    with pytest.raises(SystemExit) as error:
        browse(split, tmp_path / "a.png", *options)
    assert error.value.code == 2
