"""How good predictions of ratings are: errors, likelihoods, intervals, and errors by group.

Where a prediction or a rating is NaN, so is what is measured; an infinite rating is refused.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxmf.data.arrays import to_numbers
from jaxmf.data.ratings import Ratings, check_type
from jaxmf.data.settings import check_number
from jaxmf.evaluation.bins import EDGES, means_by_bin, profile_sizes


def rmse(predicted: ArrayLike, rating: ArrayLike) -> float:
    """Root mean squared error, in the unit of the ratings; NaN for no ratings.

    Example:
        >>> rmse([3.0, 4.0], [3.0, 2.0])
        1.4142135623730951
    """
    return float(np.sqrt(_mean(np.square(_errors(predicted, rating)))))


def mae(predicted: ArrayLike, rating: ArrayLike) -> float:
    """Mean absolute error, in the unit of the ratings; NaN for no ratings.

    Example:
        >>> mae([3.0, 4.0], [3.0, 2.0])
        1.0
    """
    return float(_mean(np.abs(_errors(predicted, rating))))


def r2(predicted: ArrayLike, rating: ArrayLike) -> float:
    """Share of the ratings' variance that is predicted, 1 − Σ(r − r̂)² / Σ(r − r̄)²; NaN where they don't vary.

    0 is the error of their own mean, and below 0 is worse.

    Example:
        >>> r2([2.0, 3.0, 5.0], [2.0, 4.0, 6.0])
        0.75
    """
    errors, rating = _errors(predicted, rating), to_numbers(rating, "rating")
    around = np.sum(np.square(rating - _mean(rating)))
    return float(1 - np.sum(np.square(errors)) / around) if around > 0 else np.nan


def log_likelihood(mean: ArrayLike, std: ArrayLike | float, rating: ArrayLike) -> float:
    """Mean log density of a rating under N(mean, std²), in nats; NaN for no ratings. `std` may be one for all.

    Give it a prediction's standard deviation with the noise, `Predictive.std`.

    Raises:
        ValueError: If a standard deviation is not positive and finite, or there is neither one nor one a rating.

    Example:
        >>> round(log_likelihood([3.0, 4.0], 1.0, [3.0, 4.0]), 4)
        -0.9189
    """
    errors = _errors(mean, rating)
    std = _positive(std, errors.shape)
    return float(_mean(-0.5 * np.square(errors / std) - np.log(std * np.sqrt(2 * np.pi))))


def interval_coverage(mean: ArrayLike, std: ArrayLike | float, rating: ArrayLike, level: float = 0.9) -> float:
    """Share of ratings inside the central interval of N(mean, std²) that should hold a share of `level`.

    NaN for no ratings. `std` may be one for all.

    Raises:
        ValueError: If `level` is not between 0 and 1, or as `log_likelihood`.

    Example:
        >>> interval_coverage([3.0, 3.0], 1.0, [4.0, 5.0], level=0.9)
        0.5
    """
    share = check_number("level", level, rule="between 0 and 1", meaning="the share that the interval should hold")
    if not 0 < share < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}: it is the share that the interval should hold")
    half, away = NormalDist().inv_cdf((1 + share) / 2), np.abs(_errors(mean, rating))
    inside = away <= half * _positive(std, away.shape)
    return float(_mean(np.where(np.isnan(away), np.nan, inside)))


def by_profile_size(
    predicted: ArrayLike, test: Ratings, train: Ratings, *, edges: Sequence[int] = EDGES
) -> pd.DataFrame:
    """Errors by how many ratings the user has in training: a row a bin with `from`, `to`, `n`, `rmse` and `mae`.

    A bin ends before `to`. Bins without test ratings are left out. Test ratings of weight 0 are padding.

    Args:
        predicted: Predictions of the ratings in `test`.
        test: The ratings that were predicted.
        train: The ratings that the model knew.
        edges: Where the bins begin; the last has no end.

    Raises:
        ValueError: If the edges don't ascend from 0, or a rating in training is no number.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> train = Ratings(np.array([0, 0]), np.array([0, 1]), 3 * one, one, n_users=2, n_items=2)
        >>> test = Ratings(np.array([0, 1]), np.array([1, 1]), 3 * one, one, n_users=2, n_items=2)
        >>> by_profile_size([3.0, 4.0], test, train, edges=(0, 1))
           from   to  n  rmse  mae
        0     0  1.0  1   1.0  1.0
        1     1  inf  1   0.0  0.0
    """
    check_type(test, "test")
    errors, size = _errors(predicted, test.rating), profile_sizes(train, test.user)
    counts = np.asarray(test.weight) != 0
    frame = means_by_bin({"rmse": errors[counts] ** 2, "mae": np.abs(errors[counts])}, size[counts], edges)
    return frame.assign(rmse=np.sqrt(frame["rmse"]))


def by_popularity(predicted: ArrayLike, test: Ratings, train: Ratings, *, edges: Sequence[int] = EDGES) -> pd.DataFrame:
    """Errors by how many ratings the item has in training; else as `by_profile_size`."""
    check_type(test, "test")
    check_type(train, "train")
    return by_profile_size(predicted, test.transpose(), train.transpose(), edges=edges)


def log_likelihood_of_classes(probabilities: ArrayLike, levels: ArrayLike, rating: ArrayLike) -> float:
    """Mean logarithm of the probability that each rating's own level was given; NaN for no ratings.

    Args:
        probabilities: A row a rating and a column a level, such as those of `jaxmf.posterior.class_probabilities`.
        levels: The levels, ascending.
        rating: The ratings.

    Raises:
        ValueError: If a rating is no level, the levels don't ascend, or there is not a probability a rating and level.

    Example:
        >>> probabilities, levels = np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([1.0, 2.0])
        >>> round(log_likelihood_of_classes(probabilities, levels, np.array([1.0, 2.0])), 3)
        -0.458
    """
    probabilities = to_numbers(probabilities, "probability")
    levels, rating = to_numbers(levels, "level"), to_numbers(rating, "rating")
    if probabilities.shape != (*rating.shape, *levels.shape):
        raise ValueError(
            f"{probabilities.shape} probabilities for {rating.shape} ratings on {levels.shape} levels: "
            "give a row a rating and a column a level"
        )
    if not (levels.size and (np.diff(levels) > 0).all()):
        raise ValueError(f"levels must ascend, got {levels}: sort them, each once")
    at = np.searchsorted(levels, rating).clip(max=len(levels) - 1)
    foreign = levels[at] != rating
    if foreign.any():
        raise ValueError(
            f"rating {rating[foreign.argmax()]} is none of the levels {levels}: add it, or drop the rating"
        )
    with np.errstate(divide="ignore"):  # a probability of 0 has the logarithm −∞
        return float(_mean(np.log(probabilities[np.arange(len(at)), at])))


def _errors(predicted: ArrayLike, rating: ArrayLike) -> np.ndarray:
    predicted, rating = to_numbers(predicted, "prediction"), to_numbers(rating, "rating")
    if predicted.shape != rating.shape:
        raise ValueError(f"{predicted.shape} predictions for {rating.shape} ratings: give one prediction a rating")
    if np.isinf(rating).any():
        raise ValueError(f"rating {rating[np.isinf(rating)][0]}: a rating must be finite; drop or mend it")
    return predicted - rating


def _positive(std: ArrayLike | float, shape: tuple[int, ...]) -> np.ndarray:
    std = to_numbers(std, "standard deviation")
    if std.shape not in ((), shape):
        raise ValueError(f"{std.shape} standard deviations for {shape} ratings: give one a rating, or one for all")
    bad = ~((std > 0) & np.isfinite(std))
    if bad.any():
        raise ValueError(f"standard deviation {std[bad][0]}: it must be positive and finite; take that with the noise")
    return std


def _mean(values: np.ndarray) -> float:
    return values.mean() if values.size else np.nan
