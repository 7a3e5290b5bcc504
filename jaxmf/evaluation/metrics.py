"""How good predictions of ratings are: errors, likelihoods, intervals, and errors by group."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxmf.data.ratings import AnyArray, Ratings

EDGES = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Where the bins of a breakdown begin, in ratings; the last has no end."""


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
    rating = np.asarray(rating, np.float64)
    around = np.sum(np.square(rating - _mean(rating)))
    return float(1 - np.sum(np.square(_errors(predicted, rating))) / around) if around > 0 else np.nan


def log_likelihood(mean: ArrayLike, std: ArrayLike | float, rating: ArrayLike) -> float:
    """Mean log density of a rating under N(mean, std²), in nats; NaN for no ratings. `std` may be one for all.

    Give it a prediction's standard deviation with the noise, `Predictive.std`.

    Raises:
        ValueError: If a standard deviation is not positive.

    Example:
        >>> round(log_likelihood([3.0, 4.0], 1.0, [3.0, 4.0]), 4)
        -0.9189
    """
    std = _positive(std)
    return float(_mean(-0.5 * np.square(_errors(mean, rating) / std) - np.log(std * np.sqrt(2 * np.pi))))


def interval_coverage(mean: ArrayLike, std: ArrayLike | float, rating: ArrayLike, level: float = 0.9) -> float:
    """Share of ratings inside the central interval of N(mean, std²) that should hold a share of `level`.

    NaN for no ratings. `std` may be one for all.

    Raises:
        ValueError: If `level` is not between 0 and 1, or a standard deviation is not positive.

    Example:
        >>> interval_coverage([3.0, 3.0], 1.0, [4.0, 5.0], level=0.9)
        0.5
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}: it is the share that the interval should hold")
    half = NormalDist().inv_cdf((1 + level) / 2)
    return float(_mean(np.abs(_errors(mean, rating)) <= half * _positive(std)))


def by_profile_size(
    predicted: ArrayLike, test: Ratings, train: Ratings, *, edges: Sequence[int] = EDGES
) -> pd.DataFrame:
    """Errors by how many ratings the user has in training: a row a bin with `from`, `to`, `n`, `rmse` and `mae`.

    A bin ends before `to`. Bins without test ratings are left out.

    Args:
        predicted: Predictions of the ratings in `test`.
        test: The ratings that were predicted.
        train: The ratings that the model knew.
        edges: Where the bins begin; the last has no end.

    Raises:
        ValueError: If the edges don't ascend from 0.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> train = Ratings(np.array([0, 0]), np.array([0, 1]), 3 * one, one, n_users=2, n_items=2)
        >>> test = Ratings(np.array([0, 1]), np.array([1, 1]), 3 * one, one, n_users=2, n_items=2)
        >>> by_profile_size([3.0, 4.0], test, train, edges=(0, 1))
           from   to  n  rmse  mae
        0     0  1.0  1   1.0  1.0
        1     1  inf  1   0.0  0.0
    """
    begin = np.asarray(edges)
    if not (begin.size and begin[0] == 0 and (np.diff(begin) > 0).all()):
        raise ValueError(f"edges must ascend from 0, got {edges}: they are where the bins begin, in ratings")
    user = np.asarray(train.user)[np.asarray(train.weight) > 0]
    size = np.bincount(user, minlength=max(train.n_users, test.n_users))[np.asarray(test.user)]
    place = np.searchsorted(begin, size, "right") - 1
    errors = _errors(predicted, test.rating)
    frame = pd.DataFrame({"place": place, "square": errors**2, "absolute": np.abs(errors)})
    means = frame.groupby("place").agg(n=("square", "size"), mse=("square", "mean"), mae=("absolute", "mean"))
    at = means.index.to_numpy()
    columns = {"from": begin[at], "to": np.append(begin[1:], np.inf)[at], "n": means["n"].to_numpy()}
    return pd.DataFrame(columns | {"rmse": np.sqrt(means["mse"].to_numpy()), "mae": means["mae"].to_numpy()})


def by_popularity(predicted: ArrayLike, test: Ratings, train: Ratings, *, edges: Sequence[int] = EDGES) -> pd.DataFrame:
    """Errors by how many ratings the item has in training; else as `by_profile_size`."""
    return by_profile_size(predicted, test.transpose(), train.transpose(), edges=edges)


def log_likelihood_of_classes(
    probabilities: Float[AnyArray, "n levels"], levels: Float[AnyArray, " levels"], rating: Float[AnyArray, " n"]
) -> float:
    """Mean logarithm of the probability that each rating's own level was given; NaN for no ratings.

    Args:
        probabilities: Of each level, such as those of `jaxmf.posterior.class_probabilities`.
        levels: The levels, ascending.
        rating: The ratings.

    Raises:
        ValueError: If a rating is no level.

    Example:
        >>> probabilities, levels = np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([1.0, 2.0])
        >>> round(log_likelihood_of_classes(probabilities, levels, np.array([1.0, 2.0])), 3)
        -0.458
    """
    at = np.searchsorted(levels, rating).clip(max=len(levels) - 1)
    foreign = np.asarray(levels)[at] != np.asarray(rating)
    if foreign.any():
        raise ValueError(f"rating {np.asarray(rating)[foreign.argmax()]} is none of the levels {np.asarray(levels)}")
    return float(_mean(np.log(np.asarray(probabilities, np.float64)[np.arange(len(at)), at])))


def _errors(predicted: ArrayLike, rating: ArrayLike) -> np.ndarray:
    predicted, rating = np.asarray(predicted, np.float64), np.asarray(rating, np.float64)
    if predicted.shape != rating.shape:
        raise ValueError(f"{predicted.shape} predictions for {rating.shape} ratings: give one prediction a rating")
    return predicted - rating


def _positive(std: ArrayLike | float) -> np.ndarray:
    std = np.asarray(std, np.float64)
    if not (std > 0).all():
        raise ValueError(f"standard deviation {std[~(std > 0)][0]}: it must be positive")
    return std


def _mean(values: np.ndarray) -> float:
    return values.mean() if values.size else np.nan
