"""Surprise's SVD on the same splits and by the same measure as our own models."""

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from jaxmf.data.ratings import Ratings
from jaxmf.data.splits import Split
from jaxmf.evaluation import metrics

if TYPE_CHECKING:
    from surprise import AlgoBase

TUNED = {"n_factors": 100, "n_epochs": 60, "lr_all": 0.01, "reg_all": 0.08, "init_std_dev": 0.05}
"""Settings of `SVD` that do best on MovieLens latest-small."""


class Score(NamedTuple):
    """A fold's result: errors of clipped predictions, and the seconds that fitting took."""

    rmse: float
    mae: float
    fit_seconds: float


def svd(*, tuned: bool = False, seed: int = 0) -> "AlgoBase":
    """Surprise's `SVD`, with its defaults (the notebook's baseline) or with `TUNED`.

    Raises:
        ImportError: If scikit-surprise is not installed.
    """
    return _surprise().SVD(random_state=seed, **(TUNED if tuned else {}))


def evaluate(algorithm: "AlgoBase", ratings: Ratings, split: Split) -> Score:
    """Fit any Surprise algorithm on a split's training part and measure it on the test part.

    Users and items that the training part lacks are predicted as Surprise does it: by what it knows of the pair.
    """
    train, test = ratings.take(split.train), ratings.take(split.test)
    scale = (float(np.min(ratings.rating)), float(np.max(ratings.rating)))
    frame = pd.DataFrame({"user": train.user, "item": train.item, "rating": train.rating.astype(float)})
    surprise = _surprise()
    data = surprise.Dataset.load_from_df(frame, surprise.Reader(rating_scale=scale)).build_full_trainset()
    start = time.perf_counter()
    algorithm.fit(data)
    seconds = time.perf_counter() - start
    predicted = [algorithm.predict(user, item).est for user, item in zip(test.user, test.item, strict=True)]
    return Score(metrics.rmse(predicted, test.rating), metrics.mae(predicted, test.rating), seconds)


def _surprise():  # noqa: ANN202 a module
    try:
        import surprise
    except ImportError as error:
        raise ImportError("Surprise comes with the extra `surprise`: pip install 'jaxmf[surprise]'") from error
    return surprise
