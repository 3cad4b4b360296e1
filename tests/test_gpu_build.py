"""What can be checked without a GPU: the GPU's code compiles, fits in registers, and links."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import report_kernels

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "build/gpu/lib/libcaffe.so"
PTXAS = """
ptxas info    : Compiling entry function '_ZN5caffe10SymmetriseIfEEviiPKT_PS1_' for 'sm_75'
ptxas info    : Function properties for _ZN5caffe10SymmetriseIfEEviiPKT_PS1_
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 16 registers, used 0 barriers, 376 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN5caffe10SymmetriseIdEEviiPKT_PS1_' for 'sm_90'
ptxas info    : Function properties for _ZN5caffe10SymmetriseIdEEviiPKT_PS1_
    8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers, 376 bytes cmem[0]
"""


def kernels():
    """Return the names of all kernels of the layers."""
    sources = [*(ROOT / "caffe_layers").glob("*.cu"), *(ROOT / "caffe_layers").glob("*.cuh")]
    text = "".join(source.read_text() for source in sources)
    return set(re.findall(r"__global__ void (\w+)\(", text))


def test_the_messages_of_the_assembler_are_understood():
    assert report_kernels.parse(PTXAS) == {
        ("Symmetrise", "float", "75"): (16, 0),
        ("Symmetrise", "double", "90"): (255, 12),
    }


def test_the_page_on_the_gpu_has_every_kernel():
    text = (ROOT / "docs/gpu.md").read_text()
    on_paper, registers = text.split("## Registers")
    assert set(re.findall(r"^\| `(\w+)` \|", registers, re.MULTILINE)) == kernels()
    assert kernels() <= set(re.findall(r"`(\w+)`", on_paper))


def test_device_query_says_in_one_line_that_there_is_no_device():
    result = subprocess.run(
        ["caffe", "device_query"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    (line,) = result.stdout.splitlines()
    assert line.startswith("No CUDA device: ")


@pytest.mark.slow
@pytest.mark.skipif(not report_kernels.find_nvcc(), reason="no nvcc here")
def test_no_kernel_spills_registers(capsys):
    assert report_kernels.main(["--architectures", "75", "90"]) == 0, capsys.readouterr().err
    rows = capsys.readouterr().out.splitlines()[2:]
    assert {row.split("`")[1] for row in rows} == kernels()


@pytest.mark.skipif(not LIBRARY.exists(), reason="no build/gpu here: make GPU=1")
@pytest.mark.skipif(not shutil.which("cuobjdump"), reason="no cuobjdump here")
def test_the_library_holds_every_kernel_for_each_architecture():
    listing = subprocess.check_output(["cuobjdump", "-res-usage", LIBRARY], text=True)
    architectures = re.split(r"^arch = (sm_\d+)$", listing, flags=re.MULTILINE)
    found = {}
    for architecture, functions in zip(architectures[1::2], architectures[2::2], strict=True):
        names = re.findall(r"Function _ZN5caffe(\d+)(\w+):", functions)
        found.setdefault(architecture, set()).update(name[: int(size)] for size, name in names)
    assert found
    for architecture, names in found.items():
        assert kernels() <= names, f"{architecture} lacks {kernels() - names}"
