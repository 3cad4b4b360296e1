#!/usr/bin/env python3
"""Draw the networks in prototxt/ as docs/nets/*.svg.

Example: tools/draw_nets.py
Example: tools/draw_nets.py nets/camvid/finetune.prototxt --output nets/camvid

Needs Graphviz (apt-get install graphviz).
Exit codes: 0 drawn, 1 bad net or no Graphviz, 2 bad usage.
"""

import subprocess
import sys
from pathlib import Path

from caffe.proto import caffe_pb2
from google.protobuf import text_format

from gcrf import atomic, cli
from gcrf.nets import PAPER

COLOURS = {"unary": "#dbe9f6", "pairwise": "#fde3cf", "gmf": "#ddf1dc"}  # else white
STYLE = """
  rankdir=TB; nodesep=0.25; ranksep=0.3;
  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, height=0.3];
  edge [arrowsize=0.6, color="#555555"];"""


def training_layers(net):
    """The layers of the training phase, without a stage, and all those of a deploy net."""
    return [
        layer
        for layer in net.layer
        if not any(rule.phase == caffe_pb2.TEST or rule.stage for rule in layer.include)
    ]


def describe(layer):
    """What a box says of a layer beside its name."""
    if layer.type == "Convolution":
        p = layer.convolution_param
        words = [f"{p.kernel_size[0]} x {p.kernel_size[0]} conv, {p.num_output}"]
        words += [f"stride {p.stride[0]}"] if list(p.stride) not in ([], [1]) else []
        words += [f"dilation {p.dilation[0]}"] if p.dilation else []
        return ", ".join(words)
    if layer.type == "Pooling":
        p = layer.pooling_param
        method = "max" if p.pool == p.MAX else "average"
        return f"3 x 3 {method} pooling, stride {p.stride}"
    if layer.type == "Interp":
        p = layer.interp_param
        return f"Interp, x {p.zoom_factor}" if p.zoom_factor else f"Interp, / {p.shrink_factor}"
    return layer.type


def dot_source(net):
    """Return a net as a Graphviz graph; layers that work in place are named in their input's box.

    net: caffe_pb2.NetParameter in which every blob is made by one layer, or changed in place.
    """
    boxes, maker, edges = {}, {}, []
    for layer in training_layers(net):
        if list(layer.top) == list(layer.bottom):
            boxes[maker[layer.bottom[0]]] += f" + {layer.type}"
            continue
        boxes[layer.name] = f"{layer.name}\\n{describe(layer)}"
        edges += [(maker[blob], layer.name) for blob in layer.bottom]
        maker.update(dict.fromkeys(layer.top, layer.name))
    lines = [f'digraph "{net.name}" {{{STYLE}']
    for name, text in boxes.items():
        group = name.partition("/")[0].rstrip("0123456789")
        lines.append(f'  "{name}" [label="{text}", fillcolor="{COLOURS.get(group, "#ffffff")}"];')
    lines += [f'  "{start}" -> "{end}";' for start, end in dict.fromkeys(edges)]
    return "\n".join([*lines, "}\n"])


def draw(args):
    """Draw the nets of the arguments; raise OSError or ValueError for what is wrong."""
    for path in args.nets:
        try:
            net = text_format.Parse(path.read_text(), caffe_pb2.NetParameter())
            with atomic.new_file(args.output / f"{path.stem}.svg") as partial:
                command = ["dot", "-Tsvg", "-o", partial]
                subprocess.run(command, input=dot_source(net), text=True, check=True)
        except FileNotFoundError as error:
            hint = "; apt-get install graphviz" if error.filename == "dot" else ""
            raise ValueError(f"{error}{hint}") from error
        except (text_format.ParseError, subprocess.CalledProcessError) as error:
            raise ValueError(f"{path}: {error}") from error


def main(argv=None):
    parser = cli.parser(__doc__)
    names = ("unary", "pretrain", "finetune", "deploy_unary", "deploy")
    paths = [PAPER.output / f"{name}.prototxt" for name in names]
    parser.add_argument("nets", type=Path, nargs="*", default=paths, help="default: the paper's")
    parser.add_argument("--output", type=Path, default=Path("docs/nets"), help="default: docs/nets")
    return cli.run("draw_nets", draw, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
