"""data/get_*.sh with a local server: complete files with their final names, or one clear line."""

import fcntl
import functools
import hashlib
import http.server
import io
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
CONTENT = random.Random(1).randbytes(1 << 20)  # of the one file that an archive holds
BREAK = 300_000  # bytes after which the server closes the connection
RANGE = re.compile(r"bytes=(\d+)-")


class Download(NamedTuple):
    """A script, the variable for its address, the path on the server and the file it ends in."""

    script: str
    variable: str
    path: str
    target: str

    @property
    def is_archive(self):
        return not self.path.endswith(".caffemodel")


VOC = Download(
    "get_voc2012.sh",
    "VOC_URL",
    "/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg",
)
SBD = Download(
    "get_sbd.sh",
    "SBD_URL",
    "/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    "benchmark_RELEASE/dataset/cls/2008_000002.mat",
)
WEIGHTS = Download(
    "get_deeplab_weights.sh",
    "DEEPLAB_URL",
    "/~alanlab/ccvl/DeepLab-MSc-LargeFOV/train2_iter_8000.caffemodel",
    "weights/DeepLab-MSc-LargeFOV.caffemodel",
)
ALL = pytest.mark.parametrize("download", [VOC, SBD, WEIGHTS], ids=lambda d: d.script)
ARCHIVES = pytest.mark.parametrize("download", [VOC, SBD], ids=lambda d: d.script)


@functools.cache
def served_file(download):
    """Return the bytes on the server."""
    if not download.is_archive:
        return CONTENT
    buffer = io.BytesIO()
    compression = "gz" if download.path.endswith("gz") else ""
    with tarfile.open(mode=f"w:{compression}", fileobj=buffer) as archive:
        member = tarfile.TarInfo(download.target)
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {path: bytes}, and notes the first byte of each answer in `starts`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {download.path: served_file(download) for download in (VOC, SBD, WEIGHTS)}
        self.breaks = 0  # how many of the next answers stop after BREAK bytes
        self.hangs = threading.Event()  # set: it keeps the connection open instead
        self.resumes = True
        self.starts = []

    def environment(self, download):
        """Return the environment in which the script fetches from here."""
        address = f"http://127.0.0.1:{self.server_port}{download.path}"
        return {**os.environ, "no_proxy": "127.0.0.1", download.variable: address}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, body = self.server, self.server.files.get(self.path)
        wanted = RANGE.match(self.headers.get("Range", "")) if server.resumes else None
        start = int(wanted[1]) if wanted else 0
        if body is None:
            self.send_error(404)
            return
        if start >= len(body):
            self.send_error(416)
            return
        server.starts.append(start)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: start + BREAK]
        self.wfile.write(body[start:])
        while server.hangs.is_set():
            time.sleep(0.01)

    def log_message(self, *_):
        """Keep the tests' output clean."""


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


@pytest.fixture
def scripts(tmp_path):
    """A copy of the scripts that expects the digests of the files on the local server."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    shutil.copy(DATA / "fetch.sh", folder)
    for download in (VOC, SBD, WEIGHTS):
        text = (DATA / download.script).read_text()
        if download.is_archive:
            digest = hashlib.md5(served_file(download)).hexdigest()
            text, count = re.subn(r"(?<=md5 )[0-9a-f]{32}", digest, text)
            assert count == 1
        (folder / download.script).write_text(text)
    return folder


def run(scripts, download, environment, *arguments, code=0):
    """Run a script, check its exit code, and return what it printed, or its one line of error."""
    command = ["bash", scripts / download.script, *arguments]
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == code, process.stderr
    if not code:
        assert process.stderr == ""
        return process.stdout
    assert process.stderr.startswith(f"{download.script}: ")
    assert process.stderr.count("\n") == 1
    return process.stderr


def partial_of(download, folder):
    """Return where a transfer that broke off waits."""
    place = folder if download.is_archive else folder / "weights"
    return place / f"{Path(download.path).name}.partial"


def files_in(folder):
    """Return the paths of the files below a folder that the scripts did not come with."""
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return paths - {"fetch.sh", VOC.script, SBD.script, WEIGHTS.script}


@ALL
@pytest.mark.parametrize("named", [True, False], ids=["folder named", "folder of the scripts"])
def test_fetches_and_leaves_nothing_else(scripts, server, tmp_path, download, named):
    folder = tmp_path / "with a space" if named else scripts
    run(scripts, download, server.environment(download), *([folder] if named else []))
    assert (folder / download.target).read_bytes() == CONTENT
    assert files_in(folder) == {download.target}


@ALL
def test_a_second_run_does_nothing(scripts, server, download):
    run(scripts, download, server.environment(download))
    before = (scripts / download.target).stat()
    server.starts.clear()
    assert "is there already" in run(scripts, download, server.environment(download))
    assert not server.starts
    assert (scripts / download.target).stat().st_mtime_ns == before.st_mtime_ns


@ALL
def test_a_transfer_that_breaks_off_goes_on_at_once(scripts, server, download):
    server.breaks = 2
    run(scripts, download, server.environment(download))
    assert server.starts == [0, BREAK, 2 * BREAK]
    assert (scripts / download.target).read_bytes() == CONTENT


@ALL
def test_a_killed_run_is_resumed_by_the_next(scripts, server, download):
    environment = server.environment(download)
    partial = partial_of(download, scripts)
    server.breaks = 1
    server.hangs.set()
    process = subprocess.Popen(
        ["bash", scripts / download.script],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while not (partial.exists() and partial.stat().st_size > BREAK / 2):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with partial.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # curl, killed with it, may take a moment to end
    server.hangs.clear()
    have = partial.stat().st_size
    assert files_in(scripts) == {str(partial.relative_to(scripts))}
    run(scripts, download, environment)
    assert server.starts == [0, have]
    assert (scripts / download.target).read_bytes() == CONTENT


@ALL
def test_a_whole_partial_file_needs_no_more_bytes_unless_nothing_vouches_for_it(
    scripts, server, download
):
    partial = partial_of(download, scripts)
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(served_file(download))
    run(scripts, download, server.environment(download))
    assert server.starts == ([] if download.is_archive else [0])
    assert files_in(scripts) == {download.target}


@ALL
def test_starts_again_where_the_server_cannot_resume(scripts, server, download):
    server.resumes, server.breaks = False, 1
    run(scripts, download, server.environment(download))
    assert server.starts == [0, 0, 0]  # broken off, refused to resume, whole
    assert (scripts / download.target).read_bytes() == CONTENT


@ALL
def test_without_a_network_one_line_says_so_and_what_came_is_kept(scripts, server, download):
    environment = server.environment(download)
    server.server_close()  # the port is free again: connections are refused
    partial = partial_of(download, scripts)
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"x" * 1000)
    message = run(scripts, download, environment, code=1)
    assert environment[download.variable] in message
    assert "connect" in message
    assert "resumes at byte 1000" in message
    assert partial.read_bytes() == b"x" * 1000
    assert not (scripts / download.target).exists()


@ALL
def test_a_wrong_address_is_named(scripts, server, download):
    del server.files[download.path]
    message = run(scripts, download, server.environment(download), code=1)
    assert f"{download.path}: " in message
    assert "404" in message


@ARCHIVES
def test_an_archive_with_the_wrong_checksum_is_refused(scripts, server, download):
    server.files[download.path] = b"\0" + served_file(download)[1:]
    message = run(scripts, download, server.environment(download), code=1)
    assert f"MD5 {hashlib.md5(server.files[download.path]).hexdigest()}" in message
    assert f"expected {hashlib.md5(served_file(download)).hexdigest()}" in message
    assert files_in(scripts) == set()
    server.files[download.path] = served_file(download)
    run(scripts, download, server.environment(download))


@ALL
def test_a_web_page_instead_of_the_file_is_refused(scripts, server, download):
    server.files[download.path] = b"<!DOCTYPE html><html>We have moved</html>"
    message = run(scripts, download, server.environment(download), code=1)
    assert "the server sent a web page" in message
    assert files_in(scripts) == set()


@ARCHIVES
def test_an_archive_fetched_by_hand_is_used(scripts, server, download):
    (scripts / Path(download.path).name).write_bytes(served_file(download))
    run(scripts, download, server.environment(download))
    assert not server.starts
    assert files_in(scripts) == {download.target}


@ARCHIVES
def test_a_damaged_archive_fetched_by_hand_is_refused_and_kept(scripts, server, download):
    archive = scripts / Path(download.path).name
    archive.write_bytes(served_file(download)[:-1])
    message = run(scripts, download, server.environment(download), code=1)
    assert str(archive) in message
    assert files_in(scripts) == {archive.name}


@ARCHIVES
def test_what_a_killed_run_has_half_unpacked_is_unpacked_anew(scripts, server, download):
    archive = scripts / Path(download.path).name
    archive.write_bytes(served_file(download))
    half = scripts / f"{archive.name}.unpacked.partial" / download.target
    half.parent.mkdir(parents=True)
    half.write_bytes(CONTENT[:10])
    run(scripts, download, server.environment(download))
    assert (scripts / download.target).read_bytes() == CONTENT
    assert files_in(scripts) == {download.target}


@ALL
def test_two_runs_at_once_do_not_write_to_one_file(scripts, server, download):
    partial = partial_of(download, scripts)
    partial.parent.mkdir(exist_ok=True)
    with partial.open("w") as other_run:
        fcntl.flock(other_run, fcntl.LOCK_EX)
        message = run(scripts, download, server.environment(download), code=1)
    assert "another run is working" in message


def test_the_weights_are_checked_against_the_digest_that_the_user_names(scripts, server):
    environment = server.environment(WEIGHTS)
    digest = hashlib.sha256(CONTENT).hexdigest()
    wrong = "0" * 64
    message = run(scripts, WEIGHTS, {**environment, "DEEPLAB_SHA256": wrong}, code=1)
    assert f"SHA256 {digest}, expected {wrong}" in message
    assert files_in(scripts) == set()
    right = {**environment, "DEEPLAB_SHA256": digest.upper()}
    assert f"SHA-256 {digest}" in run(scripts, WEIGHTS, right)
    assert run(scripts, WEIGHTS, {**environment, "DEEPLAB_SHA256": wrong}, code=1)
    assert files_in(scripts) == {WEIGHTS.target}  # what was there stays


@ALL
def test_help_and_bad_usage(scripts, download):
    text = run(scripts, download, os.environ, "--help")
    assert f"Usage: data/{download.script} [FOLDER]" in text
    assert download.variable in text
    assert "fetch.sh" not in text
    assert "--help" in run(scripts, download, os.environ, "--hlep", code=2)
    assert "expected one folder" in run(scripts, download, os.environ, "one", "two", code=2)


@ALL
def test_a_folder_that_cannot_be_made_is_named(scripts, download):
    folder = scripts / "fetch.sh" / "below"
    assert str(folder) in run(scripts, download, os.environ, folder, code=1)


def test_the_digests_are_the_published_ones():
    """They are those in torchvision's datasets VOCSegmentation and SBDataset."""
    assert "md5 6cd6e144f989b92b3379bac3b3de84fd\n" in (DATA / VOC.script).read_text()
    assert "md5 82b4d87ceb2ed10f6038a1cba92111cb\n" in (DATA / SBD.script).read_text()
