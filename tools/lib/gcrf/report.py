"""One HTML page that shows a training and its scores: tables, curves, bars and images."""

import base64
import io
import json
import os
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np

from gcrf import drawing, label_maps, origin, voc
from gcrf.caffemodel import read_caffemodel
from gcrf.images import read_image, read_truth
from gcrf.runs import DENSE_CRF, RESULTS, SUBMISSION, digest, read_run, read_settings
from gcrf.scores import MEASURES

METHODS = {  # in the order of the paper's comparison
    "unary": "unary",
    "unary_dense_crf": "unary + dense CRF",
    "gcrf_before_finetuning": "GCRF before finetuning",
    "gcrf_unary": "the GCRF's own unary",  # that of the finetuned network, if it was scored
    "gcrf": "GCRF",
}
CONDITIONS = ("root", "labels", "scales", "mirror")  # of an evaluation, the same for all methods
NUM_EXAMPLES = 3  # images where the GCRF helps most, and as many where it hurts most
LONGEST_SIDE = 400  # of a picture in the report, pixels

TEMPLATE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --text: #1d2126; --soft: #5a636e; --line: #d8dde3;
  --ground: #ffffff; --card: #f5f7f9; --unary: #8a939d; --unary_dense_crf: #e69f00;
  --gcrf_before_finetuning: #56b4e9; --gcrf_unary: #cc79a7; --gcrf: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7eb; --soft: #a3adb8; --line: #3a424c;
  --ground: #15191e; --card: #1f252c; --gcrf: #3d9be0; --gcrf_before_finetuning: #9ad0f2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 1rem; background: var(--ground);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: .5rem 0; font-size: 1.6rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .5rem; font-size: 1.2rem; }
h3 { margin: 1.5rem 0 .25rem; font-size: 1rem; }
p { max-width: 46rem; margin: .5rem 0; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: bottom; }
th { font-weight: 600; } thead th { color: var(--soft); font-size: .875rem; line-height: 1.25; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
td { white-space: nowrap; } td:has(code) { text-align: left; white-space: normal; }
tbody th { font-weight: 400; } .result tbody tr:last-child > * { font-weight: 700; }
code { font-size: .8125rem; overflow-wrap: anywhere; }
.key { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .5rem 0; font-size: .875rem; }
.key i { display: inline-block; width: .9em; height: .9em; margin-right: .4em;
  border: 1px solid var(--line); vertical-align: -.1em; }
.bars { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr));
  gap: 1rem 2rem; }
.bars h3 { margin: 0 0 .25rem; }
.bar { display: flex; align-items: center; gap: .5rem; height: 1.1rem; font-size: .8125rem; }
.bar span { flex: 1; background: var(--card); }
.bar b { display: block; height: .8rem; border-radius: 0 2px 2px 0; }
.bar em { width: 3.2rem; font-style: normal; text-align: right;
  font-variant-numeric: tabular-nums; }
.picture { display: block; max-width: none; border-radius: 4px; background: #ffffff; }
.examples { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: .5rem; margin-bottom: 1rem; }
.examples figure { margin: 0; } .examples img { display: block; width: 100%; border-radius: 3px; }
@media (max-width: 600px) { th, td { padding: .3rem .15rem; font-size: .8125rem; }
  thead th { font-size: .6875rem; } .examples { grid-template-columns: repeat(2, 1fr); } }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


def read_results(eval_folder, unary_folder, before=None):
    """Return {key of METHODS: results of tools/eval.py}, for the methods that were scored.

    Raises ValueError for methods that were not scored on the same images in the same way.
    """
    results = read_json(unary_folder / "results.json", "tools/eval.py")
    if "unary" not in results:
        raise ValueError(
            f"{unary_folder / 'results.json'}: no unary to compare with; run tools/eval.py with "
            "--unary"
        )
    for key, folder in (("gcrf", eval_folder), ("gcrf_before_finetuning", before)):
        if not folder:
            continue
        found = read_json(folder / "results.json", "tools/eval.py")
        results[key] = found["network"]
        if key == "gcrf" and "unary" in found and folder != unary_folder:
            results["gcrf_unary"] = found["unary"]
        if results[key]["images"].keys() != results["unary"]["images"].keys():
            raise ValueError(f"{folder} and {unary_folder} scored different images: use one split")
        conditions, others = read_settings(folder), read_settings(unary_folder)
        for name in CONDITIONS:
            if conditions[name] != others[name]:
                raise ValueError(
                    f"{folder} was scored with {name} {conditions[name]}, {unary_folder} with "
                    f"{others[name]}: score all methods the same way"
                )
    return {key: results[key] for key in METHODS if key in results}


def read_json(path, tool):
    """Return what is in a JSON file that a tool writes."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; {tool} writes it")
    return json.loads(path.read_text())


def duration(seconds):
    """Return seconds as text, such as 4 min 05 s."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


# ---- Pieces of the page. All return HTML; text from outside is escaped.


def table(head, rows):
    """Return a table; head: texts; rows: [(HTML of a cell, ...), ...]."""
    lines = ['<div class="wide"><table>', "<thead><tr>"]
    lines += [f'<th scope="col">{escape(text)}</th>' for text in head]
    lines += ["</tr></thead>", "<tbody>"]
    for first, *rest in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table></div>"])


def comparison(results):
    """Return the table of the methods' measures, and what was left out of the means."""
    unary, rows = results["unary"]["mean_iou"], []
    for key, result in results.items():
        gain = "" if key == "unary" else f"{result['mean_iou'] - unary:+.2f}"
        values = [f"{result[name]:.2f}" for name in MEASURES]
        rows.append((escape(METHODS[key]), values[0], gain, *values[1:]))
    first, *others = MEASURES.values()
    text = table(["per cent", first, "over the unary", *others], rows)
    text = f'<div class="result">{text}</div>'
    absent = {}
    for key, result in results.items():
        if result["absent_classes"]:
            absent.setdefault(", ".join(result["absent_classes"]), []).append(METHODS[key])
    for classes, methods in absent.items():
        text += (
            f'<p class="soft">{escape(", ".join(methods))}: left out of the mean, being in neither '
            f"the truth nor the predictions: {escape(classes)}.</p>"
        )
    return text


def key_of_colours(colours):
    """Return a legend; colours: {text: CSS colour}."""
    items = [
        f'<span><i style="background:{colour}"></i>{escape(text)}</span>'
        for text, colour in colours.items()
    ]
    return f'<div class="key">{"".join(items)}</div>'


def class_bars(results):
    """Return the IoU of each class as a bar for each method."""
    parts = [key_of_colours({METHODS[key]: f"var(--{key})" for key in results})]
    parts.append('<div class="bars">')
    for index, name in enumerate(results["unary"]["classes"]):
        parts.append(f"<div><h3>{escape(name)}</h3>")
        for key, result in results.items():
            iou = result["iou"][index]
            width, value = (0, "absent") if iou is None else (iou, f"{iou:.2f}")
            parts.append(
                f'<div class="bar" title="{escape(METHODS[key])}"><span>'
                f'<b style="width:{width:.2f}%;background:var(--{key})"></b></span>'
                f"<em>{value}</em></div>"
            )
        parts.append("</div>")
    return "\n".join([*parts, "</div>"])


def data_uri(kind, data):
    """Return bytes of a media type as a URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def figure_image(figure, description):
    """Return a matplotlib figure as an image at its own width: wide ones scroll."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    width = round(figure.get_figwidth() * 72)
    return (
        f'<div class="wide"><img class="picture" width="{width}" alt="{escape(description)}" '
        f'src="{data_uri("image/svg+xml", buffer.getvalue())}"></div>'
    )


def photo_image(photo):
    """Return the URI of an image, (H, W, 3) uint8 BGR, shrunk if it is large."""
    height, width = small_size(photo)
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    return data_uri("image/jpeg", cv2.imencode(".jpg", small)[1].tobytes())


def label_image(label_map):
    """Return the URI of a label map in VOC's colours, shrunk if it is large."""
    height, width = small_size(label_map)
    small = cv2.resize(label_map, (width, height), interpolation=cv2.INTER_NEAREST)
    return data_uri("image/png", label_maps.encode_palette_png(small, voc.palette()))


def small_size(pixels):
    """Return the (height, width) at which an image is shown."""
    height, width = pixels.shape[:2]
    factor = min(1, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


# ---- Images


def choose_examples(results):
    """Return (ids that the GCRF improves most, ids that it worsens most), the extreme ones first.

    The measure is an image's mean IoU minus that of the unary; no image is in both lists.
    """
    before, after = results["unary"]["images"], results["gcrf"]["images"]
    gains = {
        image_id: after[image_id] - before[image_id]
        for image_id in after
        if after[image_id] is not None and before[image_id] is not None
    }
    ordered = sorted(gains, key=gains.get)
    worst = ordered[: min(NUM_EXAMPLES, len(ordered) // 2)]
    best = ordered[len(worst) :][-NUM_EXAMPLES:]
    return best[::-1], worst


def example(results, eval_folder, unary_folder, settings, image_id):
    """Return (HTML of one image and its label maps, the labels in them).

    settings: of the evaluation.
    """
    sample = voc.sample(settings["root"], image_id, settings["labels"])
    maps = {"truth": read_truth(sample.label)}
    for key, folder in (
        ("unary", unary_folder / RESULTS["unary"]),
        (DENSE_CRF, unary_folder / RESULTS[DENSE_CRF]),
        ("gcrf", eval_folder / RESULTS["network"]),
    ):
        if key not in results:
            continue
        path = folder / SUBMISSION / f"{image_id}.png"
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}; run tools/eval.py with --save-predictions")
        iou = results[key]["images"][image_id]
        maps[f"{METHODS[key]} {iou:.1f}"] = label_maps.read_label_map(path.read_bytes())
    pictures = {image_id: photo_image(read_image(sample.image))}
    pictures |= {caption: label_image(label_map) for caption, label_map in maps.items()}
    figures = [
        f'<figure><img alt="{escape(caption)}" src="{uri}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, uri in pictures.items()
    ]
    occurring = set().union(*(np.unique(label_map).tolist() for label_map in maps.values()))
    return f'<div class="examples">{"".join(figures)}</div>', occurring


def examples(results, eval_folder, unary_folder, settings):
    """Return the images that the GCRF improves and worsens most, with a legend of the classes."""
    parts, occurring = [], set()
    titles = "The greatest gains", "The greatest losses, or least gains"
    for title, ids in zip(titles, choose_examples(results), strict=True):
        parts.append(f"<h3>{title}</h3>" if ids else "")
        for image_id in ids:
            text, labels = example(results, eval_folder, unary_folder, settings, image_id)
            parts.append(text)
            occurring |= labels
    names = dict(enumerate(results["unary"]["classes"])) | {label_maps.IGNORE_LABEL: "not scored"}
    colours = {
        names[label]: "rgb({},{},{})".format(*voc.palette()[label]) for label in sorted(occurring)
    }
    return key_of_colours(colours) + "\n".join(parts)


# ---- The page


def find_weights(run_folder, settings):
    """Return the path of the weights in a run's snapshots that an evaluation scored."""
    snapshots = (run_folder / "snapshots").glob("finetune_iter_*.caffemodel")
    for path in sorted(snapshots, key=os.path.getmtime, reverse=True):
        if digest(path) == settings["weights"]:
            return path
    raise FileNotFoundError(
        f"{run_folder / 'snapshots'}: no weights finetune_iter_* are those that were scored; give "
        "the evaluation of this run's GCRF"
    )


def durations(run_folder, steps):
    """Return tables of the commands and of the training's stages, each with its time."""
    parts = []
    if steps:
        rows = [
            (escape(name), duration(step["seconds"]), f"<code>{escape(step['command'])}</code>")
            for name, step in steps.items()
        ]
        rows.append(("total", duration(sum(step["seconds"] for step in steps.values())), ""))
        parts.append(table(["step", "time", "command"], rows))
    rows = []
    for curves in read_run(run_folder):
        last = curves.rows[-1]
        rows.append((escape(curves.name), last["iteration"], duration(float(last["seconds"]))))
    parts.append("<h3>Stages of the training</h3>")
    parts.append(table(["stage", "iterations", "time"], rows))
    parts.append(f'<p class="soft">Report written on: {escape(origin.machine())}.</p>')
    return "\n".join(parts)


def build(run_folder, eval_folder, unary_folder, before=None, steps=None):
    """Return the page. The folders are those of the tool's description.

    steps: {name: {"command": text, "seconds": number}}, the commands that led here.
    Raises OSError or ValueError if something is missing, and says what makes it.
    """
    results = read_results(eval_folder, unary_folder, before)
    settings = read_settings(eval_folder)
    weights = find_weights(run_folder, settings)
    R = read_caffemodel(weights)["compatibility"][0]
    R = R.reshape(R.shape[-2:])
    class_names, num_images = results["gcrf"]["classes"], len(results["gcrf"]["images"])
    data_set = Path(settings["root"]).name
    summary = f"{num_images} images of {data_set}, {len(class_names)} classes, {weights.name}."
    sections = {
        "": f"<p>{escape(summary)} All scores in per cent.</p>{comparison(results)}"
        '<p class="soft">The unary is the network of stage unary, which the dense CRF works on and '
        "the training of the GCRF starts from.</p>",
        "Each class": class_bars(results),
        "Training": figure_image(drawing.training_figure(read_run(run_folder)), "training curves"),
        "Where the GCRF changes most": "<p>The images whose mean IoU rises most, and falls most or "
        "rises least, from the unary to the GCRF. The number under a label map is the mean IoU of "
        "that image alone, over the classes in it or in the prediction.</p>"
        + examples(results, eval_folder, unary_folder, settings),
        "Class compatibility": "<p>What it costs two similar pixels to disagree: one of class k "
        "and one of class l add s (C<sub>kk</sub> + C<sub>ll</sub> &minus; 2 C<sub>kl</sub>) to "
        "the energy, s being their similarity. So a large diagonal value makes pixels spread "
        "their score of that class to similar ones, and a negative value off the diagonal keeps "
        "the two classes apart. C = R R&#8242; is learned.</p>"
        + figure_image(drawing.compatibility_figure(R @ R.T, class_names), "class compatibility"),
        "Commands and times" if steps else "Times": durations(run_folder, steps),
    }
    body = [(f"<h2>{title}</h2>\n" if title else "") + text for title, text in sections.items()]
    return TEMPLATE.substitute(title=f"Gaussian CRF on {escape(data_set)}", body="\n".join(body))
