"""Every command of the project runs from the shell, and its help shows how to call it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    path.relative_to(ROOT)
    for folder in ("tools", "tools/benchmark", "data/shapes")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "__main__" in path.read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_help_shows_an_example(command):
    result = subprocess.run([ROOT / command, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Example" in result.stdout
    assert str(command) in result.stdout
