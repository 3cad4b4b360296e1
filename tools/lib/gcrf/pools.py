"""Work outside the main thread: in threads, with the results in order, and in processes."""

import collections
import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor


def in_order(pool, function, items, ahead):
    """Yield (item, future of function(item)) of each of the items, in order.

    At most `ahead` + 1 are in progress while the consumer works on one, so memory stays flat even
    if the consumer is slower.
    """
    pending = collections.deque()
    for item in items:
        pending.append((item, pool.submit(function, item)))
        if len(pending) > ahead or pending[0][1].done():
            yield pending.popleft()
    while pending:
        yield pending.popleft()


@contextlib.contextmanager
def worker_processes():
    """Yield an executor with one process per processor; they end when this process does.

    Enter it before anything starts threads: its processes are forks of this one.
    """
    context, count = multiprocessing.get_context("fork"), len(os.sched_getaffinity(0))
    pool = ProcessPoolExecutor(count, context, _start_worker)
    try:
        pool.submit(os.getpid).result()  # the processes start with the first task
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
