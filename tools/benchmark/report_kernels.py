#!/usr/bin/env python3
"""Compile the layers' CUDA kernels, and list the registers that each needs and what it spills.

Example: tools/benchmark/report_kernels.py --architectures 75 90

Prints a Markdown table: registers of the float and of the double kernel for each architecture. A
kernel that spills registers to memory is an error. Needs nvcc and build/source (make), but no GPU.
Exit codes: 0 done, 1 a kernel spills, or nvcc failed, 2 bad usage.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from gcrf import cli

ROOT = Path(__file__).resolve().parents[2]
PTXAS = re.compile(  # what `nvcc -Xptxas -v` says about each kernel
    r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?"
    r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


def find_nvcc():
    """Return nvcc's path, or None: from PATH or the toolkit's default place, as in the Makefile."""
    return shutil.which("nvcc", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")


def parse(output):
    """Return {(kernel, type, architecture): (registers, spilled bytes)} from ptxas's messages.

    output: str, what `nvcc -Xptxas -v` printed; type is "float" or "double".
    """
    found = {}
    for symbol, architecture, stored, loaded, registers in PTXAS.findall(output):
        # _ZN5caffe12MergeColumnsIfEEv...: the namespace, the name, its one type
        name = re.match(r"_ZN5caffe(\d+)(\w+)", symbol)
        kernel, rest = name[2][: int(name[1])], name[2][int(name[1]) :]
        dtype = {"If": "float", "Id": "double"}[rest[:2]]
        found[kernel, dtype, architecture] = (int(registers), int(stored) + int(loaded))
    return found


def compile_kernels(source, architectures, nvcc, build):
    """Compile one .cu file and return what parse() finds; raises ValueError if nvcc fails."""
    includes = (ROOT / "caffe_layers", ROOT / "build/source/include", build / "include", build)
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [
                *(nvcc, "-std=c++17", "-O3", "-w", "-DUSE_OPENCV", "-Xptxas", "-v"),
                *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures),
                *(f"-I{include}" for include in includes),
                *("-c", source, "-o", f"{folder}/kernels.o"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if result.returncode:
        raise ValueError(f"{source.name}: nvcc says {result.stdout.strip()[:500]}")
    return parse(result.stdout)


def table(found, architectures):
    """Return Markdown lines: a row for each kernel, float and double for each architecture."""
    columns = [f"sm_{a} {dtype}" for a in architectures for dtype in ("float", "double")]
    lines = [f"| kernel | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for kernel in sorted({key[0] for key in found}):
        cells = [
            str(found[kernel, dtype, a][0]) for a in architectures for dtype in ("float", "double")
        ]
        lines.append(f"| `{kernel}` | {' | '.join(cells)} |")
    return lines


def report(args):
    """Print the table; return the exit code, raise ValueError for what is wrong."""
    nvcc = find_nvcc()
    if not nvcc:
        raise ValueError("nvcc is neither on PATH nor in /usr/local/cuda/bin")
    found = {}
    for source in tqdm(sorted((ROOT / "caffe_layers").glob("*.cu")), unit="file"):
        found |= compile_kernels(source, args.architectures, nvcc, args.build)
    print("\n".join(table(found, args.architectures)))
    spilled = {key: spill for key, (_, spill) in found.items() if spill}
    for (kernel, dtype, architecture), spill in spilled.items():
        print(
            f"report_kernels: {kernel}<{dtype}> on sm_{architecture} spills {spill} bytes, "
            "expected none: make its threads keep fewer values",
            file=sys.stderr,
        )
    return 1 if spilled else 0


def main(argv=None):
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--architectures", nargs="+", default=["75", "90"], help="of GPUs (default: 75 90)"
    )
    parser.add_argument(
        "--build", type=Path, default=ROOT / "build/current", help="a build, for its headers"
    )
    return cli.run("report_kernels", report, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
