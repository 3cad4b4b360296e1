"""What all tests share: import paths, repeatable property-based tests, the trained model."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("GLOG_minloglevel", "2")  # errors only, no log of every net
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as in env.sh
ROOT = Path(__file__).resolve().parent.parent
# The library, and the folders of the commands, whose main() the tests call.
sys.path[:0] = [str(ROOT / folder) for folder in ("tools/lib", "tools", "tools/benchmark")]

# The same cases on every machine and in every run, and no time limit on slow machines.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shipped_model():
    """The Segmenter of the trained model that comes with the project."""
    from gcrf import Segmenter, shipped  # noqa: PLC0415  Caffe, which few of the tests load

    if not (shipped.FOLDER / shipped.WEIGHTS).is_file():
        pytest.skip("models/voc_lite has no weights yet")
    return Segmenter.shipped()
