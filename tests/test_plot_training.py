"""tools/plot_training.py: the plot shows what Caffe logged."""

import json

import cv2
import numpy as np
import plot_training
import pytest
from test_training_log import CSV, LOG

from gcrf import drawing
from gcrf.runs import read_run


@pytest.fixture
def run(tmp_path):
    """The folder of a run with two stages, one without accuracy."""
    (tmp_path / "unary.csv").write_text(CSV)
    (tmp_path / "pretrain_phase1.csv").write_text(CSV.replace(",0.25", ","))
    return tmp_path


def lines(axes):
    """The lines in a panel, {label: [[x, y], ...]}."""
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_each_panel_shows_its_column(run):
    figure = drawing.training_figure(read_run(run))
    loss, _, rate, _, score, no_score = figure.axes
    assert loss.get_title() == "unary"
    assert lines(loss) == {"training": [[0, 2], [20, 1e-5]], "validation": [[10, 1.75]]}
    assert rate.get_lines()[0].get_xydata().tolist() == [[0, 0.01], [20, 1e-5], [20, 1e-5]]
    assert score.get_ylabel() == "accuracy, per cent"
    assert score.get_lines()[0].get_xydata().tolist() == [[10, 25]]
    assert not no_score.axison  # the similarity loss goes without


def test_mean_iou_takes_the_place_of_accuracy(run):
    for iteration, network in ((100, 31.5), (20, 30)):
        folder = run / f"scores/unary_{iteration}"
        folder.mkdir(parents=True)
        results = {"network": {"mean_iou": network}, "unary": {"mean_iou": 25}}
        (folder / "results.json").write_text(json.dumps(results))
    score = drawing.training_figure(read_run(run)).axes[4]
    assert score.get_ylabel() == "mean IoU, per cent"
    assert lines(score) == {"network": [[20, 30], [100, 31.5]], "unary": [[20, 25], [100, 25]]}


def test_what_training_saw_of_its_snapshots_is_drawn_too(tmp_path):
    (tmp_path / "finetune.csv").write_text(
        "iteration,loss,mean_iou,unary_mean_iou,similarity_like,similarity_unlike\n"
        "0,2,,,,\n10,,30,25,0.5,0.25\n20,,32,26,0.25,0.125\n"
    )
    _, _, score, similarity = drawing.training_figure(read_run(tmp_path)).axes
    assert lines(score) == {"network": [[10, 30], [20, 32]], "unary": [[10, 25], [20, 26]]}
    assert lines(similarity) == {
        "equal labels": [[10, 0.5], [20, 0.25]],
        "different labels": [[10, 0.25], [20, 0.125]],
    }


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_command_draws_runs_and_logs(run, suffix):
    (run / "caffe.log").write_text(LOG)
    out = run / f"training{suffix}"
    assert plot_training.main([str(run), str(run / "caffe.log"), "--output", str(out)]) == 0
    if suffix == ".png":
        assert np.ptp(cv2.imread(str(out))) == 255
    else:
        assert "</svg>" in out.read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", "STAGE.csv"), ("other.log", "GLOG_minloglevel=0"), ("none.log", "No such file")],
)
def test_nothing_to_draw_is_an_error(tmp_path, name, expected, capsys):
    (tmp_path / "other.log").write_text("no log of caffe\n")
    assert plot_training.main([str(tmp_path / name), "--output", str(tmp_path / "a.png")]) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_a_picture_of_no_known_kind_is_refused(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        plot_training.main([str(run), "--output", "a.txt"])
    assert "ending with .png .svg .pdf" in capsys.readouterr().err
