"""tools/make_nets.py: prototxt/ agrees with its definition."""

from dataclasses import replace
from pathlib import Path

import make_nets
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from gcrf import nets
from gcrf.nets import PAPER, SMALL

ROOT = Path(__file__).resolve().parent.parent
NETS = ("unary", "pretrain", "finetune", "deploy", "deploy_unary")


@pytest.fixture
def written(tmp_path):
    """Settings whose files are in a folder of their own."""
    settings = replace(SMALL, output=tmp_path)
    nets.write(settings)
    return settings


def layers(settings, net):
    return nets.messages(settings)[f"{net}.prototxt"].layer


def test_the_files_in_the_repository_are_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert nets.differences(PAPER) == []


def test_a_changed_number_is_a_difference_but_its_spelling_is_not(written):
    path = written.output / "unary_solver.prototxt"
    text = path.read_text()
    path.write_text(text.replace("base_lr: 0.001\n", "base_lr: 0.00100000004750\n"))
    assert path.read_text() != text
    assert nets.differences(written) == []
    path.write_text(text.replace("base_lr: 0.001\n", "base_lr: 0.002\n"))
    assert nets.differences(written) == [f"{path}: differs from its definition"]


def test_missing_broken_and_left_over_files_are_differences(written):
    (written.output / "deploy.prototxt").unlink()
    (written.output / "unary.prototxt").write_text("layer { nmae: 'data' }")
    (written.output / "old.prototxt").write_text("")
    deploy, old, unary = nets.differences(written)
    assert deploy == f"{written.output}/deploy.prototxt: missing"
    assert old == f"{written.output}/old.prototxt: no longer written"
    assert "nmae" in unary


def test_check_ends_with_1_and_says_what_to_run(tmp_path, capsys):
    arguments = ["--output", str(tmp_path), "--small"]
    assert make_nets.main(arguments) == 0
    assert make_nets.main([*arguments, "--check"]) == 0
    assert make_nets.main([*arguments, "--check", "--window", "7"]) == 1
    assert "pretrain.prototxt: differs from its definition; run tools" in capsys.readouterr().err


@pytest.mark.parametrize("net", NETS)
def test_every_layer_is_named_once_and_every_blob_is_its_maker(net):
    seen = set()
    for layer in layers(PAPER, net):
        variants = {"data", "pairwise/filters"}  # for the test phase, for phase 2
        assert layer.name not in seen or layer.name in variants
        seen.add(layer.name)
        made = [top for top in layer.top if top not in layer.bottom]
        assert made in ([], [layer.name], ["data", "label"])


def test_all_nets_call_the_same_parameters_by_the_same_names():
    def learning(net):
        return {
            layer.name for layer in layers(PAPER, net) if layer.type in ("Convolution", "MatrixGen")
        }

    assert learning("deploy") == learning("finetune")
    assert learning("deploy") == learning("unary") | learning("pretrain") | {"compatibility"}
    assert learning("deploy_unary") == learning("unary")
    assert not learning("unary") & learning("pretrain")


def test_small_nets_have_the_topology_of_the_paper_s():
    def topology(settings, net):
        return [
            (layer.type, layer.name, layer.bottom, layer.top)
            for layer in layers(replace(settings, dropout=0), net)
        ]

    for net in NETS:
        assert topology(PAPER, net) == topology(SMALL, net)


def test_files_say_what_wrote_them(written):
    for path in written.output.glob("*.prototxt"):
        assert path.read_text().startswith("# Written by tools/make_nets.py")


def test_arguments_reach_the_nets(tmp_path):
    arguments = "--num-classes 11 --window 7 --gmf-layers 3 --data d --train-split a --test-split b"
    arguments += " --test-images 9 --crop-size 97 --test-size 161 --batch-size 6 --iter-size 3"
    assert make_nets.main(["--output", str(tmp_path), *arguments.split()]) == 0

    def parse(name, message):
        return text_format.Parse((tmp_path / f"{name}.prototxt").read_text(), message)

    net = {}
    for layer in parse("finetune", caffe_pb2.NetParameter()).layer:
        net.setdefault(layer.name, []).append(layer)
    train, test = (layer.seg_data_param for layer in net["data"])
    assert (train.image_source, test.label_source) == ("d/a/images", "d/b/labels")
    assert (train.batch_size, train.crop_size, train.num_classes) == (2, 97, 11)
    assert (test.batch_size, test.crop_size, test.num_classes) == (1, 161, 11)
    assert net["similarity"][0].similarity_param.window == 7
    assert net["gmf3/odd"][0].gmf_param.window == 7 and "gmf4/even" not in net
    assert net["compatibility"][0].matrix_gen_param.num_classes == 11
    for name in ("unary/fc8", "unary/data_ms", "pairwise/filters"):
        assert net[name][0].convolution_param.num_output == 11
    solver = parse("finetune_solver", caffe_pb2.SolverParameter())
    assert (solver.net, solver.iter_size) == (f"{tmp_path}/finetune.prototxt", 3)
    assert list(solver.test_iter) == [9]
    assert solver.snapshot_prefix == f"snapshots/{tmp_path.name}/finetune"


def test_scale_reaches_the_training_data_and_not_the_test_data():
    settings = nets.chosen({"set": ["scale=0.5,2"]})
    for make in (nets.unary_net, nets.pretrain_net, nets.finetune_net):
        layers = make(settings).layer
        train, test = (layer.seg_data_param for layer in layers if layer.name == "data")
        assert (train.scale_min, train.scale_max) == (0.5, 2)
        assert not test.HasField("scale_min") and not test.HasField("scale_max")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--output x --crop-size 320", "crop_size is 320, expected 8k + 1, such as 321"),
        ("--output x --test-size 500", "test_size is 500, expected 8k + 1, such as 497"),
        ("--output x --window 6", "window is 6, expected an odd number of at least 3"),
        ("--output x --iter-size 2", "iter_size 2 does not divide the batch of 15"),
        ("--output x --gmf-layers 0", "0 is below 1"),
        ("--num-classes 11", "give --output"),
    ],
)
def test_bad_arguments_are_refused_with_a_reason(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        make_nets.main(arguments.split())
    assert message in capsys.readouterr().err


def test_set_changes_fields_of_the_settings_and_of_a_stage():
    changes = ["margin=1", "finetune.max_iter=70", "finetune.steps=20,60", "unary.power=0.9"]
    found = nets.chosen({"set": [*changes, "branch_std=none"]})
    assert (found.margin, found.branch_std) == (1.0, None)
    assert (found.stages["finetune"].max_iter, found.stages["finetune"].steps) == (70, (20, 60))
    solver = nets.messages(found)["unary_solver.prototxt"]
    assert (solver.lr_policy, solver.power) == ("poly", pytest.approx(0.9))


def test_set_changes_one_rate_or_all_of_a_stage_in_proportion():
    found = nets.chosen({"set": ["unary.base_lr=5e-4", "finetune.rates.unary=1e-3"]})
    assert found.stages["unary"].rates == {"unary": 5e-4, "score": 5e-3}
    assert found.stages["finetune"].rates == PAPER.stages["finetune"].rates | {"unary": 1e-3}


@pytest.mark.parametrize(
    "text, message",
    [
        ("margin", "expected [STAGE.]FIELD=VALUE"),
        ("margn=1", "no margn, expected one of "),
        ("tune.max_iter=1", "no tune, expected one of unary, pretrain_phase1"),
        ("unary.max_iters=1", "no max_iters, expected one of batch_size, max_iter"),
        ("unary.max_iter=1e3", "invalid literal for int"),
        ("unary.rates.filter=1", "no filter, expected one of unary, score"),
        ("freeze=conv9", "freeze is conv9, expected one of conv1, conv2, conv3, conv4, conv5"),
        ("unary.solver.type=SGD", "expected STAGE.FIELD or STAGE.rates.GROUP"),
        ("scale=2", "scale is (2.0,), expected two factors, such as 0.5,2"),
        ("window=4", "window is 4, expected an odd number"),
    ],
)
def test_set_says_what_is_wrong(text, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        make_nets.main(["--output", str(tmp_path), "--set", text])
    assert message in capsys.readouterr().err


def test_a_light_trunk_is_frozen_and_both_branches_share_it():
    found = layers(nets.LITE, "finetune")
    trunk = [layer for layer in found if layer.name.startswith("trunk/") and layer.param]
    assert len({layer.name for layer in trunk}) == len(trunk) == 1 + 2 + 20 * 3
    assert all(param.lr_mult == 0 for layer in trunk for param in layer.param)
    assert any(layer.name == "pairwise/stage1_conv" for layer in found)


def rates_of(found, part):
    return {param.lr_mult for layer in found if part in layer.name for param in layer.param}


def test_the_upper_blocks_of_a_light_trunk_learn_at_a_rate_of_their_own():
    changes = {"freeze": "block14", "set": ["finetune.rates.trunk=7e-6"]}
    found = layers(nets.chosen({"trunk": nets.LITE.trunk, **changes}), "finetune")
    assert rates_of(found, "trunk/block14/") == rates_of(found, "trunk/stem") == {0}
    assert rates_of(found, "trunk/block15/") == {np.float32(0.01)}


def test_the_lower_blocks_of_vgg_stay_in_both_branches():
    found = layers(nets.chosen({"freeze": "conv2"}), "finetune")
    assert rates_of(found, "/conv1_1") == rates_of(found, "/conv2_2") == {0}
    assert 1.0 in rates_of(found, "/conv3_1")
    assert 1.0 in rates_of(found, "/pool1_conv")


def test_a_size_that_a_trunk_cannot_take_is_refused():
    with pytest.raises(ValueError, match=r"crop_size is 329, expected 16k \+ 1, such as 321"):
        nets.chosen({"trunk": "efficientnet_lite2", "crop_size": 329})
