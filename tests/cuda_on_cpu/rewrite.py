"""Rewrite CUDA source so that a C++ compiler takes it, and cuda_on_cpu.hpp runs it.

Example: tests/cuda_on_cpu/rewrite.py caffe_layers/gmf_layer.cu build/gmf_layer.cu.cpp
Writes the .cuh files that the source includes beside the target.

This is no parser. It takes `Type* name` for a pointer, and for a launch
`Kernel<Type> <<<grid, block>>>(arguments)`, as clang-format writes them. What it does not
understand does not compile.
"""

import argparse
import re
import sys
from pathlib import Path

# `Type* name`, or `Type *name` for those types that Caffe writes like this
POINTER = r"((?:const )?\b(?:\w+(?:<\w+>)?(?=\* \w)|(?:Dtype|int|float|double)(?= \*\w)))\s?\*"


def closing(text, at):
    """Return the place of the bracket that closes the one at `at`."""
    pairs = {"(": ")", "{": "}"}
    depth = 0
    for i in range(at, len(text)):
        if text[i] == text[at]:
            depth += 1
        elif text[i] == pairs[text[at]]:
            depth -= 1
            if depth == 0:
                return i
    raise ValueError(f"nothing closes what {text[at : at + 40]!r} opens")


def device_functions(text):
    """Yield (name, begin, end) of each function that is __global__ or __device__."""
    for match in re.finditer(r"\b__(?:global|device)__\b[^(;{]*?(\w+)\s*\(", text):
        after_parameters = closing(text, match.end() - 1)
        brace = text.index("{", after_parameters)
        yield match[1], match.start(), closing(text, brace) + 1


def with_barriers(texts):
    """Return the names of the device functions that wait at a barrier, or call one that does."""
    bodies = {
        name: text[begin:end] for text in texts for name, begin, end in device_functions(text)
    }
    found = {"__syncthreads", "__syncthreads_or"}
    while True:
        called = re.compile(rf"\b(?:{'|'.join(found)})\b")
        more = {name for name, body in bodies.items() if called.search(body.split("{", 1)[1])}
        if more <= found:
            return found
        found |= more


def rewrite(text, barriers):
    """Return the text of one file as C++; barriers: what with_barriers() found."""
    pieces, last = [], 0
    for _, begin, end in device_functions(text):
        body = re.sub(POINTER, r"::cuda_on_cpu::DevicePointer<\1>", text[begin:end])
        body = re.sub(
            r"__shared__ ([\w<>]+) (\w+)\[(\w+)\];",
            r"static ::cuda_on_cpu::SharedArray<\1, \3> \2;",
            body,
        )
        pieces += [text[last:begin], body]
        last = end
    text = "".join([*pieces, text[last:]])
    text = re.sub(r"  // NOLINT_NEXT_LINE\(whitespace/operators\)", "", text)

    def launch(match):
        kernel = match[1]
        grid, block = _split(match[2])
        waits = str(kernel.split("<")[0] in barriers).lower()
        shape = f'{{"{kernel}", dim3({grid}), dim3({block}), {waits}}}'
        return f"::cuda_on_cpu::Launch({shape}, {kernel}, "

    return re.sub(r"([\w#]+(?:<\w+>)?)\s*<<<(.*?)>>>\s*\(", launch, text, flags=re.DOTALL)


def _split(shape):
    """Return both parts of `grid, block`, where either may have arguments of its own."""
    depth = 0
    for i, char in enumerate(shape):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            return shape[:i], shape[i + 1 :]
    raise ValueError(f"<<<{shape}>>>, expected a grid and a block")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a .cu file, or a header with kernels")
    parser.add_argument("target", type=Path, help="the C++ file to write")
    args = parser.parse_args(argv)
    text = args.source.read_text()
    headers = {
        name: (args.source.parent / name).read_text()
        for name in re.findall(r'#include "(\w+\.cuh)"', text)
    }
    barriers = with_barriers([text, *headers.values()])
    args.target.parent.mkdir(parents=True, exist_ok=True)
    for name, header in headers.items():
        (args.target.parent / name).write_text(rewrite(header, barriers))
    line = f'#line 1 "{args.source.resolve()}"\n'
    args.target.write_text(line + rewrite(text, barriers))


if __name__ == "__main__":
    sys.exit(main())
