"""The GPU's code, run on the CPU: see cuda_on_cpu/. It must agree with the CPU's code, and the
tests must be able to fail: each fault planted in a kernel turns them red.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import caffe
import pytest

ROOT = Path(__file__).resolve().parent.parent
EMULATION = ROOT / "tests/cuda_on_cpu"
LAYERS = ROOT / "caffe_layers"
CAFFE_BUILD = Path(caffe.__file__).resolve().parents[2]
PROGRAM = "cuda_on_cpu.testbin"
ON_THE_GPU = "*/2.*:*/3.*"  # GPUDevice<float>, GPUDevice<double> of TestDtypesAndDevices
AGAINST_THE_CPU = "CudaOnCpuTest/*"

# What is wrong: (file, text that stands there once, what it becomes, .cu files that it is compiled
# with, what the tests must say).
MUTANTS = {
    "wrong boundary: the row below the last one": (
        *("similarity_layer.cu", "grid.Contains(pair.lower_y,", "grid.Contains(pair.lower_y - 1,"),
        *(["similarity_layer.cu"], r"CUDA kernel SimilarityForward.*: element \d+ of an array of"),
    ),
    "wrong boundary: the column after the last one": (
        *("neighbourhood.cuh", "grid.Contains(y + dy, x + dx)",
          "(grid.Contains(y + dy, x + dx) || x + dx == grid.width)"),
        *(["similarity_layer.cu"], r"CUDA kernel SimilarityBackward.*: element \d+ of an array of"),
    ),
    "missing barrier: the sum of a block": (
        *("loss_sum.cuh", "sums[t] = own;\n  __syncthreads();", "sums[t] = own;"),
        *(["margin_loss_layer.cu", "similarity_loss_layer.cu"],
         "CUDA kernel FinishLoss.*: element -1 of an array of 1"),
    ),
    "missing barrier: a rotation before its angle": (
        *("gmf_layer.cu", "__syncthreads();  // for the rotations", ""),
        *(["gmf_layer.cu"], "compatibility has the eigenvalue -?nan"),
    ),
    "race between blocks: R above its diagonal is read where another block clears it": (
        *("matrix_gen_layer.cu", "k <= min(i, j)", "k <= max(i, j)"),
        *(["matrix_gen_layer.cu"], "Results depend on the order of blocks and threads"),
    ),
    "unwritten element: the means of the updated columns have no gradient": (
        *("gmf_layer.cu", "means_diff[to + k * plane + updated] = 0;", ""),
        *(["gmf_layer.cu"], r"Result \d is off by -?nan"),
    ),
    "unwritten element: no similarity where the pair leaves the image": (
        *("similarity_layer.cu", "similarities[index] = similarity;",
          "if (similarity != 0) { similarities[index] = similarity; }"),
        *(["similarity_layer.cu"], r"Result \d is off by -?nan"),
    ),
}  # fmt: skip


def build(folder, *options):
    """Build the emulation with the layers and their tests in `folder`; returns the program."""
    subprocess.run(
        ["cmake", "-S", EMULATION, "-B", folder, "-G", "Ninja",
         f"-DCAFFE_BUILD={CAFFE_BUILD}", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", *options],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    subprocess.run(["ninja", "-C", folder, PROGRAM], check=True)
    return folder / PROGRAM


def run(program, tests):
    return subprocess.run(
        [program, f"--gtest_filter={tests}"],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # death tests do not clean up
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def assert_all_passed(result):
    assert result.returncode == 0, result.stdout[-5000:]
    passed = re.findall(r"^\[  PASSED  \] (\d+) tests?\.$", result.stdout, re.MULTILINE)
    # As many as the CPU has, plus those that compare the two.
    assert int(passed[0]) >= 198, passed


@pytest.fixture(scope="module")
def program():
    return build(ROOT / "build/cuda_on_cpu")


@pytest.mark.slow
def test_the_layers_on_the_gpu_pass_the_tests_of_the_cpu_and_agree_with_it(program):
    assert_all_passed(run(program, f"{ON_THE_GPU}:{AGAINST_THE_CPU}"))


@pytest.mark.slow
def test_the_sanitizers_find_nothing():
    program = build(ROOT / "build/cuda_on_cpu_sanitized", "-DSANITIZE=ON")
    assert_all_passed(run(program, f"{ON_THE_GPU}:{AGAINST_THE_CPU}"))


def run_mutant(mutant, program, folder):
    """Plant a fault in a copy of the source and return the result of the tests."""
    file, text, replacement, sources, _ = mutant
    shutil.copytree(LAYERS, folder / "layers", ignore=shutil.ignore_patterns("*.?pp"))
    mutated = folder / "layers" / file
    assert mutated.read_text().count(text) == 1, f"{file} does not hold {text!r} once"
    mutated.write_text(mutated.read_text().replace(text, replacement))
    commands = json.loads(subprocess.check_output(["ninja", "-C", program.parent, "-t", "compdb"]))
    link = subprocess.check_output(
        ["ninja", "-C", program.parent, "-t", "commands", "-s", PROGRAM], text=True
    ).replace(f"-o {PROGRAM}", f"-o {folder / PROGRAM}")
    for name in sources:
        rewritten, compiled = folder / f"{name}.cpp", folder / f"{name}.o"
        subprocess.run(
            [sys.executable, EMULATION / "rewrite.py", folder / "layers" / name, rewritten],
            check=True,
        )
        (command,) = (c for c in commands if c["file"].endswith(f"rewritten/{name}.cpp"))
        words = shlex.split(command["command"])
        words = words[: words.index("-MD")]
        subprocess.run([*words, "-o", compiled, "-c", rewritten], cwd=program.parent, check=True)
        link = link.replace(command["output"], str(compiled))
    subprocess.run(link, shell=True, cwd=program.parent, check=True)
    return run(folder / PROGRAM, AGAINST_THE_CPU)


@pytest.fixture(scope="module")
def mutant_results(program, tmp_path_factory):
    """Return the result of each mutant, built side by side."""
    folders = [tmp_path_factory.mktemp("mutant") for _ in MUTANTS]
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(run_mutant, MUTANTS.values(), [program] * len(MUTANTS), folders)
        return dict(zip(MUTANTS, runs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_shows_red(mutant_results, name):
    result = mutant_results[name]
    assert result.returncode != 0, result.stdout
    assert re.search(MUTANTS[name][-1], result.stdout), result.stdout
