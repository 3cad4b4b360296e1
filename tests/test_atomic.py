"""Files and folders are complete, or not there at all."""

import os
import signal
import subprocess
import sys

import pytest

from gcrf import atomic


def test_a_folder_appears_when_the_block_ends(tmp_path):
    with atomic.new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out/a").read_text() == "1"
    assert os.listdir(tmp_path) == ["out"]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), atomic.new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_an_old_folder_is_kept(tmp_path):
    """A run must not replace what another one has made."""
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(FileExistsError, match="remove it first"),
        atomic.new_folder(tmp_path / "out"),
    ):
        pass


def test_an_old_file_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic.new_file(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    with atomic.new_file(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["list.txt"]


def test_a_killed_run_leaves_no_folder_and_the_next_one_clears_up(tmp_path):
    """While the first one runs, a second is told to wait."""
    code = (
        "import sys, time\n"
        "from gcrf import atomic\n"
        "with atomic.new_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'half').write_text('1'); print('ready', flush=True); time.sleep(60)\n"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(BlockingIOError, match="another run"), atomic.new_folder(out):
            pass
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    with atomic.new_folder(out) as folder:
        (folder / "whole").write_text("1")
    assert os.listdir(out) == ["whole"]
    assert os.listdir(tmp_path) == ["out"]
