"""gcrf.training_log: the numbers in Caffe's log, also as CSV."""

from gcrf.training_log import read_csv, read_log

LOG = """\
I1122 21:25:41.908622  4770 solver.cpp:239] Iteration 0 (-1.3e-05 iter/s, 0.005s/20 iters), loss = 2
I1122 21:25:41.908694  4770 solver.cpp:258]     Train net output #0: loss = 2.5 (* 1 = 2.5 loss)
I1122 21:25:41.908721  4770 sgd_solver.cpp:112] Iteration 0, lr = 0.01
I1122 21:25:41.932858  4770 solver.cpp:464] Snapshotting to binary proto file net_iter_10.caffemodel
I1122 21:25:41.933753  4770 solver.cpp:347] Iteration 10, Testing net (#0)
I1122 21:25:41.952870  4770 solver.cpp:414]     Test net output #0: accuracy = 0.25
I1122 21:25:41.952951  4770 solver.cpp:414]     Test net output #1: loss = 1.75 (* 1 = 1.75 loss)
I1122 21:25:42.001595  4770 solver.cpp:239] Iteration 20 (217 iter/s, 0.09s/20 iters), loss = 1e-05
I1122 21:25:42.001693  4770 sgd_solver.cpp:112] Iteration 20, lr = 1e-05
"""
CSV = """\
iteration,seconds,learning_rate,loss,test_loss,test_accuracy
0,0.0,0.01,2,,
10,0.1,,,1.75,0.25
20,0.2,1e-05,1e-05,,
30,0.3,1e-0"""


def test_a_log_and_its_csv_have_the_same_rows(tmp_path):
    (tmp_path / "caffe.log").write_text(LOG)
    (tmp_path / "unary.csv").write_text(CSV)
    rows = read_log(tmp_path / "caffe.log")
    assert rows == [
        {"iteration": "0", "loss": "2", "learning_rate": "0.01"},
        {"iteration": "10", "test_accuracy": "0.25", "test_loss": "1.75"},
        {"iteration": "20", "loss": "1e-05", "learning_rate": "1e-05"},
    ]
    without_seconds = read_csv(tmp_path / "unary.csv")
    assert [row.pop("seconds") for row in without_seconds] == ["0.0", "0.1", "0.2"]
    assert without_seconds == rows


def test_a_resumed_log_shows_each_iteration_once(tmp_path):
    again = "I0 solver.cpp:239] Iteration 0 (1 iter/s, 1s/20 iters), loss = 7\n"
    (tmp_path / "caffe.log").write_text(LOG + again)
    rows = read_log(tmp_path / "caffe.log")
    assert [row["iteration"] for row in rows] == ["0", "10", "20"]
    assert rows[0]["loss"] == "7"
