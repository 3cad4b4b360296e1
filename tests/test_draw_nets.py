"""tools/draw_nets.py: a box per layer that makes a blob, an arrow per use of one."""

from dataclasses import replace

import draw_nets
import pytest

from gcrf import nets


@pytest.fixture
def dot():
    """The drawing of the small finetune net, as Graphviz reads it."""
    return draw_nets.dot_source(nets.finetune_net(nets.SMALL))


def test_boxes_tell_layers_and_what_works_in_place(dot):
    assert r'"unary/conv1_1" [label="unary/conv1_1\n3 x 3 conv, 8 + ReLU"' in dot
    assert r'"pairwise/fc6" [label="pairwise/fc6\n3 x 3 conv, 64, dilation 12 + ReLU"' in dot
    assert r'"unary/pool5a" [label="unary/pool5a\n3 x 3 average pooling, stride 1"' in dot
    assert r'"scores" [label="scores\nInterp, x 8"' in dot


def test_arrows_join_makers_and_users(dot):
    for start, end in (
        ("data", "unary/conv1_1"),
        ("data", "loss"),
        ("unary/softmax", "gmf2/even"),
        ("gmf1/odd", "gmf2/even"),
        ("similarity", "gmf5/odd"),
        ("compatibility", "gmf5/odd"),
        ("gmf5/odd", "scores"),
    ):
        assert dot.count(f'"{start}" -> "{end}";') == 1


def test_the_test_phase_is_left_out(dot):
    assert "accuracy" not in dot and dot.count("SegData") == 1


def test_missing_graphviz_is_an_error_that_names_the_package(tmp_path, monkeypatch, capsys):
    nets.write(replace(nets.SMALL, output=tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert draw_nets.main([str(tmp_path / "unary.prototxt"), "--output", str(tmp_path)]) == 1
    assert "apt-get install graphviz" in capsys.readouterr().err
