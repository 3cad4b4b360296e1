"""tools/benchmark/benchmark_networks.py: a layer's work by hand, statistics, and its page."""

import re
import subprocess
import sys
from pathlib import Path

import benchmark_networks as benchmark
import caffe
import numpy as np
import pytest
from benchmark_networks import PYTORCH, Contender, Cost, Measurement
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from gcrf import nets

TOOL = Path(__file__).resolve().parent.parent / "tools/benchmark/benchmark_networks.py"
CAFFE = Contender("Caffe", "benchmark_caffe", "CAFFE")
PAGE = "# Title\n\n<!-- benchmark: begin -->\nold\n<!-- benchmark: end -->\n\n## Other\n"


def load(tmp_path, net):
    path = tmp_path / "net.prototxt"
    path.write_text(text_format.MessageToString(net))
    return caffe.Net(str(path), caffe.TEST)


def test_the_work_of_a_convolution_by_hand(tmp_path):
    """4 x 6 outputs of 2 channels, each a sum over 3 x 3 pixels of 5 / 1 channels."""
    n = caffe.NetSpec()
    n.data = caffe.layers.Input(shape=dict(dim=[1, 5, 4, 6]))
    n.conv = caffe.layers.Convolution(n.data, num_output=2, kernel_size=3, pad=1)
    n.relu = caffe.layers.ReLU(n.conv, in_place=True)
    _, conv, relu = benchmark.costs(load(tmp_path, n.to_proto()))
    assert conv.flops == 2 * (4 * 6 * 2) * (3 * 3 * 5)
    assert conv.bytes == 4 * (5 * 4 * 6 + 2 * 4 * 6 + 2 * 5 * 9 + 2)
    assert conv.intensity == conv.flops / conv.bytes
    assert (relu.flops, relu.bytes) == (0, 4 * 2 * (2 * 4 * 6))


def test_a_group_sees_only_its_own_channels(tmp_path):
    n = caffe.NetSpec()
    n.data = caffe.layers.Input(shape=dict(dim=[1, 4, 3, 3]))
    n.conv = caffe.layers.Convolution(n.data, num_output=6, kernel_size=1, group=2)
    _, conv = benchmark.costs(load(tmp_path, n.to_proto()))
    assert conv.flops == 2 * (3 * 3 * 6) * 2


def test_the_trunk_is_259_gigaflop(tmp_path):
    """At 505 x 505: conv1_1 sums 27 products for each of 64 x 505 x 505 outputs."""
    costs = benchmark.costs(load(tmp_path, nets.deploy_unary_net(nets.PAPER)))
    by_name = {cost.name: cost.flops for cost in costs}
    assert by_name["unary/conv1_1"] == 2 * 27 * 64 * 505 * 505
    assert by_name["unary/conv4_2"] == 2 * 9 * 512 * 512 * 64 * 64
    assert sum(by_name.values()) / 1e9 == pytest.approx(259.2, abs=0.05)


def test_the_engine_is_set_where_a_layer_has_the_choice():
    net = benchmark.with_engine(nets.deploy_net(nets.SMALL), "CAFFE")
    engines = {layer.type: layer for layer in net.layer}
    assert engines["Convolution"].convolution_param.engine == caffe_pb2.ConvolutionParameter.CAFFE
    assert engines["Pooling"].pooling_param.engine == caffe_pb2.PoolingParameter.CAFFE
    assert engines["ReLU"].relu_param.engine == caffe_pb2.ReLUParameter.CAFFE
    assert not engines["Interp"].HasField("convolution_param")


def test_the_default_engine_changes_nothing():
    net = nets.deploy_net(nets.SMALL)
    assert benchmark.with_engine(net, "DNNL") == net


def test_the_training_net_has_inputs_for_its_data(tmp_path):
    net = load(tmp_path, benchmark.training_net(nets.SMALL, 65))
    assert list(net.inputs) == ["data", "label"]
    assert net.outputs == ["loss"]


def test_disagreement_is_relative_to_the_greatest_value():
    expected = {"a": np.array([0.0, -4.0]), "b": np.array([100.0])}
    near = {"a": np.array([0.2, -4.0]), "b": np.array([101.0])}
    assert benchmark.disagreement([expected, expected, near]) == pytest.approx(0.05)
    assert benchmark.disagreement([expected, expected]) == 0


def test_not_a_number_disagrees():
    expected, broken = {"a": np.array([1.0])}, {"a": np.array([np.nan])}
    assert benchmark.disagreement([expected, broken]) == np.inf
    assert benchmark.disagreement([broken, expected]) == np.inf


def test_ratios_are_taken_round_by_round():
    """A slow round slows down both, and the ratio stays: 3 / 2 each time, not 30 / 20."""
    assert benchmark.ratios([3.0, 30.0, 6.0], [2.0, 20.0, 3.0]) == [1.5, 1.5, 2.0]


def measurements():
    return [
        Measurement(CAFFE, [300.0, 100.0, 200.0], 600.4, 100),
        Measurement(PYTORCH[0], [200.0, 400.0, 300.0], 800, 300),
        Measurement(PYTORCH[1], [100.0, 200.0, 400.0], 700, 300),
    ]


def test_the_table_by_hand():
    """PyTorch channels-last has the lowest median, 200; the median of 3, 0.5 and 0.5 is 0.5."""
    lines = benchmark.table(measurements())
    assert "time / PyTorch channels-last" in lines[0]
    assert lines[2] == "| Caffe | 100 | 200 | 300 | 0.50 (0.50 to 3.00) | 600 (100) |"
    assert lines[4].endswith("| 100 | 200 | 400 | 1.00 (1.00 to 1.00) | 700 (300) |")


def test_short_times_keep_their_digits():
    (_, _, line) = benchmark.table([Measurement(CAFFE, [1.234, 1.244], 600, 100)])
    assert line.startswith("| Caffe | 1.23 | 1.24 | 1.24 |")


def test_the_share_of_what_is_no_convolution():
    costs = [Cost("a", "Convolution", 10, 1), Cost("b", "ReLU", 0, 1)]
    assert benchmark.other_share(costs, [3.0, 1.0]) == 0.25


def test_convolutions_of_a_shape_share_a_label():
    costs = [Cost(f"unary/{name}", "Convolution", *cost) for name, cost in
             (("conv1", (9, 1)), ("conv2", (9, 1)), ("fc", (5, 1)), ("tiny", (1, 1)))]  # fmt: skip
    assert benchmark.labels(costs, [0.4, 0.3, 0.29, 0.01]) == [
        ("conv1 to conv2", [0, 1]),
        ("fc", [2]),
    ]


def test_two_threads_of_a_core_count_once(tmp_path, monkeypatch):
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    for allowed, cores in (({0, 1, 2, 3}, 2), ({0, 1}, 1), ({0, 2}, 2)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, allowed=allowed: allowed)
        assert benchmark.physical_cores(tmp_path) == cores


def run(folder, *arguments):
    command = [sys.executable, TOOL, "--small", "--repeats", "1", "--docs", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_writes_the_page_and_the_picture(tmp_path):
    (tmp_path / "performance.md").write_text(PAGE)
    process = run(tmp_path, "--no-pytorch", "--threads", "1")
    assert process.returncode == 0, process.stderr
    page = (tmp_path / "performance.md").read_text()
    assert page.startswith("# Title") and page.endswith("## Other\n")
    assert process.stdout.strip() in page
    assert "on 1 threads" in page
    for title in ("Trunk", "The whole network", "A finetune step", "The CRF alone"):
        assert f"**{title}" in page
    rows = re.findall(r"^\| (?:Caffe|dense CRF)[^|]*\| ([\d.]+) \|", page, re.MULTILINE)
    assert len(rows) >= 6
    assert all(float(row) > 0 for row in rows)
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_pytorch_is_answered_with_the_command_to_install_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert benchmark.main(["--docs", str(tmp_path)]) == 1
    assert "install --no-deps -r requirements-benchmark.txt" in capsys.readouterr().err


def test_a_page_without_the_comments_stops_it_at_once(tmp_path, capsys):
    (tmp_path / "performance.md").write_text("# Title\n")
    assert benchmark.main(["--docs", str(tmp_path), "--no-pytorch"]) == 1
    assert "benchmark: begin" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--threads", "0"), ("--repeats", "0")])
def test_nothing_to_measure_is_refused(arguments):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main([*arguments])
    assert stopped.value.code == 2


def test_a_contender_that_fails_is_named(tmp_path):
    with pytest.raises(benchmark.WorkerError, match="benchmark_caffe, CAFFE, trunk"):
        benchmark.Worker("benchmark_caffe", str(tmp_path), "trunk", "CAFFE").call("run")
