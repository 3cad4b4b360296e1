"""Where a figure comes from: the machine, and the state of this project."""

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def processor():
    """Return the name of this machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def machine():
    """Return this machine's processor and how many of its cores this process may use."""
    return f"{processor()}, {len(os.sched_getaffinity(0))} logical cores"


def commit():
    """Return the project's commit, with a + if tracked files differ, or "no checkout"."""
    if not (ROOT / ".git").exists():
        return "no checkout"
    command = ["git", "-C", ROOT, "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return found.strip() or "unknown commit"  # git has said why
