"""How good predictions are."""

import numpy as np
from numpy.typing import ArrayLike


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


def _errors(predicted: ArrayLike, rating: ArrayLike) -> np.ndarray:
    predicted, rating = np.asarray(predicted, np.float64), np.asarray(rating, np.float64)
    if predicted.shape != rating.shape:
        raise ValueError(f"{predicted.shape} predictions for {rating.shape} ratings: give one prediction a rating")
    return predicted - rating


def _mean(values: np.ndarray) -> float:
    return values.mean() if values.size else np.nan
