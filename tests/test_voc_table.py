"""tools/voc_table.py: tables of several runs, from folders as tools/voc_lite.py leaves them."""

import json
import shutil

import numpy as np
import pytest
import voc_table

from gcrf.scores import TRIMAP, measure

# Of ten pixels of each of two classes, those that are right
RIGHT = {"unary": 6, "unary_dense_crf": 7, "before": 5, "gcrf_unary": 6, "gcrf": 8}
IMAGES = ("a", "b", "c")
PAGE = "# VOC\n\n<!-- results: begin -->\n<!-- results: end -->\n\n## More\n"
SETTINGS = {"output": "x", "window": 23, "finetune.max_iter": 4}


def result(right, gains=(0, 0, 0)):
    """What tools/eval.py writes for a method of which so many of ten pixels are right."""
    found = measure([[right, 10 - right], [10 - right, right]])
    near = {str(width): {"mean_iou": found["mean_iou"] - width} for width in TRIMAP}
    images = {name: 50 + gain for name, gain in zip(IMAGES, gains, strict=True)}
    return found | {"trimap": near, "images": images, "classes": ["ground", "cat"]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_run(folder, seed=1, more=0, **settings):
    """A folder of tools/voc_lite.py, in which the GCRF has `more` pixels right."""
    write(folder / "run/settings.json", SETTINGS | {"seed": seed} | settings)
    for stage, iterations in (("unary", 2), ("finetune", 4)):
        write(folder / f"run/{stage}.csv", f"iteration,seconds,loss\n{iterations},120.0,1\n")
    conditions = {"root": "VOC", "labels": "Labels", "scales": [1.0], "mirror": False}
    results = {
        "eval_unary": {name: result(RIGHT[name]) for name in ("unary", "unary_dense_crf")},
        "eval_before": {"network": result(RIGHT["before"])},
        "eval": {
            "network": result(RIGHT["gcrf"] + more, gains=(-3, 1, 30)),
            "unary": result(RIGHT["gcrf_unary"]),
        },
    }
    for name, found in results.items():
        write(folder / name / "results.json", found)
        write(folder / name / "images.jsonl", json.dumps(conditions) + "\n")
    step = {"command": f"tune --seed {seed}", "seconds": 60.0 * seed}
    write(folder / "steps.json", {"dense CRF": step | {"commit": "abc", "machine": "a box"}})
    seconds = {"unary": 0.25, "unary_dense_crf": 1.25, "gcrf": 0.3}
    write(folder / "timing.json", {"machine": "a box", "images": 20, "seconds": seconds})
    return folder


def make(tmp_path, *arguments):
    """Return (exit code, text of the page)."""
    page = tmp_path / "voc.md"
    page.write_text(PAGE)
    return voc_table.main([*map(str, arguments), "--page", str(page)]), page.read_text()


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path / "1", 1), write_run(tmp_path / "2", 2, more=1)]


def rows(page, name):
    """The cells of the rows of a page that begin with a name, from its first table on."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells[1:]] for cells in lines if cells[0].strip() == name]


def test_means_and_spreads_over_two_seeds_by_hand(runs, tmp_path):
    code, page = make(tmp_path, *runs)
    assert code == 0
    # Of 8 of 10 right pixels in both classes, IoU 8/12; of 9, 9/11; of 6, 6/14; of 7, 7/13
    assert rows(page, "unary")[0] == ["42.86 (42.86 to 42.86)", "", "", "60.00 (60.00 to 60.00)"]
    assert rows(page, "unary + dense CRF")[0][1:3] == ["+10.99 (+10.99 to +10.99)", ""]
    assert rows(page, "GCRF")[0] == [
        "74.24 (66.67 to 81.82)",
        "+31.39 (+23.81 to +38.96)",
        "+20.40 (+12.82 to +27.97)",
        "85.00 (80.00 to 90.00)",
    ]
    near = [74.2424 - width for width in TRIMAP]
    assert rows(page, "GCRF")[1] == [f"{value:.2f}" for value in near]
    assert rows(page, "cat") == [["42.9", "53.8", "33.3", "42.9", "74.2", "+31.4"]]
    assert "2 runs, seeds 1, 2, scored on 3 images" in page
    assert page.endswith("<!-- results: end -->\n\n## More\n")


def test_a_class_that_does_not_occur_has_no_iou(runs, tmp_path):
    for run in runs:
        found = json.loads((run / "eval/results.json").read_text())
        found["network"]["iou"][1] = None
        write(run / "eval/results.json", found)
    _, page = make(tmp_path, *runs)
    assert rows(page, "cat") == [["42.9", "53.8", "33.3", "42.9", "-", "-"]]


def test_times_commands_and_origin(runs, tmp_path):
    _, page = make(tmp_path, *runs)
    assert rows(page, "finetune") == [["4", "2.00 (2.00 to 2.00)"]]
    assert rows(page, "dense CRF, tuning") == [["", "1.50 (1.00 to 2.00)"]]
    assert rows(page, "unary + dense CRF")[-1] == ["1.25 (1.25 to 1.25)"]
    assert "Commit abc; a box. The steps of the first run:\n\n    tune --seed 1\n" in page
    assert f"By `tools/voc_table.py {runs[0]} {runs[1]} --page " in page


def test_one_run_has_no_spread(runs, tmp_path):
    _, page = make(tmp_path, runs[0])
    assert rows(page, "GCRF")[0] == ["66.67", "+23.81", "+12.82", "80.00"]


def test_the_histogram_counts_every_image_once():
    lines = voc_table.histogram(np.array([-30, -20, -0.4, 0, 0, 3, 25])).splitlines()
    counts = {line[:15].strip(): int(line[15:22]) for line in lines}
    assert {name: count for name, count in counts.items() if count} == {
        **{"below -20": 1, "-20 to -10": 1, "-0.5 to +0.5": 3, "+2 to +5": 1, "+20 and more": 1},
    }
    assert [line.count("#") for line in lines if "-0.5 to +0.5" in line] == [50]


def test_an_ablation_names_what_differs(runs, tmp_path):
    other = write_run(tmp_path / "window7", 1, more=-2, window=7)
    shutil.rmtree(write_run(tmp_path / "same", 1) / "eval_unary")
    _, page = make(tmp_path, runs[0], "--ablations", other, tmp_path / "same")
    assert rows(page, "as above") == [["42.86", "53.85", "42.86", "66.67", "80.00"]]
    assert rows(page, "window = 7") == [["42.86", "53.85", "42.86", "42.86", "60.00"]]
    assert rows(page, "the same") == [["", "", "42.86", "66.67", "80.00"]]


def test_runs_that_differ_in_more_than_the_seed_are_refused(runs, tmp_path, capsys):
    write_run(tmp_path / "3", 3, window=7)
    code, page = make(tmp_path, *runs, tmp_path / "3")
    assert code == 1 and page == PAGE
    assert f"{tmp_path / '3'} and {runs[0]} differ in window: give" in capsys.readouterr().err


def test_what_is_missing_is_named(runs, tmp_path, capsys):
    (runs[1] / "timing.json").unlink()
    assert make(tmp_path, *runs)[0] == 1
    assert f"no file {runs[1] / 'timing.json'}; tools/voc_lite.py writes it" in (
        capsys.readouterr().err
    )
