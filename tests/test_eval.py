"""tools/eval.py: a network scored on a data set in VOC's layout."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import eval as tool
import numpy as np
import pytest
from small_voc import encode, image_path, label_path, make_photo, write_voc
from tiny_nets import write_deploy_nets

from gcrf import dense_crf, label_maps
from gcrf.dense_crf import Parameters
from gcrf.runs import RESULTS, SUBMISSION
from gcrf.scores import TRIMAP, confusion_matrix, measure, trimap
from gcrf.segmenter import UNARY, Segmenter

IDS = [f"2007_{number:06d}" for number in range(12)]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    deploy, weights = write_deploy_nets(tmp_path_factory.mktemp("nets"))
    return ["--deploy", str(deploy), "--weights", str(weights)]


@pytest.fixture
def root(tmp_path):
    write_voc(tmp_path / "VOC", {"val": IDS})
    return tmp_path / "VOC"


def arguments(network, root, *more):
    return [*network, "--root", str(root), "--split", "val", *more]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def dense_crf_file(folder, **changes):
    parameters = Parameters(3, 3, 10, 30, 13, 5)
    dense_crf.save(folder / "dense_crf.json", replace(parameters, **changes), {})
    return folder / "dense_crf.json"


def test_results_are_those_of_the_saved_predictions(network, root, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--output", str(out), "--unary", "--save-predictions"]
    options += ["--dense-crf", str(dense_crf_file(tmp_path))]
    assert tool.main(arguments(network, root, *options)) == 0
    assert list(results(out)) == ["network", "unary", "unary_dense_crf"]
    for name, folder in RESULTS.items():
        saved = out / folder / "VOC2012/Segmentation/comp6_test_cls"
        assert sorted(path.name for path in saved.iterdir()) == [f"{name}.png" for name in IDS]
        total = 0
        for image_id in IDS:
            truth = label_maps.read_label_map(label_path(root, image_id).read_bytes())
            data = (saved / f"{image_id}.png").read_bytes()
            matrix = confusion_matrix(truth, label_maps.read_label_map(data), 21)
            assert results(out)[name]["images"][image_id] == measure(matrix)["mean_iou"]
            total = total + matrix
        assert results(out)[name]["confusion"] == total.tolist()
        assert measure(total).items() <= results(out)[name].items()
        assert (out / f"confusion_{name}.png").read_bytes().startswith(b"\x89PNG")
    confusions = [str(result["confusion"]) for result in results(out).values()]
    assert len(set(confusions)) == 3
    table = capsys.readouterr().out
    assert "12 images" in table and "network" in table and "unary" in table
    absent = results(out)["network"]["absent_classes"]
    assert absent and f"nor the predictions: {', '.join(absent)}" in table
    assert f"{results(out)['network']['mean_iou']:.2f}" in table


def test_the_trimap_counts_only_pixels_near_borders(network, root, tmp_path):
    out = tmp_path / "out"
    assert tool.main(arguments(network, root, "--output", str(out), "--save-predictions")) == 0
    totals = dict.fromkeys(TRIMAP, 0)
    for image_id in IDS:
        truth = label_maps.read_label_map(label_path(root, image_id).read_bytes())
        saved = out / "results" / SUBMISSION / f"{image_id}.png"
        prediction = label_maps.read_label_map(saved.read_bytes())
        for width, band in trimap(truth).items():
            totals[width] = totals[width] + confusion_matrix(band, prediction, 21)
    assert results(out)["network"]["trimap"] == {
        str(width): {key: measure(total)[key] for key in ("mean_iou", "pixel_accuracy")}
        for width, total in totals.items()
    }
    assert totals[1].sum() < totals[20].sum() <= np.sum(results(out)["network"]["confusion"])


def test_predictions_are_the_segmenters(network, root, tmp_path):
    assert (
        tool.main(arguments(network, root, "--output", str(tmp_path / "out"), "--save-predictions"))
        == 0
    )
    image = cv2.imread(str(image_path(root, IDS[3])))
    path = tmp_path / "out/results" / SUBMISSION / f"{IDS[3]}.png"
    expected = Segmenter(network[1], network[3]).predict(image)
    np.testing.assert_array_equal(label_maps.read_label_map(path.read_bytes()), expected)


def test_the_dense_crf_refines_the_averaged_unary(network, root, tmp_path):
    path = dense_crf_file(tmp_path)
    options = ["--output", str(tmp_path / "out"), "--unary", "--mirror", "--save-predictions"]
    assert tool.main(arguments(network, root, *options, "--dense-crf", str(path))) == 0
    image = cv2.imread(str(image_path(root, IDS[3])))
    unary = Segmenter(network[1], network[3], mirror=True).scores(image, [UNARY])[0]
    expected = dense_crf.refine(unary, image, dense_crf.load(path))
    saved = tmp_path / "out/results_unary_dense_crf" / SUBMISSION / f"{IDS[3]}.png"
    np.testing.assert_array_equal(label_maps.read_label_map(saved.read_bytes()), expected)


def test_a_dense_crf_needs_the_unary_and_good_parameters(network, root, tmp_path, capsys):
    command = arguments(network, root, "--output", str(tmp_path / "out"), "--dense-crf")
    with pytest.raises(SystemExit) as exit_status:
        tool.main([*command, str(dense_crf_file(tmp_path))])
    assert exit_status.value.code == 2 and "give --unary too" in capsys.readouterr().err
    (tmp_path / "dense_crf.json").write_text("{}")
    assert tool.main([*command, str(tmp_path / "dense_crf.json"), "--unary"]) == 1
    assert f"eval: {tmp_path / 'dense_crf.json'}: expected" in capsys.readouterr().err


def test_pairs_of_paths_and_class_names_of_ones_own(tmp_path, root):
    own = write_deploy_nets(tmp_path / "nets", num_classes=3)
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    (root / "list.txt").write_text("JPEGImages/2007_000000.jpg own/a.png\n")
    truth = np.zeros((48, 64), np.uint8)
    (root / "own").mkdir()
    (root / "own/a.png").write_bytes(label_maps.encode_grey_png(truth))
    command = ["--deploy", str(own[0]), "--weights", str(own[1]), "--root", str(root)]
    command += ["--list", str(root / "list.txt"), "--output", str(tmp_path / "out")]
    assert tool.main(command) == 0
    assert results(tmp_path / "out")["network"]["classes"] == ["sky", "road", "car"]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_results(network, root, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert tool.main(arguments(network, root, "--output", str(whole))) == 0
    script = Path(tool.__file__)
    slow = (  # the tool itself, on images that take a while
        "import sys, time, runpy\n"
        "from gcrf import segmenter\n"
        "quick = segmenter.Segmenter.scores\n"
        "def scores(*a):\n    time.sleep(0.3)\n    return quick(*a)\n"
        "segmenter.Segmenter.scores = scores\n"
        f"sys.argv = [{str(script)!r}, *sys.argv[1:]]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = arguments(network, root, "--output", str(killed))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", slow, *command], env=environment)
    lines, deadline = killed / "images.jsonl", time.monotonic() + 60
    while not lines.exists() or lines.read_text().count("\n") < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = lines.read_text().count("\n") - 1
    assert 3 <= done < len(IDS)
    with lines.open("a") as file:
        file.write('{"id": "2007_0000')  # as if killed while it wrote
    image_path(root, IDS[0]).unlink()  # nothing is scored twice
    assert tool.main([*command, "--resume"]) == 0
    assert (killed / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_earlier_results_are_neither_lost_nor_mixed(network, root, tmp_path, capsys):
    command = arguments(network, root, "--output", str(tmp_path / "out"), "--unary")
    command += ["--dense-crf", str(dense_crf_file(tmp_path))]
    assert tool.main(command) == 0
    before = (tmp_path / "out/images.jsonl").read_bytes()
    assert tool.main(command) == 1
    assert "continue with --resume" in capsys.readouterr().err
    assert tool.main([*command, "--resume", "--mirror"]) == 1
    assert "was made with a different mirror" in capsys.readouterr().err
    path = dense_crf_file(tmp_path, iterations=9)
    assert tool.main([*command, "--resume", "--dense-crf", str(path)]) == 1
    assert "was made with a different dense_crf:" in capsys.readouterr().err
    assert (tmp_path / "out/images.jsonl").read_bytes() == before


def break_files(root):
    """Break five samples; return what the tool should say about them."""
    image_path(root, IDS[1]).write_bytes(b"no image")
    data = image_path(root, IDS[3]).read_bytes()
    image_path(root, IDS[3]).write_bytes(data[: len(data) // 2])
    label_path(root, IDS[5]).unlink()
    label_path(root, IDS[7]).write_bytes(encode(make_photo(np.random.default_rng(0)), "PNG"))
    wrong = label_maps.encode_grey_png(np.full((48, 64), 77, np.uint8))
    label_path(root, IDS[9]).write_bytes(wrong)
    small = label_maps.encode_grey_png(np.zeros((47, 64), np.uint8))
    label_path(root, IDS[11]).write_bytes(small)
    return {
        image_path(root, IDS[1]): "neither a JPEG nor a PNG",
        image_path(root, IDS[3]): "",
        label_path(root, IDS[5]): "no such file",
        label_path(root, IDS[7]): "label map in colours",
        label_path(root, IDS[9]): "truth has the labels [77]",
        label_path(root, IDS[11]): "truth is (47, 64), prediction (48, 64)",
    }


def test_bad_files_are_named_and_the_others_kept(network, root, tmp_path, capsys):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert tool.main(arguments(network, root, "--output", str(whole))) == 0
    good = {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file()}
    messages = break_files(root)
    command = arguments(network, root, "--output", str(out))
    capsys.readouterr()
    assert tool.main(command) == 1
    printed = capsys.readouterr()
    for path, message in messages.items():
        assert f"eval: {path}: {message}" in printed.err
    assert "6 of 12 images are bad" in printed.err
    assert not printed.out and not (out / "results.json").exists()  # no score of an incomplete set
    assert (out / "images.jsonl").read_text().count("\n") == 1 + 6
    for path, data in good.items():
        path.write_bytes(data)
    assert tool.main([*command, "--resume"]) == 0
    assert (out / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_another_number_of_classes_is_refused(network, root, tmp_path, capsys):
    (root / "classes.txt").write_text("a\nb\n")
    assert tool.main(arguments(network, root, "--output", str(tmp_path / "out"))) == 1
    assert "has 21 classes, the data set" in capsys.readouterr().err


def test_an_ignored_image_counts_nothing(network, root, tmp_path):
    ignored = label_maps.encode_grey_png(np.full((48, 64), 255, np.uint8))
    label_path(root, IDS[0]).write_bytes(ignored)
    assert tool.main(arguments(network, root, "--output", str(tmp_path / "out"))) == 0
    images = results(tmp_path / "out")["network"]["images"]
    assert images[IDS[0]] is None and images[IDS[1]] is not None
