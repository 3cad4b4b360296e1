"""One contender of benchmark_networks.py in its own process, which runs a pass when asked to.

The contender is a class Runner(folder, task, setting) in a module of its name. It has run(), one
pass, and result(), the arrays from that pass. Requests and replies are pickled on the standard
streams: ("run",) is answered with the milliseconds of a pass, any other method name with what the
method returns. The process ends when its input does.
"""

import importlib
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path


class WorkerError(Exception):
    """A contender failed; what it printed says why."""


class Worker:
    """A contender's process, seen from the benchmark."""

    def __init__(self, module, folder, task, setting):
        """module: where the Runner is; folder: of nets, weights and inputs."""
        self._name = f"{module}, {setting}, {task}"
        code = f"import benchmark_worker; benchmark_worker.serve({module!r})"
        environment = {**os.environ, "GLOG_minloglevel": "2"}
        tools = str(Path(__file__).resolve().parent)
        environment["PYTHONPATH"] = os.pathsep.join([tools, *sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, folder, task, setting],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def call(self, method, *arguments):
        """Return what the Runner's method returned; raise WorkerError if its process is gone."""
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError) as error:
            status = self._process.wait()
            reason = f"killed by signal {-status}" if status < 0 else "the reason is above"
            raise WorkerError(f"{self._name}: its process ended, {reason}") from error

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def serve(module):
    """Run the process of a contender."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not a reply
    make = importlib.import_module(module).Runner
    libraries = memory("VmRSS")
    runner = make(*sys.argv[1:])
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if method == "run":
            start = time.perf_counter()
            runner.run()
            reply = 1e3 * (time.perf_counter() - start)
        elif method == "memory":
            reply = memory("VmHWM"), libraries
        else:
            reply = getattr(runner, method)(*arguments)
        pickle.dump(reply, replies)
        replies.flush()


def memory(field):
    """Return the present (VmRSS) or the greatest (VmHWM) memory of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1e3
    raise WorkerError(f"/proc/self/status has no {field}")
