"""tools/score_snapshots.py: the mean IoU of every snapshot of a run."""

import score_snapshots
from small_voc import write_voc
from tiny_nets import random_net, replace

from gcrf import nets, runs


def test_each_snapshot_is_scored_once(tmp_path, capsys):
    nets.write(replace(nets.SMALL, output=tmp_path / "nets", num_classes=21, window=7))
    (tmp_path / "snapshots").mkdir()
    for iteration in (100, 20):
        random_net(tmp_path / "nets/deploy_unary.prototxt", seed=iteration).save(
            str(tmp_path / f"snapshots/unary_iter_{iteration}.caffemodel")
        )
    write_voc(tmp_path / "VOC", {"val": ["a", "b"]})
    command = [str(tmp_path), "--root", str(tmp_path / "VOC")]
    assert score_snapshots.main(command) == 0
    printed = capsys.readouterr().out
    points = runs.read_scores(tmp_path, "unary")["network"]
    assert printed == "".join(
        f"unary {i}: mean IoU of network {score:.2f}\n" for i, score in points
    )
    assert [iteration for iteration, _ in points] == [20, 100]
    assert points[0][1] != points[1][1]

    (tmp_path / "VOC/JPEGImages/a.jpg").unlink()  # nothing is scored twice
    assert score_snapshots.main(command) == 0
    assert capsys.readouterr().out == printed


def test_a_run_without_snapshots_is_an_error(tmp_path, capsys):
    assert score_snapshots.main([str(tmp_path), "--root", str(tmp_path)]) == 1
    assert "expected" in capsys.readouterr().err
