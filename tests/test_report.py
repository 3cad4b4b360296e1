"""tools/report.py: one HTML file that shows a training and its scores."""

import base64
import html.parser
import io
import json
import re

import cv2
import eval as eval_tool
import numpy as np
import pytest
import report as command
from PIL import Image
from small_voc import write_voc
from tiny_nets import write_deploy_nets

from gcrf import label_maps, report
from gcrf.caffemodel import read_caffemodel, write_caffemodel
from gcrf.scores import measure

IDS = [f"2007_{number:06d}" for number in range(5)]
NUM_CLASSES = 21
STRANGE = "<b>cat & dog</b>"  # a class name
VOID_TAGS = {"meta", "img", "br"}
CRF = {
    "smoothness_weight": 3.0,
    "smoothness_std": 3.0,
    "appearance_weight": 0.0,
    "appearance_position_std": 1.0,
    "appearance_colour_std": 1.0,
    "iterations": 1,
}


class Page(html.parser.HTMLParser):
    """A parsed page: its images, its tables (lists of rows, lists of cells), and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.references, self.tables, self.text = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.references += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "img":
            self.images.append(attributes["src"])
            assert attributes["alt"]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run with two stages' CSVs and the weights that the evaluation beside it scored."""
    folder = tmp_path_factory.mktemp("report")
    write_voc(folder / "A&B", {"val": IDS})
    names = [STRANGE, *(f"class {index}" for index in range(1, NUM_CLASSES))]
    (folder / "A&B/classes.txt").write_text("\n".join(names))
    deploy, weights = write_deploy_nets(folder / "nets", NUM_CLASSES)
    snapshots = folder / "run/snapshots"
    snapshots.mkdir(parents=True)
    before, after = snapshots / "start.caffemodel", snapshots / "finetune_iter_8.caffemodel"
    weights.rename(before)
    layers = read_caffemodel(before)
    layers["unary/fc8"][0] = 2 * layers["unary/fc8"][0]
    write_caffemodel(after, layers)
    for number in (6, 10):  # other snapshots
        (snapshots / f"finetune_iter_{number}.caffemodel").write_bytes(b"other weights")
    for stage, end in (("unary", 4), ("finetune", 8)):
        rows = [f"{i},{2.5 * i},0.01,{1 / (1 + i)},," for i in range(end + 1)]
        head = "iteration,seconds,learning_rate,loss,test_loss,test_accuracy"
        (folder / f"run/{stage}.csv").write_text("\n".join([head, *rows]) + "\n")
    (folder / "crf.json").write_text(json.dumps({"parameters": CRF}))
    for name, scored, options in (
        ("eval", after, ["--unary", "--save-predictions", "--dense-crf", str(folder / "crf.json")]),
        ("before", before, []),
    ):
        arguments = ["--deploy", str(deploy), "--weights", str(scored), "--split", "val"]
        arguments += ["--root", str(folder / "A&B"), "--output", str(folder / name)]
        assert eval_tool.main([*arguments, *options]) == 0
    (folder / "steps.json").write_text(
        json.dumps({"train": {"command": "train.py <all>", "seconds": 125.4, "complete": True}})
    )
    return folder


def run(folder, *options):
    """Return the exit code of the command, with its files in folder."""
    arguments = [folder / "run", "--eval", folder / "eval", "--unary", folder / "eval"]
    return command.main([*map(str, arguments), "--output", str(folder / "report.html"), *options])


@pytest.fixture(scope="module")
def text(folders):
    options = ["--before", str(folders / "before"), "--steps", str(folders / "steps.json")]
    assert run(folders, *options) == 0
    return (folders / "report.html").read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_all_images_are_inside_and_can_be_read(page, text):
    assert page.references == page.images
    for uri in page.images:
        kind, data = re.fullmatch(r"data:image/(jpeg|png|svg\+xml);base64,(.+)", uri).groups()
        data = base64.b64decode(data, validate=True)
        if kind == "svg+xml":
            assert b"<svg" in data
        else:
            assert Image.open(io.BytesIO(data)).convert("RGB").size == (64, 48)
    assert len(page.images) == 2 + 5 * 5  # two figures; five images, each with four label maps
    assert not re.search(r"https?://|url\(|@import|<script", text)


def test_the_comparison_of_a_hand_worked_case():
    results = {
        key: measure([[hits, 10 - hits], [1, 4]]) | {"absent_classes": []}
        for key, hits in zip(report.METHODS, (5, 7, 6, 8, 9), strict=True)
    }
    (table,) = Page(report.comparison(results)).tables
    assert [row[0] for row in table[1:]] == list(report.METHODS.values())
    # hits 5: IoU 5/11 and 4/10; hits 9: 9/11 and 4/6
    assert table[1][1:] == ["42.73", "", "60.00", "65.00", "43.64"]
    assert table[5][1:] == ["74.24", "+31.52", "86.67", "85.00", "76.77"]


def test_the_comparison_has_the_numbers_of_the_results(page, folders):
    results = json.loads((folders / "eval/results.json").read_text())
    before = json.loads((folders / "before/results.json").read_text())["network"]
    unary = results["unary"]["mean_iou"]
    expected = {
        "unary": results["unary"],
        "unary + dense CRF": results["unary_dense_crf"],
        "GCRF before finetuning": before,
        "GCRF": results["network"],
    }
    assert [row[0] for row in page.tables[0][1:]] == list(expected)
    for (name, *cells), result in zip(page.tables[0][1:], expected.values(), strict=True):
        assert cells == [
            f"{result['mean_iou']:.2f}",
            "" if name == "unary" else f"{result['mean_iou'] - unary:+.2f}",
            f"{result['pixel_accuracy']:.2f}",
            f"{result['mean_accuracy']:.2f}",
            f"{result['frequency_weighted_iou']:.2f}",
        ]


def test_the_class_bars_have_the_numbers_of_the_results(page, folders):
    results = json.loads((folders / "eval/results.json").read_text())
    for result in results.values():
        for iou in result["iou"]:
            assert ("absent" if iou is None else f"{iou:.2f}") in page.text


def test_text_from_outside_is_escaped(page, text):
    assert STRANGE not in text
    assert STRANGE in page.text
    assert "Gaussian CRF on A&B" in page.text


def test_commands_and_stages_have_their_times(page):
    assert page.tables[1][1:] == [
        ["train", "2 min 05 s", "train.py <all>"],
        ["total", "2 min 05 s", ""],
    ]
    assert page.tables[2][1:] == [["unary", "4", "10 s"], ["finetune", "8", "20 s"]]


def test_a_class_that_does_not_occur_is_shown_as_absent():
    confusion = np.diag([4, 2, 0])
    confusion[0, 1] = 4
    result = measure(confusion)
    result |= {"classes": ["ground", "tree", "ship"], "absent_classes": ["ship"]}
    results = {"unary": result, "gcrf": result}
    bars = Page(report.class_bars(results)).text.split()
    assert " ".join(bars[-9:]) == "ground 50.00 50.00 tree 33.33 33.33 ship absent absent"
    assert "unary, GCRF: left out of the mean" in Page(report.comparison(results)).text


def test_examples_are_the_images_with_the_greatest_gains_and_losses():
    before = dict(zip("abcdefgh", [50, 50, 50, 50, 50, 50, 50, None], strict=True))
    after = dict(zip("abcdefgh", [51, 40, 60, 45, 52, 49, 50, None], strict=True))
    results = {"unary": {"images": before}, "gcrf": {"images": after}}
    assert report.choose_examples(results) == (["c", "e", "a"], ["b", "d", "f"])
    few = {key: {"images": {"a": result["images"]["a"]}} for key, result in results.items()}
    assert report.choose_examples(few) == (["a"], [])


def test_large_pictures_are_made_smaller_without_new_labels():
    label_map = np.zeros((900, 1200), np.uint8)
    label_map[:, 700:] = 20
    data = base64.b64decode(report.label_image(label_map).partition(",")[2])
    small = label_maps.read_label_map(data)
    assert small.shape == (300, 400)
    assert set(np.unique(small)) == {0, 20}
    photo = report.photo_image(np.zeros((1200, 900, 3), np.uint8)).partition(",")[2]
    assert cv2.imdecode(np.frombuffer(base64.b64decode(photo), np.uint8), 1).shape == (400, 300, 3)


def test_durations_read_well():
    assert [report.duration(s) for s in (0.4, 59.7, 605, 7322)] == [
        *("0 s", "1 min 00 s", "10 min 05 s", "2 h 02 min"),
    ]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("run/snapshots/finetune_iter_8.caffemodel", "no weights finetune_iter_* are those that"),
        (f"eval/results/VOC2012/Segmentation/comp6_test_cls/{IDS[0]}.png", "--save-predictions"),
        ("eval/results.json", "tools/eval.py writes it"),
        (f"A&B/JPEGImages/{IDS[1]}.jpg", f"{IDS[1]}.jpg"),
    ],
)
def test_what_is_missing_is_named(folders, broken, message, capsys):
    path = folders / broken
    path.rename(path.with_suffix(".away"))
    try:
        assert run(folders) == 1
    finally:
        path.with_suffix(".away").rename(path)
    assert message in capsys.readouterr().err


def test_the_finetuned_network_s_own_unary_is_shown_where_it_was_scored(folders, tmp_path):
    found = json.loads((folders / "eval/results.json").read_text())
    (tmp_path / "images.jsonl").write_bytes((folders / "eval/images.jsonl").read_bytes())
    own = {"network": found["network"], "unary": found["unary_dense_crf"]}
    (tmp_path / "results.json").write_text(json.dumps(own))
    results = report.read_results(tmp_path, folders / "eval")
    assert list(results) == ["unary", "unary_dense_crf", "gcrf_unary", "gcrf"]
    assert results["gcrf_unary"] == own["unary"]


def test_methods_that_were_not_scored_alike_are_refused(folders, tmp_path, capsys):
    (tmp_path / "results.json").write_bytes((folders / "before/results.json").read_bytes())
    settings, *lines = (folders / "before/images.jsonl").read_text().splitlines(keepends=True)
    mirrored = settings.replace('"mirror": false', '"mirror": true')
    (tmp_path / "images.jsonl").write_text("".join([mirrored, *lines]))
    assert run(folders, "--before", str(tmp_path)) == 1
    assert "was scored with mirror True, " in capsys.readouterr().err


def test_another_split_before_finetuning_is_refused(folders, tmp_path, capsys):
    results = json.loads((folders / "before/results.json").read_text())
    del results["network"]["images"][IDS[0]]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert run(folders, "--before", str(tmp_path)) == 1
    assert "scored different images" in capsys.readouterr().err
