"""The library of the Gaussian CRF network: what the commands in tools/ share, and Segmenter.

    from gcrf import Segmenter, label_maps, voc

Modules are loaded when they are asked for, and only those that work with networks load Caffe. Here
Caffe reports nothing but errors, unless GLOG_minloglevel is set.
"""

import importlib
import os

os.environ.setdefault("GLOG_minloglevel", "2")  # Caffe reads it when it is loaded


def __getattr__(name):
    if name == "Segmenter":
        return importlib.import_module("gcrf.segmenter").Segmenter
    raise AttributeError(f"module {__name__} has no attribute {name}")
