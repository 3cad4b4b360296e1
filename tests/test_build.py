"""The build: what `make` says when something is missing, and what env.sh and install give."""

import math
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import caffe
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build/source"
LAYER = ROOT / "caffe_layers/gmf_layer.cpp"
CHECKOUT_CPP = "src/caffe/util/io.cpp"  # one of our patches changes it


def run(command, **options):
    """Run a command or a line of bash; return the result, with standard error in its output."""
    if isinstance(command, str):
        command = ["bash", "-c", command]
    options.setdefault("cwd", ROOT)
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )


def fetch(folder, **environment):
    """Run fetch.sh to make the source tree `folder`."""
    return run([ROOT / "caffe_fork/fetch.sh", folder], env={**os.environ, **environment})


def command_first_on_path(folder, name, script):
    """Put a command `name` before all others; return the PATH."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{folder}:{os.environ['PATH']}"


def assert_fails_in_one_line(result, *words):
    assert result.returncode != 0
    last_line = result.stdout.splitlines()[-1]
    for word in words:
        assert word in last_line


def test_the_crf_layers_parameters_have_their_defaults():
    layer = caffe.proto.caffe_pb2.LayerParameter()
    assert layer.gmf_param.window == layer.similarity_param.window == 23
    assert layer.similarity_loss_param.threshold == pytest.approx(math.exp(-10))


def test_help_lists_every_target_and_every_variable():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (all .*)$", makefile, re.MULTILINE)[1].split()
    variables = re.findall(r"^(?:export )?(\w+) \?=", makefile, re.MULTILINE)
    shown = run(["make", "help"]).stdout
    assert re.findall(r"^make ([a-z-]+) ", shown, re.MULTILINE) == targets
    for variable in variables:
        assert f" {variable}=" in shown


def test_missing_packages_are_named_and_installed_with_sudo(tmp_path):
    command_first_on_path(tmp_path / "bin", "dpkg-query", "echo installed cmake")
    command_first_on_path(tmp_path / "bin", "id", "echo 1000")
    path = command_first_on_path(tmp_path / "bin", "sudo", 'echo sudo "$*"')
    result = run([ROOT / "caffe_fork/install-packages.sh"], env={**os.environ, "PATH": path})
    said, update, install = result.stdout.splitlines()
    assert said.startswith("Installing ")
    assert " missing system packages: ca-certificates ccache curl dpkg-dev g++ " in said
    assert update == "sudo apt-get update -q"
    assert install.startswith("sudo env DEBIAN_FRONTEND=noninteractive apt-get install ")
    assert "--no-install-recommends ca-certificates ccache curl dpkg-dev g++ " in install


def test_a_second_make_does_nothing_in_under_two_seconds():
    seconds = []
    for _ in range(3):  # the minimum counts: the machine may be busy
        start = time.monotonic()
        result = run(["make"])
        seconds.append(time.monotonic() - start)
        assert result.returncode == 0
        assert "no work to do" in result.stdout
    assert min(seconds) < 2


@pytest.mark.slow  # it links Caffe again, and the fast tests run side by side
def test_a_changed_layer_compiles_only_itself():
    os.utime(LAYER)
    result = run(["make"])
    assert result.returncode == 0
    assert result.stdout.count("Building CXX object") == 1
    assert f"{LAYER.name}.o" in result.stdout


@pytest.mark.slow
def test_without_a_network_fetch_says_so_and_leaves_no_tree(tmp_path):
    result = fetch(
        tmp_path / "source",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        http_proxy="http://127.0.0.1:9",
        https_proxy="http://127.0.0.1:9",
    )
    assert_fails_in_one_line(result, "is there a network?", "127.0.0.1:9")
    assert not list(tmp_path.glob("source*"))


def test_a_wrong_checksum_names_both_and_leaves_no_tree(tmp_path):
    mirror = """
        case "$*" in
          indextargets*) echo http://mirror ;;
          *" source "*) echo changed >caffe_1.0.0+git20180821.99bd997.orig.tar.gz ;;
        esac"""
    result = fetch(
        tmp_path / "source",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        PATH=command_first_on_path(tmp_path / "bin", "apt-get", mirror),
    )
    changed = "7f8b1dfc466b6249f06cbe55c9174df2578e7754da793fded244ef5cba2a38f1"
    expected = "e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c"
    assert_fails_in_one_line(result, "orig.tar.gz: SHA-256 is", changed, f"expected {expected}")
    assert not list(tmp_path.glob("source*"))
    assert not list(tmp_path.glob("cache/**/*.tar.*"))


def test_a_damaged_cache_is_not_used(tmp_path):
    cache = tmp_path / "cache/gcrf-caffe"
    cache.mkdir(parents=True)
    (cache / "caffe_1.0.0+git20180821.99bd997.orig.tar.gz").write_text("damaged")
    result = fetch(
        tmp_path / "source",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        PATH=command_first_on_path(tmp_path / "bin", "apt-get", "exit 1"),
    )
    assert_fails_in_one_line(result, "cannot fetch")


def test_a_fetch_killed_half_way_leaves_no_tree_and_the_next_one_is_whole(tmp_path):
    started = tmp_path / "started"
    path = command_first_on_path(tmp_path / "bin", "patch", f"touch {started}; sleep 60")
    process = subprocess.Popen(
        [ROOT / "caffe_fork/fetch.sh", tmp_path / "source"],
        env={**os.environ, "PATH": path},
        start_new_session=True,
    )
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / "source.tmp").exists()
    assert not (tmp_path / "source").exists()
    assert fetch(tmp_path / "source").returncode == 0
    made_by_use = ("-x", "_caffe.so", "-x", "__pycache__")
    assert not run(["diff", "-r", *made_by_use, SOURCE, tmp_path / "source"]).stdout


def test_a_tree_that_cannot_be_written_is_not_taken_for_whole(tmp_path):
    """As on a full disk, larger files are cut short."""
    limit = f"trap '' XFSZ; ulimit -f 100; exec caffe_fork/fetch.sh {tmp_path}/source"
    assert_fails_in_one_line(run(limit), "cannot unpack", "orig.tar.gz")
    assert not list(tmp_path.glob("source*"))


def test_a_folder_without_caffe_is_refused(tmp_path):
    result = fetch(tmp_path / "source", CAFFE_SRC=str(tmp_path))
    assert_fails_in_one_line(result, f"CAFFE_SRC={tmp_path}", "expected a checkout of BVLC Caffe")


@pytest.fixture
def checkout(tmp_path):
    """A user's own checkout, which happens to contain all of our patches."""
    return Path(shutil.copytree(SOURCE, tmp_path / "checkout"))


def test_a_users_own_checkout_is_built_from_a_copy(tmp_path, checkout):
    (checkout / CHECKOUT_CPP).open("a").write("// mine\n")
    before = run(["find", checkout, "-printf", "%p %s %T@\n"]).stdout
    assert fetch(tmp_path / "source", CAFFE_SRC=str(checkout)).returncode == 0
    assert (tmp_path / "source" / CHECKOUT_CPP).read_text().endswith("// mine\n")
    assert run(["find", checkout, "-printf", "%p %s %T@\n"]).stdout == before


def test_a_patch_that_does_not_apply_is_named(tmp_path, checkout):
    (checkout / CHECKOUT_CPP).write_text("// nothing that the patch knows\n")
    result = fetch(tmp_path / "source", CAFFE_SRC=str(checkout))
    assert_fails_in_one_line(result, "does not apply to", str(checkout), "FAILED")
    assert not (tmp_path / "source").exists()


def test_a_missing_compiler_is_named(tmp_path):
    (tmp_path / "bin").mkdir()
    for program in Path("/usr/bin").iterdir():
        if "g++" not in program.name:
            (tmp_path / "bin" / program.name).symlink_to(program)
    environment = {**os.environ, "PATH": str(tmp_path / "bin")}
    result = run("make compiler 2>&1 | grep '^make: no'", env=environment)
    assert result.stdout == "make: no C++ compiler: g++ is not on PATH\n"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_env_sh_gives_caffe_and_python_from_any_folder(tmp_path, shell):
    script = f"""
        . {os.path.relpath(ROOT, tmp_path)}/env.sh
        caffe --version
        python -c 'import caffe, gcrf, python_layers.gmf; print(caffe.__file__)'
    """
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"]}
    result = run([shell, "-c", script], cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stdout
    assert "caffe version 1.0.0" in result.stdout
    assert f"{ROOT}/build" in result.stdout


@pytest.fixture
def toy_project(tmp_path):
    """The Makefile and env.sh with an empty build, in which `caffe` prints its build's name."""
    folder = tmp_path / "toy"
    (folder / "caffe_fork").mkdir(parents=True)
    for name in ("Makefile", "env.sh"):
        shutil.copy(ROOT / name, folder)
    (folder / "requirements.txt").touch()
    (folder / "build/venv").mkdir(parents=True)
    run('echo "$PWD/build/venv $(sha256sum <requirements.txt)" >build/venv/.made-from', cwd=folder)
    for name in ("install-packages.sh", "fetch.sh"):
        command_first_on_path(folder / "caffe_fork", name, "")
    command_first_on_path(tmp_path / "bin", "cmake", "")
    # called as: ninja -C build/NAME all
    ninja = 'mkdir -p $2/tools; echo "echo ${2#*/}" >$2/tools/caffe; chmod +x $2/tools/caffe'
    command_first_on_path(tmp_path / "bin", "ninja", ninja)
    return folder


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_env_sh_takes_the_build_that_was_made_last(toy_project, shell):
    script = """
        make -s && . ./env.sh && caffe
        make -s DNNL=0 && caffe && . ./env.sh && caffe
        make -s GPU=1 && . ./env.sh && caffe
        make -s && . ./env.sh && caffe && echo $PATH && echo $PYTHONPATH
    """
    path = f"{toy_project.parent}/bin:/usr/bin:/bin"
    command_first_on_path(toy_project.parent / "bin", "nvcc", "")
    environment = {"PATH": path, "PYTHONPATH": "/mine", "HOME": os.environ["HOME"]}
    result = run([shell, "-ec", script], cwd=toy_project, env=environment)
    hint = "Built build/{}. For caffe, pycaffe and the tools, in each shell: . ./env.sh"
    build = toy_project / "build"
    assert result.stdout.splitlines() == [
        *(hint.format("cpu"), "cpu"),
        *(hint.format("cpu-without-dnnl"), "cpu", "cpu-without-dnnl"),
        *(hint.format("gpu"), "gpu"),
        *(hint.format("cpu"), "cpu"),
        f"{build}/cpu/tools:{build}/venv/bin:{path}",
        f"{build}/cpu/python:{toy_project}/tools/lib:/mine",
    ]


def test_only_a_change_of_the_build_makes_env_sh_be_mentioned(toy_project):
    make = ["make", "-s"]
    environment = {**os.environ, "PATH": f"{toy_project.parent}/bin:/usr/bin:/bin"}
    first, second = (run(make, cwd=toy_project, env=environment).stdout for _ in range(2))
    assert ". ./env.sh" in first
    assert second == ""


def test_env_sh_without_a_build_says_what_to_do(tmp_path):
    shutil.copy(ROOT / "env.sh", tmp_path)
    result = run(f". {tmp_path}/env.sh")
    assert_fails_in_one_line(result, "env.sh: ", "run make first")


def test_env_sh_in_another_shell_says_which_ones_it_needs():
    result = run(["dash", "-c", ". ./env.sh && echo not reached"])
    assert_fails_in_one_line(result, "env.sh: this shell is neither bash nor zsh")


@pytest.fixture
def someones_files():
    """Files that accumulate beside the sources where people work."""
    files = [ROOT / "data/test_install_lmdb/data.mdb", ROOT / "tools/__pycache__/test.pyc"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    yield
    for file in files:
        file.unlink()
    files[0].parent.rmdir()


@pytest.mark.slow
@pytest.mark.usefixtures("someones_files")
def test_an_installed_copy_does_not_need_the_build_folder(tmp_path):
    result = run(["make", "install", f"PREFIX={tmp_path}/prefix"])
    assert result.returncode == 0, result.stdout
    assert {path.name for path in (tmp_path / "prefix/data").rglob("*") if path.is_file()} == {
        "README.md",
        "fetch.sh",
        "get_deeplab_weights.sh",
        "get_sbd.sh",
        "get_voc2012.sh",
        "make_shapes.py",
    }
    assert not list((tmp_path / "prefix/tools").rglob("*.pyc"))
    assert not list((tmp_path / "prefix/venv/bin").glob("pytest*"))
    for solver in (tmp_path / "prefix/prototxt").glob("*_solver.prototxt"):
        prefix = re.search('snapshot_prefix: "(.+)"', solver.read_text())[1]
        assert (tmp_path / "prefix" / prefix).parent.is_dir()

    shipped = "; Segmenter.shipped()" if (ROOT / "models").exists() else ""
    (tmp_path / "prefix").rename(
        tmp_path / "moved"
    )  # everything except its Python can even be moved
    (tmp_path / "prefix").symlink_to("moved")
    script = f"""
        . {tmp_path}/prefix/env.sh
        caffe --version
        python -c 'from gcrf import Segmenter{shipped}; print(open("/proc/self/maps").read())'
    """
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"]}
    result = run(script, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stdout
    assert "caffe version 1.0.0" in result.stdout
    assert "libcaffe.so" in result.stdout
    assert str(ROOT) not in result.stdout


def test_docker_ignores_what_git_ignores():
    expected = [".git"]
    for folder in ("", "data/", "snapshots/"):
        for line in patterns(ROOT / folder / ".gitignore"):
            bang = "!" if line.startswith("!") else ""
            name = line.removeprefix("!").removesuffix("/")
            anchored = name.startswith("/")
            expected.append(f"{bang}{folder}{name[1:] if anchored else f'**/{name}'}")
    assert patterns(ROOT / ".dockerignore") == expected


def patterns(file):
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]
