"""tools/demo.py: the whole comparison in one command, step by step."""

import json
import os
import sys
from dataclasses import replace

import demo
import pytest

from gcrf import nets, origin, pipeline

SETTINGS = replace(
    nets.SMALL,
    window=7,
    crop_size=65,
    interval=4,
    conv_widths=(4, 4, 4, 4, 4),
    fc_width=8,
    branch_width=4,
    stages={
        name: replace(
            stage,
            batch_size=1,
            max_iter=4,
            weights=stage.weights.replace("phase1_iter_400", "phase1_iter_4"),
        )
        for name, stage in nets.SMALL.stages.items()
    },
)
# tools/train.py, but --small is the network above
TRAIN = "import sys, test_demo, train; train.nets.SMALL = test_demo.SETTINGS; "
TRAIN += "sys.exit(train.main(sys.argv[1:]))"


def test_every_step_runs_a_tool_that_is_there():
    for command in demo.make_steps(origin.ROOT / "demo").values():
        assert os.access(command[0], os.X_OK), command[0]


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """The steps of the demo with thin networks, few iterations and few images."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    steps = demo.make_steps(tmp_path / "demo", SETTINGS, train_images=4, val_images=4)
    steps["train"] = [sys.executable, "-c", TRAIN, *steps["train"][1:]]
    return steps


@pytest.mark.slow
def test_the_whole_demo(steps, tmp_path, capfd):
    folder = tmp_path / "demo"
    mean_iou = pipeline.run(folder, steps)
    assert list(mean_iou) == ["unary", "unary_dense_crf", "gcrf_before_finetuning", "gcrf"]
    assert json.loads((folder / "results.json").read_text()) == mean_iou
    unary, before, after = (
        json.loads((folder / name / "results.json").read_text())
        for name in ("eval_unary", "eval_before", "eval")
    )
    assert mean_iou == {
        "unary": unary["unary"]["mean_iou"],
        "unary_dense_crf": unary["unary_dense_crf"]["mean_iou"],
        "gcrf_before_finetuning": before["network"]["mean_iou"],
        "gcrf": after["network"]["mean_iou"],
    }
    assert len(list((folder / "predictions").glob("*_overlay.jpg"))) == demo.PREDICTED_IMAGES
    page = (folder / "report.html").read_text()
    assert all(f"{value:.2f}" in page for value in mean_iou.values())
    assert f"{mean_iou['gcrf']:.2f}" in capfd.readouterr().out
    assert pipeline.run(folder, steps) == mean_iou  # nothing left to do
    assert capfd.readouterr().out.count(": complete\n") == len(steps)
