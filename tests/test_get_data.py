"""data/get_*.sh against a local server with the layout of the real ones."""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import shutil
import socket
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
ARCHIVES = {  # script: its archive, and a file in it
    "get_voc2012.sh": ("VOCtrainval_11-May-2012.tar", "VOCdevkit/VOC2012/JPEGImages/a.jpg"),
    "get_sbd.sh": ("benchmark.tgz", "benchmark_RELEASE/dataset/cls/a.mat"),
}
WEIGHTS = b"\x0a\x03net" + bytes(range(256)) * 1000
CONTENT = bytes(range(256)) * 2000  # of the file in an archive


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files` with ranges, and cuts off each of the first `cuts` answers half way."""

    def __init__(self, state, *arguments):
        self.state = state
        super().__init__(*arguments)

    def do_GET(self):
        """Answer a request."""
        self.state["requests"].append((self.path, self.headers.get("Range")))
        data = self.state["files"].get(self.path)
        if data is None:
            self.send_error(404)
            return
        first = 0
        if self.headers.get("Range") and self.state["ranges"]:
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if first >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        rest = data[first:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.state["cuts"]:
            self.state["cuts"] -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    """A server's state: "files" by path, "cuts", "ranges", "requests", and its "url"."""
    state = {"files": {}, "cuts": 0, "ranges": True, "requests": []}
    handler = functools.partial(Handler, state)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        state["url"] = f"http://127.0.0.1:{http_server.server_port}"
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield state
        http_server.shutdown()


def make_archive(member):
    """Return a tar archive, of the kind that tar recognises by itself, with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if "cls" in member else "w") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(CONTENT)
        archive.addfile(info, io.BytesIO(CONTENT))
    return buffer.getvalue()


@pytest.fixture
def scripts(tmp_path, server):
    """A copy of the scripts that expects the archives of the local server."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in (*DATA.glob("*.sh"), DATA / "checksums.txt"):
        shutil.copy(path, folder)
    lines = (folder / "checksums.txt").read_text().splitlines()
    for name, member in ARCHIVES.values():
        data = make_archive(member)
        server["files"][f"/{name}"] = data
        (number,) = (n for n, line in enumerate(lines) if line.endswith(f" {name}"))
        lines[number] = f"md5 {hashlib.md5(data).hexdigest()} {name}"
    (folder / "checksums.txt").write_text("\n".join(lines) + "\n")
    server["files"]["/net.caffemodel"] = WEIGHTS
    return folder


def run(scripts, script, url, *arguments):
    """Run a script against the server at a URL and return the finished process."""
    variables = {"VOC_URL": url, "SBD_URL": url, "DEEPLAB_URL": f"{url}/net.caffemodel"}
    command = ["bash", str(scripts / script), *map(str, arguments)]
    environment = os.environ | variables | {"no_proxy": "127.0.0.1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def check_fetched(folder, script):
    """Check that the archive is unpacked, and that nothing else is left."""
    name, member = ARCHIVES[script]
    assert (folder / member).read_bytes() == CONTENT
    left = [path.name for path in folder.rglob("*") if name in path.name or "partial" in path.name]
    assert not left


@pytest.mark.parametrize("script", ARCHIVES)
def test_an_archive_is_fetched_checked_and_unpacked_once(script, scripts, server, tmp_path):
    """To the folder named; a second run asks the server nothing."""
    for _ in range(2):
        process = run(scripts, script, server["url"], tmp_path / "elsewhere")
        assert process.returncode == 0, process.stderr
        check_fetched(tmp_path / "elsewhere", script)
    assert server["requests"] == [(f"/{ARCHIVES[script][0]}", None)]
    assert "there already" in process.stdout


def test_without_an_argument_the_folder_is_the_scripts_own(scripts, server):
    """Wherever it is called from."""
    assert run(scripts, "get_sbd.sh", server["url"]).returncode == 0
    check_fetched(scripts, "get_sbd.sh")


def test_a_connection_that_is_cut_is_resumed_where_it_broke(scripts, server):
    """Twice in one run; no byte is sent twice."""
    server["cuts"] = 2
    process = run(scripts, "get_voc2012.sh", server["url"])
    assert process.returncode == 0, process.stderr
    check_fetched(scripts, "get_voc2012.sh")
    size = len(server["files"]["/VOCtrainval_11-May-2012.tar"])
    ranges = [size // 2, size // 2 + (size - size // 2) // 2]
    assert [request[1] for request in server["requests"]] == [None] + [
        f"bytes={first}-" for first in ranges
    ]


def test_a_run_that_gave_up_is_continued_by_the_next(scripts, server):
    """After five cuts it says so."""
    server["cuts"] = 5
    process = run(scripts, "get_voc2012.sh", server["url"])
    assert process.returncode == 1
    assert "goes on from where it stopped" in process.stderr
    assert not (scripts / "VOCdevkit").exists()
    process = run(scripts, "get_voc2012.sh", server["url"])
    assert process.returncode == 0
    assert server["requests"][5][1] is not None
    check_fetched(scripts, "get_voc2012.sh")


def test_a_server_that_cannot_resume_sends_all_again(scripts, server):
    """Such as python -m http.server."""
    server.update(cuts=1, ranges=False)
    process = run(scripts, "get_sbd.sh", server["url"])
    assert process.returncode == 0, process.stderr
    check_fetched(scripts, "get_sbd.sh")


def test_a_complete_transfer_that_was_not_renamed_is_taken(scripts, server):
    """The run was killed between the two."""
    data = server["files"]["/benchmark.tgz"]
    (scripts / "benchmark.tgz.partial").write_bytes(data)
    process = run(scripts, "get_sbd.sh", server["url"])
    assert process.returncode == 0, process.stderr
    check_fetched(scripts, "get_sbd.sh")


@pytest.mark.parametrize("place", ["server", "disk"])
def test_a_wrong_checksum_is_refused(place, scripts, server):
    """Of what the server sends, and of an archive that lay there."""
    data = bytearray(server["files"]["/benchmark.tgz"])
    data[1000] ^= 1
    if place == "server":
        server["files"]["/benchmark.tgz"] = bytes(data)
    else:
        (scripts / "benchmark.tgz").write_bytes(data)
    process = run(scripts, "get_sbd.sh", server["url"])
    assert process.returncode == 1
    assert "its md5 is" in process.stderr and "wrong checksum" in process.stderr
    assert not (scripts / "benchmark_RELEASE").exists()
    assert (scripts / "benchmark.tgz").exists() == (place == "disk")


@pytest.mark.parametrize("script", [*ARCHIVES, "get_deeplab_weights.sh"])
def test_a_missing_file_is_an_error_with_its_address(script, scripts, server):
    """At once, without a second try."""
    server["files"].clear()
    process = run(scripts, script, server["url"])
    assert process.returncode == 1
    assert "the server answered 404" in process.stderr and server["url"] in process.stderr
    assert len(server["requests"]) == 1


def test_no_network_is_an_error_that_says_so(scripts):
    """Here: a port on which nobody listens."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    process = run(scripts, "get_voc2012.sh", f"http://127.0.0.1:{port}")
    assert process.returncode == 1
    assert "once the network is there" in process.stderr


def test_weights_come_with_the_line_that_pins_them(scripts, server):
    """No checksum was published; a pinned one is checked."""
    process = run(scripts, "get_deeplab_weights.sh", server["url"])
    assert process.returncode == 0, process.stderr
    target = scripts / "weights/DeepLab-MSc-LargeFOV.caffemodel"
    assert target.read_bytes() == WEIGHTS
    line = f"sha256 {hashlib.sha256(WEIGHTS).hexdigest()} {target.name}"
    assert line in process.stdout.splitlines()
    with (scripts / "checksums.txt").open("a") as checksums:
        checksums.write(line + "\n")
    target.unlink()
    assert run(scripts, "get_deeplab_weights.sh", server["url"]).returncode == 0
    target.unlink()
    server["files"]["/net.caffemodel"] = WEIGHTS[:-1] + b"x"
    process = run(scripts, "get_deeplab_weights.sh", server["url"])
    assert process.returncode == 1 and not target.exists()
    assert "its sha256 is" in process.stderr


def test_a_web_page_is_not_taken_for_weights(scripts, server):
    """Some servers answer 200 with an apology."""
    server["files"]["/net.caffemodel"] = b"<!DOCTYPE html><html>moved</html>"
    process = run(scripts, "get_deeplab_weights.sh", server["url"])
    assert process.returncode == 1
    assert "a web page" in process.stderr
    assert not list((scripts / "weights").iterdir())


@pytest.mark.parametrize("script", [*ARCHIVES, "get_deeplab_weights.sh"])
def test_help_is_the_comment_that_the_script_begins_with(script, scripts):
    """And bad usage has exit code 2."""
    process = run(scripts, script, "http://127.0.0.1:9", "--help")
    assert process.returncode == 0
    assert "Usage: data/get_" in process.stdout and "Exit codes" in process.stdout
    assert run(scripts, script, "http://127.0.0.1:9", "--hlep").returncode == 2
    assert run(scripts, script, "http://127.0.0.1:9", "a", "b").returncode == 2


def test_the_published_checksums_are_the_well_known_ones():
    """So that no edit slips in."""
    text = (DATA / "checksums.txt").read_text()
    assert "md5 6cd6e144f989b92b3379bac3b3de84fd VOCtrainval_11-May-2012.tar" in text
    assert "md5 82b4d87ceb2ed10f6038a1cba92111cb benchmark.tgz" in text
