"""gcrf.scores: the measures, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score, recall_score

from gcrf.scores import TRIMAP, border_distances, confusion_matrix, measure, trimap


def test_two_by_three_pixels_worked_by_hand():
    truth = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    prediction = np.array([[0, 1, 1], [1, 1, 3]], np.uint8)
    confusion = confusion_matrix(truth, prediction, 4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    result = measure(confusion)
    # Class 0: 1 of 2 pixels; class 1: 2 of 4; class 2: never found; class 3: only where ignored
    assert result["iou"] == [50, 50, 0, None]
    assert result["mean_iou"] == pytest.approx(100 / 3)
    assert result["pixel_accuracy"] == pytest.approx(100 * 3 / 5)
    assert result["mean_accuracy"] == pytest.approx((50 + 100 + 0) / 3)
    assert result["frequency_weighted_iou"] == pytest.approx(50 * 2 / 5 + 50 * 2 / 5)


def test_a_class_only_predicted_counts_as_zero():
    truth, prediction = np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 1]], np.uint8)
    result = measure(confusion_matrix(truth, prediction, 3))
    assert result["iou"] == [75, 0, None]
    assert result["mean_iou"] == 37.5
    assert result["mean_accuracy"] == 75


@pytest.mark.parametrize("seed", range(5))
def test_scikit_learn_agrees(seed):
    random = np.random.default_rng(seed)
    truth, prediction = random.integers(0, 21, (2, 60, 80), np.uint8)
    truth[random.random(truth.shape) < 0.1] = 255
    counted = truth != 255
    pair = truth[counted], prediction[counted]
    result = measure(confusion_matrix(truth, prediction, 21))
    assert result["iou"] == pytest.approx(100 * jaccard_score(*pair, average=None))
    assert result["mean_iou"] == pytest.approx(100 * jaccard_score(*pair, average="macro"))
    assert result["frequency_weighted_iou"] == pytest.approx(
        100 * jaccard_score(*pair, average="weighted")
    )
    assert result["pixel_accuracy"] == pytest.approx(100 * accuracy_score(*pair))
    assert result["mean_accuracy"] == pytest.approx(100 * recall_score(*pair, average="macro"))


def test_wrong_labels_and_sizes_are_named():
    good, wrong = np.zeros((2, 3), np.uint8), np.full((2, 3), 7, np.uint8)
    with pytest.raises(ValueError, match=r"truth has the labels \[7\], expected 0..4 or 255"):
        confusion_matrix(wrong, good, 5)
    with pytest.raises(ValueError, match=r"prediction has the labels \[7\], expected 0..4$"):
        confusion_matrix(good, wrong, 5)
    with pytest.raises(ValueError, match=r"truth is \(2, 3\), prediction \(3, 2\)"):
        confusion_matrix(good, good.T, 5)
    with pytest.raises(ValueError, match="int64"):
        confusion_matrix(good.astype(int), good, 5)


def test_nothing_to_score_is_an_error():
    ignored = np.full((2, 3), 255, np.uint8)
    with pytest.raises(ValueError, match="all ignored"):
        measure(confusion_matrix(ignored, np.zeros_like(ignored), 5))


def test_the_distance_to_another_label_is_counted_in_pixels_and_void_is_a_label():
    label_map = np.array([[1, 1, 1, 255, 2], [1, 1, 1, 1, 2]], np.uint8)
    expected = [[3, 2, 1, 1, 1], [np.sqrt(10), np.sqrt(5), np.sqrt(2), 1, 1]]
    np.testing.assert_allclose(border_distances(label_map), expected, rtol=1e-6)


def test_one_label_alone_has_no_border():
    assert np.isinf(border_distances(np.zeros((3, 4), np.uint8))).all()


def test_a_band_holds_the_pixels_near_borders():
    truth = np.zeros((3, 60), np.uint8)
    truth[:, 30:] = 4
    truth[:, 29:31] = 255
    bands = trimap(truth)
    assert list(bands) == list(TRIMAP)
    for width, band in bands.items():
        counted = np.flatnonzero(band[1] != 255)
        expected = [*range(29 - width, 29), *range(31, 31 + width)]
        assert counted.tolist() == expected
        assert (band == truth)[:, counted].all()
