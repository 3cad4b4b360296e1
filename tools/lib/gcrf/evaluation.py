"""Score a network on a split of a data set, and write the results to a folder."""

import contextlib
import dataclasses
import functools
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm import tqdm

from gcrf import atomic, dense_crf, drawing, label_maps, pools, voc
from gcrf.images import BadFileError, read_image, read_truth
from gcrf.runs import DENSE_CRF, RESULTS, SUBMISSION, ScoredImages, digest
from gcrf.scores import TRIMAP, confusion_matrix, measure, trimap
from gcrf.segmenter import SCORES, UNARY, labels


class Predictions(NamedTuple):
    """The label maps of a sample."""

    sample: voc.Sample
    maps: dict  # {name: label map}
    refined: dict  # {name: future label map}, additional ones


def evaluate(
    network,
    root,
    list_path,
    output,
    *,
    label_folder="SegmentationClass",
    unary=False,
    parameters=None,
    save_predictions=False,
    resume=False,
):
    """Score a Network on a split of the data set in `root`, and write the folder `output`.

    list_path: the list of the split, as voc.read_samples takes it; unary: score the net's unary
    network too; parameters: of a dense CRF on the unary, scored too; save_predictions: save the
    label maps; resume: continue a run that was stopped.
    Returns what results.json holds, as _summarise. Raises OSError or ValueError for what is wrong.
    """
    class_names = voc.class_names(root)
    samples = voc.read_samples(list_path, root, label_folder)
    blobs = {"network": SCORES} | ({"unary": UNARY} if unary else {})
    names = [*blobs, *([DENSE_CRF] if parameters else [])]
    folders = {name: output / RESULTS[name] / SUBMISSION for name in names if save_predictions}
    with pools.worker_processes() if parameters else contextlib.nullcontext() as pool:
        refine = pool and functools.partial(pool.submit, dense_crf.refine, parameters=parameters)
        segmenter = network.load()
        if segmenter.num_classes != len(class_names):
            raise ValueError(
                f"{network.deploy} has {segmenter.num_classes} classes, the data set {root} "
                f"{len(class_names)}; give its own net, or correct classes.txt"
            )
        settings = {
            "deploy": digest(network.deploy),
            "weights": digest(network.weights),
            "root": str(root.resolve()),
            "labels": label_folder,
            "scales": list(network.scales),
            "mirror": network.mirror,
            "unary": unary,
            "dense_crf": parameters and dataclasses.asdict(parameters),
            "save_predictions": save_predictions,
            "num_classes": segmenter.num_classes,
            "trimap": list(TRIMAP),
        }
        progress = ScoredImages(output / "images.jsonl", settings, resume)
        bad = _score_all(segmenter, samples, blobs, folders, progress=progress, refine=refine)
    if bad:
        raise ValueError(
            f"{bad} of {len(samples)} images are bad, named above; the others are kept: fix the "
            "files and run again with --resume"
        )
    results = _summarise(samples, names, progress, class_names)
    with atomic.new_file(output / "results.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n")
    for name, result in results.items():
        title = f"{name}, {list_path.stem}"
        figure = drawing.confusion_figure(result["confusion"], class_names, title)
        drawing.save(figure, output / f"confusion_{name}.png", dpi=110)
    return results


def _score_all(segmenter, samples, blobs, folders, *, progress, refine):
    """Score the samples that are not done yet; return how many are bad, after naming each.

    blobs: {name: blob with its scores}; folders: {name: where to save its predictions}, empty to
    save none; refine: function from the unary's probabilities and the image to a future label map,
    the dense CRF's, or None. Files are read, written and scored in threads.
    """
    bad = 0
    bar = tqdm(total=len(samples), unit="image")

    def report(error):
        nonlocal bad
        bad += 1
        bar.write(f"eval: {error}", file=sys.stderr)
        bar.update()

    def predictions():
        waiting = [sample for sample in samples if sample.id not in progress.done]
        bar.initial = bar.n = len(samples) - len(waiting)
        for sample, reading in pools.in_order(readers, _read, waiting, ahead=4):
            try:
                image = reading.result()
            except BadFileError as error:
                report(error)
                continue
            found = dict(zip(blobs, segmenter.scores(image, blobs.values()), strict=True))
            refined = {DENSE_CRF: refine(found["unary"], image)} if refine else {}
            yield Predictions(
                sample, {name: labels(scores) for name, scores in found.items()}, refined
            )

    score = functools.partial(_score, num_classes=segmenter.num_classes, folders=folders)
    ahead = len(os.sched_getaffinity(0))  # as many as pools.worker_processes has
    with bar, ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as scorers:
        for predicted, matrices in pools.in_order(scorers, score, predictions(), ahead):
            try:
                progress.add(predicted.sample.id, matrices.result())
                bar.update()
            except BadFileError as error:
                report(error)
    return bad


def _read(sample):
    return read_image(sample.image)


def _score(predicted, num_classes, folders):
    """Return the confusion matrices of the Predictions of a sample, and save their label maps.

    They are {name: matrix}, and {_in_band(name, width): matrix} for each band of the trimap.
    """
    sample = predicted.sample
    maps = predicted.maps | {name: future.result() for name, future in predicted.refined.items()}
    truth = read_truth(sample.label)
    try:
        matrices = {name: confusion_matrix(truth, maps[name], num_classes) for name in maps}
    except ValueError as error:
        raise BadFileError(f"{sample.label}: {error}") from error
    for width, band in trimap(truth).items():
        for name, label_map in maps.items():
            matrices[_in_band(name, width)] = confusion_matrix(band, label_map, num_classes)
    for name, folder in folders.items():
        with atomic.new_file(folder / f"{sample.id}.png") as path:
            path.write_bytes(label_maps.encode_palette_png(maps[name], voc.palette()))
    return matrices


def _in_band(name, width):
    return f"{name} within {width}"


def _summarise(samples, names, progress, class_names):
    """Return the results, {name: measures, class names, matrix and each image's mean IoU}.

    With them, trimap: {width: some measures near borders}, without bands that have no pixel.
    """
    results = {}
    for name in names:
        matrices = {sample.id: progress.matrix(sample.id, name) for sample in samples}
        total = sum(matrices.values())
        found = measure(total)
        bands = {
            width: sum(progress.matrix(sample.id, _in_band(name, width)) for sample in samples)
            for width in TRIMAP
        }
        near = {width: measure(matrix) for width, matrix in bands.items() if matrix.any()}
        absent = [c for c, iou in zip(class_names, found["iou"], strict=True) if iou is None]
        results[name] = {
            **found,
            "classes": class_names,
            "absent_classes": absent,
            "confusion": total.tolist(),
            "trimap": {
                width: {key: measures[key] for key in ("mean_iou", "pixel_accuracy")}
                for width, measures in near.items()
            },
            "images": {  # an image whose pixels are all ignored has none
                image_id: measure(matrix)["mean_iou"] if matrix.any() else None
                for image_id, matrix in matrices.items()
            },
        }
    return results
