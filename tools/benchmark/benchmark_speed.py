"""What a run takes, and what this machine could do at best."""

import time

import numpy as np


def milliseconds(run, repeats):
    """Return the sorted times of repeated runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)


def machine_speed():
    """Return floating point operations and bytes per millisecond."""
    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    product = milliseconds(lambda: a @ a, 5)[0]
    source = np.zeros(2**24, np.float32)
    target = np.zeros_like(source)
    copy = milliseconds(lambda: np.copyto(target, source), 5)[0]
    return 2 * 2048**3 / product, 2 * source.nbytes / copy
