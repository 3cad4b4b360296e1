"""The layers' gradient tests can fail: each term left out of a Backward turns them red.

test_gradient_check.hpp does this, in every run of the C++ tests, for the mistakes that any layer
could make (no gradient, wrong sign, 10 % off). Here are those that only one formula could have: the
source is changed in one place, compiled, and Caffe's gradient checker must report a failure.
"""

import json
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import caffe
import pytest

BUILD = Path(caffe.__file__).resolve().parents[2]
LAYERS = Path(__file__).resolve().parent.parent / "caffe_layers"

TESTS = {
    "gmf_kernels.cpp": "GMFLayerTest/*Gradient*",
    "similarity_kernels.cpp": "SimilarityLayerTest/*Gradient*",
    "interp_layer.cpp": "InterpLayerTest/*Gradient*",
}
# What is wrong: (file, text that stands there once, what it becomes).
MUTANTS = {
    "GMF, r: q = g instead of g - S h": (
        "gmf_kernels.cpp",
        "SubtractScaled(d, step, g, S, h, q);",
        "AddRows(d, step, g, zeros, q);",
    ),
    "GMF, mu: g of the kept columns does not pass through": (
        "gmf_kernels.cpp",
        "AddRows(d, step, g, sums.From(j * K), g);",
        "AddRows(d, step, zeros, sums.From(j * K), g);",
    ),
    "GMF, s: h' mu_j without - h' mu'_i": (
        "gmf_kernels.cpp",
        "NegativeProduct(d, step, h, mu, h[K]);",
        "std::fill(h[K], h[K] + half, T(0));",
    ),
    "GMF, s: no gradient from the pairs whose lower end is updated": (
        "gmf_kernels.cpp",
        "PairProducts(d, step, mu, MarginRow(step, in.weighted, row + dy),",
        "PairProducts(d, step, mu, MarginRow(step, in.kept_means, row + dy),",
    ),
    "GMF, C: q m' without - S mu'": (
        "gmf_kernels.cpp",
        "SubtractScaled(d, step, m, S, mu, difference);",
        "AddRows(d, step, m, zeros, difference);",
    ),
    "GMF, C: - q S mu' without m": (
        "gmf_kernels.cpp",
        "SubtractScaled(d, step, m, S, mu, difference);",
        "SubtractScaled(d, step, zeros, S, mu, difference);",
    ),
    "GMF, C: G instead of (G + G') / 2": (
        "gmf_kernels.cpp",
        "G[k][l] = G[l][k] = (G[k][l] + G[l][k]) / 2;",
        "",
    ),
    "Similarity: only the pairs that a pixel is the upper end of": (
        "similarity_kernels.cpp",
        "T* const out = weights[i * across + j];",
        "T* const out = weights[i * across + j]; "
        "if (dy < 0) { std::fill_n(out, sizes.padded, T(0)); continue; }",
    ),
    "Similarity: g without the factor s": (
        "similarity_kernels.cpp",
        "hn::Mul(hn::LoadU(d, similarities + entry), hn::LoadU(d, similarities_diff + entry))",
        "hn::LoadU(d, similarities_diff + entry)",
    ),
    "Similarity: the own feature left out of the difference": (
        "similarity_kernels.cpp",
        "const auto difference = hn::Sub(p[m],",
        "const auto difference = hn::Sub(hn::Zero(d),",
    ),
    "Interp: nothing from the rows above a pixel": (
        "interp_layer.cpp",
        "int y = row_begin[std::max(0, i - 1)]",
        "int y = row_begin[i]",
    ),
}


def compile_command(source):
    """Return the object that libcaffe has of a source file, and the words of its command but for
    the names of the files."""
    commands = json.loads(subprocess.check_output(["ninja", "-C", BUILD, "-t", "compdb"]))
    (command,) = (c for c in commands if c["file"] == str(source))
    words = shlex.split(command["command"])
    return command["output"], words[: words.index("-MD")]


def run_mutant(mutant, folder):
    """Build libcaffe with the mutant and return the result of running its tests."""
    file, text, replacement = mutant
    pattern = r"\s*".join(map(re.escape, "".join(text.split())))  # however its lines are wrapped
    source, count = re.subn(pattern, lambda _: replacement, (LAYERS / file).read_text())
    assert count == 1, f"{file} holds {text!r} {count} times, expected 1"
    (folder / file).write_text(source)
    original, words = compile_command(LAYERS / file)
    compiled, library = folder / "mutant.o", folder / "libcaffe.so.1.0.0"
    subprocess.run(
        # One instruction set is enough here, and takes a quarter of the time.
        [*words, f"-I{LAYERS}", "-O1", "-DHWY_COMPILE_ONLY_STATIC",
         "-o", compiled, "-c", folder / file],
        cwd=BUILD, check=True,
    )  # fmt: skip
    link = subprocess.check_output(
        ["ninja", "-C", BUILD, "-t", "commands", "-s", "lib/libcaffe.so.1.0.0"], text=True
    )
    link = link.replace(original, str(compiled)).replace(
        "-o lib/libcaffe.so.1.0.0", f"-o {library}"
    )
    subprocess.run(link, shell=True, cwd=BUILD, check=True)
    return subprocess.run(
        [BUILD / "test/gcrf.testbin", f"--gtest_filter={TESTS[file]}"],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the result of each mutant, built side by side."""
    folders = [tmp_path_factory.mktemp("mutant") for _ in MUTANTS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = pool.map(run_mutant, MUTANTS.values(), folders)
        return dict(zip(MUTANTS, runs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_the_gradient_tests_see_a_missing_term(results, name):
    output = results[name].stdout
    assert results[name].returncode == 1, output
    assert "[  FAILED  ]" in output, output
