"""gcrf.calibration: the start of finetuning doesn't depend on the filters' scale."""

from dataclasses import replace

import numpy as np
import pytest

from gcrf import calibration, nets
from gcrf.calibration import Calibrator
from gcrf.label_maps import IGNORE_LABEL

SETTINGS = replace(nets.SMALL, num_classes=3, window=5)


@pytest.fixture
def case():
    """Two regions with different features, and a unary that is wrong at one pixel in ten."""
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 2], 8).astype(np.uint8)[None].repeat(16, axis=0)
    labels[0] = IGNORE_LABEL
    filters = rng.normal(size=(3, 16, 16)) * 0.3
    filters[0] += 2.0 * (labels == 2)
    seen = np.where(rng.random(labels.shape) < 0.1, 0, np.where(labels == 2, 2, 1))
    unary = np.full((3, 16, 16), 0.2, np.float32)
    np.put_along_axis(unary, seen[None], 0.6, axis=0)
    return calibration.Case(unary, filters.astype(np.float32), labels)


def test_pairs_are_told_apart_by_their_labels_and_ignored_pixels_have_none():
    filters = np.array([[[0, 1, 2], [4, 8, 16]]], np.float32)
    labels = np.array([[1, 2, IGNORE_LABEL], [2, 2, 1]], np.uint8)
    # pairs of window 3: (0,0)-(1,1), (0,1)-(1,0) and (0,1)-(1,2); (0,2) is ignored
    like, unlike = calibration.squared_distances(filters, labels, 3)
    assert sorted(like) == [9]  # 1 and 4
    assert sorted(unlike) == [64, 225]  # 0 and 8, 1 and 16


def test_the_scale_gives_the_mean_similarity_that_was_asked_for():
    distances = np.random.default_rng(0).chisquare(3, 1000)
    for target in (0.01, 0.5, 0.99):
        scale = calibration.scale_for(distances, target)
        assert calibration.mean_similarity(distances, scale) == pytest.approx(target, rel=1e-3)


def test_filters_that_tell_no_pixel_apart_are_an_error():
    with pytest.raises(
        ValueError, match="990 of 1000 pairs with the same label have equal features"
    ):
        calibration.scale_for(np.r_[np.zeros(990), np.ones(10)], 0.5)


def test_separation_is_the_area_under_the_curve():
    assert calibration.separation(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert calibration.separation(np.array([1.0, 4.0]), np.array([2.0, 4.0])) == 0.625
    assert calibration.separation(np.ones(3), np.ones(2)) == 0.5


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_start_is_the_same_whatever_the_scale_of_the_filters(case, factor):
    chosen = Calibrator(SETTINGS, [case]).best_start()
    scaled = case._replace(filters=np.float32(factor) * case.filters)
    other = Calibrator(SETTINGS, [scaled]).best_start()
    assert other.scale * factor == pytest.approx(chosen.scale, rel=1e-3)
    assert other.diagonal == chosen.diagonal
    assert other.loss == pytest.approx(chosen.loss, rel=1e-3)


def test_the_chosen_start_has_the_least_loss_and_improves_on_the_unary(case):
    found = list(Calibrator(SETTINGS, [case]).starts())
    chosen = Calibrator(SETTINGS, [case]).best_start()
    assert chosen == min(found, key=lambda start: start.loss)
    assert chosen.like > 2 * chosen.unlike
    assert chosen.mean_iou > Calibrator(SETTINGS, [case]).unary_mean_iou()
