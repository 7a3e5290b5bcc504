"""How good predictions are."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxmf.data.ratings import AnyArray


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


def _mean(values: np.ndarray) -> float:
    return values.mean() if values.size else np.nan
