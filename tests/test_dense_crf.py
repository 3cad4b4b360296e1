"""tools/dense_crf.py: the dense CRF and the search for its parameters."""

import json
from dataclasses import asdict, replace

import cv2
import dense_crf as tool
import numpy as np
import pytest
from small_voc import image_path, label_path, make_photo, write_voc
from tiny_nets import write_deploy_nets

from gcrf import dense_crf, label_maps, pools
from gcrf.dense_crf import NO_CHANGE, Parameters, load, refine, save, tune
from gcrf.scores import confusion_matrix, measure
from gcrf.segmenter import UNARY, Segmenter, labels

PARAMETERS = Parameters(3, 3, 10, 30, 13, 5)
IDS = [f"2007_{number:06d}" for number in range(6)]


@pytest.fixture(scope="module")
def pool():
    with pools.worker_processes() as processes:
        yield processes


def two_regions(seed, error=0.3, contrast=100, size=(24, 32)):
    """Return (probabilities, image, truth): two grey halves, `error` of the pixels wrong."""
    random = np.random.default_rng(seed)
    truth = np.zeros(size, np.uint8)
    truth[:, random.integers(10, 22) :] = 1
    image = np.full((*size, 3), 100, np.uint8)
    image[truth == 1] += np.uint8(contrast)
    said = truth ^ (random.random(size) < error)
    return np.where(np.arange(2)[:, None, None] == said, 0.6, 0.4).astype(np.float32), image, truth


def test_without_weights_the_labels_are_the_unarys():
    probabilities, image, _ = two_regions(0)
    found = refine(probabilities, image, replace(PARAMETERS, **zero("smoothness appearance")))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels(probabilities))


def zero(kernels):
    return {f"{kernel}_weight": 0 for kernel in kernels.split()}


def test_a_weight_of_nearly_0_is_nearly_no_kernel():
    probabilities, image, _ = two_regions(0)
    weak = replace(PARAMETERS, smoothness_weight=1e-6, appearance_weight=1e-6)
    np.testing.assert_array_equal(refine(probabilities, image, weak), labels(probabilities))


def test_two_noisy_regions_are_cleaned_by_their_colours():
    probabilities, image, truth = two_regions(1)
    assert 0.6 < np.mean(labels(probabilities) == truth) < 0.8
    np.testing.assert_array_equal(refine(probabilities, image, PARAMETERS), truth)
    blind = refine(probabilities, np.zeros_like(image), PARAMETERS)
    assert np.mean(blind == truth) < 0.95  # the image shows where the border is


def test_a_single_wrong_pixel_goes_with_its_neighbours_by_smoothness_alone():
    probabilities = np.full((2, 9, 9), 0.3, np.float32)
    probabilities[1] = 0.7
    probabilities[:, 4, 4] = 0.6, 0.4
    image = make_photo(np.random.default_rng(0), 9, 9)
    assert labels(probabilities)[4, 4] == 0
    found = refine(probabilities, image, replace(PARAMETERS, **zero("appearance")))
    np.testing.assert_array_equal(found, np.ones((9, 9)))


def test_every_number_of_iterations_is_as_if_run_alone():
    probabilities, image, _ = two_regions(2)
    parameters = Parameters(1, 2, 1, 9, 9, 7)
    together = dense_crf._refine(probabilities, image, parameters, [1, 2, 7])
    for iterations, found in zip([1, 2, 7], together, strict=True):
        alone = refine(probabilities, image, replace(parameters, iterations=iterations))
        np.testing.assert_array_equal(found, alone)
    assert (together[0] != together[2]).any()


def test_another_size_of_image_is_refused():
    probabilities, image, _ = two_regions(0)
    with pytest.raises(ValueError, match=r"image is uint8 \(24, 31, 3\), expected uint8 \(24, 32"):
        refine(probabilities, image[:, 1:], PARAMETERS)


def test_parameters_survive_a_file(tmp_path):
    save(tmp_path / "a.json", PARAMETERS, {"seed": 7})
    assert load(tmp_path / "a.json") == PARAMETERS
    assert json.loads((tmp_path / "a.json").read_text())["tuning"] == {"seed": 7}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expecting value"),
        ("[1]", 'expected {"parameters": {...}} with smoothness_weight, smoothness_std'),
        ("{}", 'expected {"parameters"'),
        ({"iterations": None}, "iterations is None, expected a number (int)"),
        ({"iterations": 2.5}, "iterations is 2.5, expected a number (int)"),
        ({"iterations": 0}, "iterations is 0, expected more than 0"),
        ({"smoothness_std": 0}, "smoothness_std is 0, expected more than 0"),
        ({"smoothness_weight": -1}, "smoothness_weight is -1, expected 0 or more"),
        ({"smoothness_weight": True}, "smoothness_weight is True, expected a number (float)"),
        ({"appearance_weight": float("nan")}, "appearance_weight is nan, expected a number"),
        ({"colour": 3}, "expected {"),
    ],
    ids=str,
)
def test_a_bad_file_is_explained(content, message, tmp_path):
    path = tmp_path / "bad.json"
    if isinstance(content, dict):
        content = json.dumps({"parameters": asdict(PARAMETERS) | content})
    path.write_text(content)
    with pytest.raises(ValueError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


def test_the_search_finds_what_cleans_the_unary_where_published_parameters_spoil_it(pool):
    cases = [two_regions(seed, error=0.4, contrast=2) for seed in range(4)]

    def mean_iou_with(parameters):
        matrices = [confusion_matrix(t, refine(p, i, parameters), 2) for p, i, t in cases]
        return measure(sum(matrices))["mean_iou"]

    before = dense_crf.unary_mean_iou(cases)
    assert 40 < before < 45
    for candidate in dense_crf.PUBLISHED:
        assert max(mean_iou_with(Parameters(*candidate, stop)) for stop in dense_crf.STOPS) < before
    parameters, mean_iou = tune(cases, 1, pool)
    assert mean_iou == mean_iou_with(parameters) and mean_iou > 95
    assert tune(cases, 1, pool) == (parameters, mean_iou)
    assert tune(cases, 2, pool)[0] != parameters


def test_the_search_leaves_alone_what_a_crf_only_spoils(pool):
    probabilities, image, _ = two_regions(0)
    cases = [(probabilities, image, labels(probabilities))]  # the unary is right everywhere
    assert tune(cases, 1, pool) == (NO_CHANGE, 100)


def test_the_progress_bar_ends_full(pool, capsys):
    tune([two_regions(seed) for seed in range(5)], 1, pool)
    last = capsys.readouterr().err.rpartition("\r")[2]
    runs = 40 * 2 + 12 * 1 + 4 * 2 + 6 * 5  # on 2 of 5 cases, then on 3, then on all
    assert f"{runs}/{runs}" in last


def test_more_candidates_begin_on_fewer_images():
    assert dense_crf.search_rounds(40, 32) == [(40, 8), (12, 16), (4, 32)]
    assert dense_crf.search_rounds(200, 32) == [(200, 2), (120, 4), (40, 8), (12, 16), (4, 32)]
    assert dense_crf.search_rounds(10, 32) == [(10, 8), (10, 16), (4, 32)]


def test_a_search_with_more_candidates_tries_all_of_them(pool, capsys):
    cases = [two_regions(seed, error=0.4, contrast=2) for seed in range(5)]
    few, many = (tune(cases, 1, pool, count)[1] for count in (2, 50))
    assert many > few
    runs = 50 * 1 + 40 * 1 + 12 * 1 + 4 * 2 + 6 * 5  # on 1 of 5 cases, then on 2, 3 and all
    assert f"{runs}/{runs}" in capsys.readouterr().err.rpartition("\r")[2]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    deploy, weights = write_deploy_nets(tmp_path_factory.mktemp("nets"))
    return deploy, weights


@pytest.fixture
def command(network, tmp_path):
    write_voc(tmp_path / "VOC", {"train": IDS})
    deploy, weights = network
    return [
        *("--deploy", str(deploy), "--weights", str(weights), "--root", str(tmp_path / "VOC")),
        *("--split", "train", "--output", str(tmp_path / "out.json")),
    ]


def test_the_command_tunes_on_the_unary_of_the_net(network, command, tmp_path, capsys):
    assert tool.main([*command, "--images", "4", "--seed", "3"]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    tuning = written["tuning"]
    assert (tuning["split"], tuning["images"], tuning["seed"]) == ("train", 4, 3)
    assert tuning["mean_iou"] >= tuning["unary_mean_iou"]
    printed = capsys.readouterr().out
    assert f"{tuning['mean_iou']:.2f}" in printed and f"{tuning['unary_mean_iou']:.2f}" in printed

    segmenter, total = Segmenter(*network), 0
    order = list(IDS)
    np.random.default_rng(3).shuffle(order)
    for image_id in order[:4]:
        image = cv2.imread(str(image_path(tmp_path / "VOC", image_id)))
        truth = label_maps.read_label_map(label_path(tmp_path / "VOC", image_id).read_bytes())
        found = refine(segmenter.scores(image, [UNARY])[0], image, load(tmp_path / "out.json"))
        total = total + confusion_matrix(truth, found, 21)
    assert measure(total)["mean_iou"] == pytest.approx(tuning["mean_iou"])


def test_bad_files_are_named(command, tmp_path, capsys):
    label = label_path(tmp_path / "VOC", IDS[2])
    label.write_bytes(label_maps.encode_grey_png(np.full((48, 64), 77, np.uint8)))
    assert tool.main(command) == 1
    assert f"dense_crf: {label}: truth has the labels [77]" in capsys.readouterr().err
    label.unlink()
    assert tool.main(command) == 1
    assert f"dense_crf: {label}: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_no_image_at_all_is_bad_usage(command):
    with pytest.raises(SystemExit) as exit_status:
        tool.main([*command, "--images", "0"])
    assert exit_status.value.code == 2
