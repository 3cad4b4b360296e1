"""`caffe train` on a fresh checkout: a newcomer's first command ends in one clear line."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMAGES = "data/voc_lmdb/train_aug/images"
LABELS = "data/voc_lmdb/train_aug/labels"
SOLVERS_AND_WEIGHTS = {
    "unary": "unary_init",
    "pretrain_phase1": "gcrf_init",
    "pretrain_phase2": "pretrain_phase1_iter_8000",
    "finetune": "finetune_init",
}


@pytest.fixture
def checkout(tmp_path):
    """A folder with the prototxts and the place for snapshots, like a fresh checkout."""
    shutil.copytree(ROOT / "prototxt", tmp_path / "prototxt")
    (tmp_path / "snapshots").mkdir()
    return tmp_path


def train(folder, solver, *options):
    """Return the exit code of `caffe train` in a folder, and what it prints with its log off."""
    result = subprocess.run(
        ["caffe", "train", "-solver", solver, *options],
        cwd=folder,
        env={**os.environ, "GLOG_minloglevel": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return result.returncode, result.stdout


@pytest.mark.parametrize("stage", SOLVERS_AND_WEIGHTS)
def test_it_says_which_file_is_missing_and_what_makes_it(checkout, stage):
    solver = f"prototxt/{stage}_solver.prototxt"
    for file, word in ((IMAGES, "images"), (LABELS, "label maps")):
        code, said = train(checkout, solver)
        assert code == 1
        assert said == (
            f"caffe train: {file}, the LMDB of {word}, not found (in folder {checkout}): "
            "tools/prepare_lmdb.py makes it from images and label maps; data/README.md has the "
            "commands for PASCAL VOC\n"
        )
        (checkout / file).mkdir(parents=True)
    code, said = train(checkout, solver)
    assert code == 1
    assert said == (
        f"caffe train: snapshots/{SOLVERS_AND_WEIGHTS[stage]}.caffemodel, the weights to start "
        f"from, not found (in folder {checkout}): the stage before or tools/init_weights.py "
        "makes it; tools/train.py runs all stages in order\n"
    )


def test_in_another_folder_it_says_that_the_nets_path_is_relative(checkout, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    solver = checkout / "prototxt/finetune_solver.prototxt"
    code, said = train(tmp_path / "elsewhere", solver)
    assert code == 1
    assert said == (
        "caffe train: prototxt/finetune.prototxt, the solver's net, not found (in folder "
        f"{tmp_path}/elsewhere): start caffe in the folder that this path is relative to\n"
    )


def test_the_weights_of_the_command_line_take_the_place_of_the_solvers(checkout):
    for file in (IMAGES, LABELS):
        (checkout / file).mkdir(parents=True)
    (checkout / "snapshots/one.caffemodel").touch()
    weights = "snapshots/one.caffemodel, snapshots/two.caffemodel"
    code, said = train(checkout, "prototxt/unary_solver.prototxt", "-weights", weights)
    assert code == 1
    assert said.startswith("caffe train: snapshots/two.caffemodel, the weights to start from, not")


def test_data_that_only_tests_would_read_need_not_be_there(checkout):
    """The same holds for data of another stage: the net's own rules decide."""
    (checkout / "net.prototxt").write_text(
        """layer { name: "data" type: "SegData" top: "data" top: "label"
                   include { phase: TEST }
                   seg_data_param { image_source: "none" label_source: "none" } }
           layer { name: "data" type: "SegData" top: "data" top: "label"
                   include { phase: TRAIN stage: "other" }
                   seg_data_param { image_source: "none" label_source: "none" } }
           layer { name: "x" type: "DummyData" top: "x"
                   dummy_data_param { shape { dim: 1 } } }"""
    )
    (checkout / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "x"'
    )
    assert train(checkout, "solver.prototxt") == (0, "")
    code, said = train(checkout, "solver.prototxt", "-stage", "other")
    assert code == 1
    assert said.startswith("caffe train: none, the LMDB of images, not found")
