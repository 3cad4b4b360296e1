"""Imports: commands import the library, and library modules import only lower ones."""

import ast
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "tools/lib/gcrf"
LAYERS = [  # from the lowest; a module imports only lower ones; python_layers counts as one module
    ["gcrf.atomic", "gcrf.cli", "gcrf.label_maps", "gcrf.pools", "gcrf.training_log", "gcrf.voc"],
    ["gcrf.caffemodel", "gcrf.images", "gcrf.markdown", "gcrf.origin", "gcrf.scores"],
    ["gcrf.records"],
    ["python_layers"],
    ["gcrf.drawing", "gcrf.net_parts"],
    ["gcrf.efficientnet", "gcrf.vgg16"],
    ["gcrf.nets"],
    ["gcrf.runs", "gcrf.shipped", "gcrf.starting_weights"],
    ["gcrf.segmenter"],
    ["gcrf.calibration", "gcrf.dense_crf", "gcrf.explanation", "gcrf.network", "gcrf.report"],
    ["gcrf.monitor", "gcrf.pipeline"],
    ["gcrf.training"],
    ["gcrf.evaluation"],
    ["gcrf"],  # its Segmenter
]
LAYER_OF = {module: layer for layer, modules in enumerate(LAYERS) for module in modules}
FOLDERS = ("tools", "tools/benchmark", "data/shapes")
COMMANDS = {
    path.stem
    for folder in FOLDERS
    for path in (ROOT / folder).glob("*.py")
    if "__main__" in path.read_text()
}


def imported(text):
    """Return the names of the modules that a source text imports, `gcrf.voc` for `import voc`."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside & LAYER_OF.keys() or {node.module}
    return names


def faults(module, text):
    """Return what is wrong with the imports of a module, a sentence each."""
    found = []
    for name in sorted(imported(text)):
        package = "python_layers" if name.startswith("python_layers.") else name
        if name in COMMANDS:
            found.append(f"{module} imports the command {name}")
        elif package != module and LAYER_OF.get(package, -1) >= LAYER_OF.get(module, math.inf):
            found.append(f"{module} imports {name}, which is not in a lower layer")
    return found


def sources():
    """Yield (module, text) of all code but the tests."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).glob("*.py")):
            yield path.stem, path.read_text()
    for path in sorted((ROOT / "python_layers").glob("*.py")):
        yield "python_layers", path.read_text()
    for path in sorted(LIBRARY.glob("*.py")):
        yield "gcrf" if path.stem == "__init__" else f"gcrf.{path.stem}", path.read_text()


def test_nobody_imports_a_command_or_a_higher_layer():
    assert [fault for module, text in sources() for fault in faults(module, text)] == []


def test_every_module_of_the_library_has_its_layer():
    modules = {module for module, _ in sources() if module.startswith("gcrf")}
    assert modules | {"python_layers"} == LAYER_OF.keys()


def test_who_works_without_networks_does_without_caffe():
    modules = "atomic, cli, drawing, images, label_maps, pools, training_log, voc"
    code = f"import sys; from gcrf import {modules}; print('caffe' in sys.modules)"
    command = [sys.executable, "-c", f"{code}; from gcrf import Segmenter; print(Segmenter)"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.check_output(command, env=environment, text=True)
    assert printed.split("\n")[:2] == ["False", "<class 'gcrf.segmenter.Segmenter'>"]


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("compare", "from eval import SUBMISSION", "compare imports the command eval"),
        ("demo", "def later():\n    import report", "demo imports the command report"),
        ("gcrf.images", "import predict", "gcrf.images imports the command predict"),
        ("gcrf.images", "from gcrf import voc, nets", "imports gcrf.nets, which is not in a lower"),
        ("gcrf.scores", "from gcrf.images import read_truth", "imports gcrf.images, which is not"),
        ("python_layers", "from gcrf.nets import PAPER", "imports gcrf.nets, which is not in"),
        ("gcrf.records", "from python_layers import gmf", "imports python_layers, which is not"),
    ],
)
def test_a_planted_import_is_found(module, text, fault):
    (found,) = faults(module, text)
    assert fault in found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("eval", "from gcrf import cli, dense_crf"),
        ("gcrf.nets", "from gcrf.label_maps import IGNORE_LABEL"),
        ("python_layers", "from python_layers.neighbourhood import pair_ends"),
    ],
)
def test_what_is_allowed_is_no_fault(module, text):
    assert faults(module, text) == []
