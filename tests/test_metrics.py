"""Metrics of predictions: against scikit-learn, SciPy and plain loops."""

import numpy as np
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
