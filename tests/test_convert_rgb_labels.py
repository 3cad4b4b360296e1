"""tools/convert_rgb_labels.py: each colour becomes its class; a colour without one is refused."""

import convert_rgb_labels
import numpy as np
import pytest
from small_voc import encode, make_label_map

from gcrf import label_maps, voc


def convert(folder, *arguments):
    """Run the tool on folder/painted and return its exit code; the output is folder/out."""
    command = ["--labels", folder / "painted", "--out", folder / "out", *arguments]
    return convert_rgb_labels.main([str(word) for word in command])


def write(folder, pixels):
    """Write a painted label map."""
    (folder / "painted").mkdir()
    (folder / "painted/a.png").write_bytes(encode(pixels, "PNG"))


def read(folder):
    """Return the converted label map."""
    return label_maps.read_label_map((folder / "out/a.png").read_bytes())


def test_vocs_colours_become_the_indices_they_were_painted_from(tmp_path):
    label_map = make_label_map(np.random.default_rng(0))
    write(tmp_path, voc.palette()[label_map])
    assert convert(tmp_path) == 0
    np.testing.assert_array_equal(read(tmp_path), label_map)


def test_a_table_of_colours_gives_the_classes_by_line(tmp_path):
    """White is ignore, unless the table has it as a class."""
    (tmp_path / "colours.txt").write_text("10 20 30\n1 2 3\n")
    write(tmp_path, np.array([[[1, 2, 3], [10, 20, 30], [255, 255, 255]]], np.uint8))
    assert convert(tmp_path, "--colours", tmp_path / "colours.txt") == 0
    assert read(tmp_path).tolist() == [[1, 0, 255]]


def test_an_unknown_colour_is_named_with_its_place(tmp_path, capsys):
    write(tmp_path, np.array([[[0, 0, 0], [7, 8, 9]]], np.uint8))
    assert convert(tmp_path) == 1
    message = capsys.readouterr().err
    assert "a.png: colour [7, 8, 9] at row 0, column 1 stands for no class" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ["1 2\n", "1 2 300\n", "red green blue\n"])
def test_a_wrong_table_is_refused(table, tmp_path):
    (tmp_path / "colours.txt").write_text(table)
    write(tmp_path, np.zeros((1, 1, 3), np.uint8))
    assert convert(tmp_path, "--colours", tmp_path / "colours.txt") == 1


def test_a_folder_without_label_maps_is_refused(tmp_path, capsys):
    (tmp_path / "painted").mkdir()
    assert convert(tmp_path) == 1
    assert "no PNG files" in capsys.readouterr().err
