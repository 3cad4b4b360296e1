"""What all tests share: the import path and repeatable property-based tests."""

import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python_layers"))

# The same cases on every machine and in every run, and no time limit for a slow one.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
