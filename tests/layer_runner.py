"""Run Caffe's layers and nets on arrays, in float or double, which pycaffe cannot.

    layer = CaffeLayer('type: "Interp" interp_param { zoom_factor: 2 }', np.float64)
    y = layer.forward(x)                        # any shape, in every call
    (x_diff,) = layer.backward(np.ones_like(y))

The library behind it, layer_runner.cpp, is compiled against the Caffe that `import caffe` finds.
A check that fails in C++ ends the whole process: rejections are tested in the C++ tests.
"""

import ctypes
import functools
import json
import shlex
import subprocess
import tempfile
from pathlib import Path

import caffe
import numpy as np

SOURCE = Path(__file__).with_suffix(".cpp")
UNTOUCHED = 12345.0  # what a gradient is filled with before backward


class BlobView(ctypes.Structure):
    """struct BlobView of layer_runner.cpp."""

    _fields_ = (
        ("num_axes", ctypes.c_int),
        ("shape", ctypes.c_int * 32),
        ("data", ctypes.c_void_p),
        ("diff", ctypes.c_void_p),
    )


@functools.cache
def load_library():
    """Compile layer_runner.cpp just as Caffe's own files were, and load it."""
    build = Path(caffe.__file__).resolve().parents[2]
    commands = json.loads(subprocess.check_output(["ninja", "-C", build, "-t", "compdb"]))
    command = next(c for c in commands if c["file"].endswith("src/caffe/layer_factory.cpp"))
    words = shlex.split(command["command"])
    for option in ("-o", "-c", "-MT", "-MF"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    library = build / "lib/libcaffe.so"
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = f"{folder}/layer_runner.o", f"{folder}/layer_runner.so"
        # In two steps, because ccache keeps only objects.
        subprocess.run([*words, "-c", SOURCE, "-o", compiled], cwd=build, check=True)
        link = ["g++", "-shared", compiled, library, "-lprotobuf", "-lglog", "-lboost_thread"]
        subprocess.run([*link, f"-Wl,-rpath,{library.parent}", "-o", linked], check=True)
        functions = ctypes.CDLL(linked)
    functions.new_layer.restype = functions.new_net.restype = ctypes.c_void_p
    functions.view_blob.restype = ctypes.c_bool
    return functions


class Runner:
    """Blobs by name, and a forward and a backward pass over them."""

    def __init__(self, handle, dtype):
        if not handle:
            raise ValueError("the text is no message; the reason is on standard error")
        self.handle, self.dtype = ctypes.c_void_p(handle), np.dtype(dtype)

    def __del__(self):
        if hasattr(self, "handle"):
            load_library().delete_runner(self.handle)

    def view(self, name):
        """Return the data and the diff of a blob, two arrays that share its memory."""
        view = BlobView()
        if not load_library().view_blob(self.handle, name.encode(), ctypes.byref(view)):
            raise KeyError(f"no blob {name}")
        shape = tuple(view.shape[: view.num_axes])
        size = int(np.prod(shape)) * self.dtype.itemsize
        return [
            np.frombuffer((ctypes.c_char * size).from_address(address), self.dtype).reshape(shape)
            for address in (view.data, view.diff)
        ]

    def fill(self, name, values):
        """Give a blob the shape and values of an array."""
        shape = np.shape(values)
        axes = (ctypes.c_int * len(shape))(*shape)
        load_library().reshape_blob(self.handle, name.encode(), len(shape), axes)
        self.view(name)[0][...] = values

    def run_forward(self):
        load_library().forward(self.handle)

    def run_backward(self, propagate_down=()):
        flags = (ctypes.c_bool * len(propagate_down))(*propagate_down)
        load_library().backward(self.handle, len(propagate_down), flags)


class CaffeLayer(Runner):
    """One layer with one top, from the text of its LayerParameter."""

    def __init__(self, text, dtype, num_bottoms=1):
        new_layer = load_library().new_layer
        super().__init__(new_layer(text.encode(), num_bottoms, 1, dtype == np.float64), dtype)
        self.num_bottoms = num_bottoms

    def forward(self, *bottoms):
        """Return the top, a copy, from the bottoms."""
        for i, values in enumerate(bottoms):
            self.fill(f"bottom{i}", values)
        self.run_forward()
        return self.view("top0")[0].copy()

    def backward(self, top_diff, propagate_down=None):
        """Return the gradients of the bottoms, copies, after the last forward.

        One that propagate_down (all True by default) excludes is UNTOUCHED everywhere, unless
        the layer wrote to it.
        """
        bottom_diffs = [self.view(f"bottom{i}")[1] for i in range(self.num_bottoms)]
        for diff in bottom_diffs:
            diff[...] = UNTOUCHED
        self.view("top0")[1][...] = top_diff
        self.run_backward(propagate_down or [True] * self.num_bottoms)
        return [diff.copy() for diff in bottom_diffs]


class CaffeNet(Runner):
    """A net from the text of its NetParameter.

    Its blobs have the net's names; the first parameter of the layer `conv` is `conv.param`.
    """

    def __init__(self, text, dtype):
        super().__init__(load_library().new_net(text.encode(), dtype == np.float64), dtype)
