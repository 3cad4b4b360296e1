"""Files and folders that get their name only when they are complete, and a lock.

They are written under a hidden name beside the target and renamed at the end. A run that is killed
leaves the target as it was, and the next run removes what the killed one left behind.
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
        _publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path):
    """Yield an empty folder to fill; it becomes `path` if the block succeeds.

    Raises FileExistsError if `path` exists already, BlockingIOError while another run is filling
    it. Flushing the files in the folder to disk is up to the block.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already: remove it first, or choose another name")
    partial = path.with_name(f".{path.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial, f"{path} is being written by another run: wait for it"):
        _empty(partial)
        try:
            yield partial
            _publish(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # nothing is left after the rename


@contextlib.contextmanager
def locked(path, busy):
    """Yield the descriptor of a file, created if necessary, or of a folder; it is locked meanwhile.

    Raises BlockingIOError with the message `busy` if another process has locked it. The lock ends
    with the last process that has the descriptor: this one, or one that inherits it.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(busy) from error
        yield descriptor
    finally:
        os.close(descriptor)


def _publish(partial, path):
    """Give what was written its name, once all of it is on the disk."""
    _flush_to_disk(partial)
    partial.rename(path)
    _flush_to_disk(path.parent)


def _empty(folder):
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _flush_to_disk(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
