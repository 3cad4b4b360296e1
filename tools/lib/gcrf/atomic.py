"""Files and folders that appear under their name only when they are whole.

Both work under a hidden name beside the target and rename at the end: a run that is killed leaves
the target as it was, and the next run removes what the killed one left behind.
"""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path


@contextlib.contextmanager
def new_file(path):
    """Yield a path to write to; it becomes `path`, replacing an old file, if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")  # writers go by the suffix
    try:
        yield partial
        _flush_to_disk(partial)
        partial.rename(path)
        _flush_to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path):
    """Yield an empty folder to fill; it becomes `path` if the block succeeds.

    Raises FileExistsError where `path` exists already, BlockingIOError while another run is
    filling it. The files in the folder are for the block to flush to disk.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already: remove it first, or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.mkdir(exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the lock dies with its process
        except BlockingIOError as error:
            raise BlockingIOError(f"{path} is being written by another run: wait for it") from error
        _empty(partial)
        try:
            yield partial
            _flush_to_disk(partial)
            partial.rename(path)
            _flush_to_disk(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # nothing is left after the rename
    finally:
        os.close(lock)


def _empty(folder):
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _flush_to_disk(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
