"""Metrics of predictions: against scikit-learn, SciPy and plain loops."""

import jax
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from reference import random_ratings
from scipy import stats

from jaxmf.evaluation import metrics

RNG = np.random.default_rng(0)
RATING = RNG.integers(1, 11, 200) / 2
PREDICTED = RATING + RNG.normal(size=200)
STD = RNG.uniform(0.5, 2, 200)


def test_errors_against_scikit_learn():
    assert metrics.rmse(PREDICTED, RATING) == pytest.approx(sklearn.metrics.root_mean_squared_error(RATING, PREDICTED))
    assert metrics.mae(PREDICTED, RATING) == pytest.approx(sklearn.metrics.mean_absolute_error(RATING, PREDICTED))
    assert metrics.r2(PREDICTED, RATING) == pytest.approx(sklearn.metrics.r2_score(RATING, PREDICTED))


@pytest.mark.parametrize("std", [STD, 0.8])
def test_likelihood_and_intervals_against_scipy(std):
    density = stats.norm(PREDICTED, std)
    assert metrics.log_likelihood(PREDICTED, std, RATING) == pytest.approx(density.logpdf(RATING).mean())
    for level in (0.5, 0.95):
        low, high = density.interval(level)
        share = np.mean((low <= RATING) & (high >= RATING))
        assert metrics.interval_coverage(PREDICTED, std, RATING, level) == pytest.approx(share)


def test_intervals_of_what_they_were_drawn_from_hold_their_share():
    drawn = PREDICTED.repeat(200) + STD.repeat(200) * RNG.normal(size=40_000)
    assert metrics.interval_coverage(PREDICTED.repeat(200), STD.repeat(200), drawn, 0.8) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("breakdown", [metrics.by_profile_size, metrics.by_popularity])
def test_breakdowns(breakdown):
    train = random_ratings(np.random.default_rng(1), 40, 60, 700)
    test = random_ratings(np.random.default_rng(2), 40, 60, 150)
    predicted = test.rating + np.random.default_rng(3).normal(size=150)
    frame = breakdown(predicted, test, train, edges=(0, 10, 14, 20))
    side = "user" if breakdown is metrics.by_profile_size else "item"
    size = np.array([(getattr(train, side) == row).sum() for row in getattr(test, side)])
    assert frame["n"].sum() == 150
    assert list(frame.columns) == ["from", "to", "n", "rmse", "mae"]
    for line in frame.to_dict("records"):
        inside = (size >= line["from"]) & (size < line["to"])
        assert line["n"] == inside.sum() > 0
        assert line["rmse"] == pytest.approx(metrics.rmse(predicted[inside], test.rating[inside]))
        assert line["mae"] == pytest.approx(metrics.mae(predicted[inside], test.rating[inside]))


def test_nan_stays_nan():
    some = random_ratings(np.random.default_rng(1), 1, 4, 4)
    broken, right = [np.nan, 4.0, 3.0, 4.0], [3.0, 4.0, 3.0, 5.0]
    for predicted, rating in ((broken, right), (right, broken)):
        for measure in (metrics.rmse, metrics.mae, metrics.r2):
            assert np.isnan(measure(predicted, rating))
        assert np.isnan(metrics.log_likelihood(predicted, 1.0, rating))
        assert np.isnan(metrics.interval_coverage(predicted, 1.0, rating))
        for breakdown in (metrics.by_profile_size, metrics.by_popularity):
            test = some.replace(rating=np.float32(rating))
            (line,) = breakdown(predicted, test, some).to_dict("records")
            assert line["n"] == 4
            assert np.isnan([line["rmse"], line["mae"]]).all()
    levels, probability = np.array([1.0, 2.0]), np.array([[np.nan, 0.5], [0.5, 0.5]])
    assert np.isnan(metrics.log_likelihood_of_classes(probability, levels, np.array([1.0, 2.0])))
    assert metrics.log_likelihood_of_classes(np.array([[0.0, 1.0]]), levels, np.array([1.0])) == -np.inf


def test_padding_is_inert_in_breakdowns():
    train = random_ratings(np.random.default_rng(1), 10, 8, 30)
    test = random_ratings(np.random.default_rng(2), 10, 8, 20)
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros(5, x.dtype)]), (test, train))
    expected = metrics.by_profile_size(np.full(20, 3.0), test, train)
    pd.testing.assert_frame_equal(metrics.by_profile_size(np.full(25, 3.0), *padded), expected)


def test_nothing_to_measure():
    for measure in (metrics.rmse, metrics.mae, metrics.r2):
        assert np.isnan(measure([], []))
    assert np.isnan(metrics.r2([1.0, 2.0], [3.0, 3.0]))
    assert np.isnan(metrics.log_likelihood([], 1.0, []))
    assert np.isnan(metrics.interval_coverage([], 1.0, []))
    none = random_ratings(np.random.default_rng(1), 4, 5, 3).take(np.zeros(0, int))
    assert not len(metrics.by_profile_size([], none, none))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"\(1,\) predictions for \(2,\) ratings"):
        metrics.rmse([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"standard deviation 0\.0"):
        metrics.log_likelihood([1.0, 1.0], [1.0, 0.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 90"):
        metrics.interval_coverage([1.0], 1.0, [1.0], 90.0)
    some = random_ratings(np.random.default_rng(1), 4, 5, 3)
    with pytest.raises(ValueError, match="edges must ascend from 0"):
        metrics.by_popularity(some.rating, some, some, edges=(5, 1))
    with pytest.raises(ValueError, match="rating nan: every rating must be a finite number"):
        metrics.by_profile_size(some.rating, some, some.replace(rating=np.float32([1.0, np.nan, 2.0])))
    with pytest.raises(ValueError, match="row -1: rows are 0 or more"):
        metrics.by_profile_size(some.rating, some.replace(user=np.array([0, -1, 1])), some)
    with pytest.raises(ValueError, match=r"\(1,\) predictions for \(2,\) ratings"):
        metrics.r2([1.0], [3.0, 3.0])


@pytest.mark.parametrize("std", [np.ones((3, 1)), np.ones(1), np.ones(2)])
def test_a_standard_deviation_a_rating_or_one_for_all(std):
    for measure in (metrics.log_likelihood, metrics.interval_coverage):
        with pytest.raises(ValueError, match=r"standard deviations for \(3,\) ratings: give one a rating"):
            measure([1.0, 2.0, 3.0], std, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("probabilities", "levels", "rating", "message"),
    [
        (np.full((3, 2), 0.5), [1.0, 2.0], [1.0, 2.0], r"\(3, 2\) probabilities for \(2,\) ratings on \(2,\) levels"),
        (np.full((1, 2), 0.5), [2.0, 1.0], [1.0], "levels must ascend"),
        (np.full((1, 2), 0.5), [1.0, np.nan], [1.0], "levels must ascend"),
        (np.full((1, 0), 0.5), [], [1.0], "levels must ascend"),
        (np.full((1, 2), 0.5), [1.0, 2.0], [np.nan], "rating nan is none of the levels"),
    ],
)
def test_classes_that_are_refused(probabilities, levels, rating, message):
    with pytest.raises(ValueError, match=message):
        metrics.log_likelihood_of_classes(probabilities, np.array(levels), np.array(rating))
