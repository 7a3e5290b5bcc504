"""Surprise's algorithms on our splits, our model in Surprise's (`KMF`), and Surprise's models in ours."""

import importlib
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from jaxmf.baselines.interop import Converted, from_factors
from jaxmf.data.ratings import Ratings, Vocabulary
from jaxmf.data.splits import Split
from jaxmf.evaluation import metrics

if TYPE_CHECKING:
    from surprise import AlgoBase
    from surprise.dataset import DatasetAutoFolds

    from jaxmf.baselines.surprise_kmf import KMF

__all__ = ["KMF", "TUNED", "Score", "dataset", "evaluate", "from_surprise", "svd"]

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


def dataset(ratings: Ratings, *, scale: tuple[float, float] | None = None) -> "DatasetAutoFolds":
    """The ratings as a `Dataset` of Surprise, rows as raw ids, on a scale that is their range unless it is given.

    Raises:
        ImportError: If scikit-surprise is not installed.
    """
    ends = scale or (float(np.min(ratings.rating)), float(np.max(ratings.rating)))
    frame = pd.DataFrame({"user": ratings.user, "item": ratings.item, "rating": np.asarray(ratings.rating, float)})
    surprise = _surprise()
    return surprise.Dataset.load_from_df(frame, surprise.Reader(rating_scale=ends))


def evaluate(algorithm: "AlgoBase", ratings: Ratings, split: Split) -> Score:
    """Fit any Surprise algorithm on a split's training part and measure it on the test part.

    Users and items that the training part lacks are predicted as Surprise does it: by what it knows of the pair.
    """
    train, test = ratings.take(split.train), ratings.take(split.test)
    scale = (float(np.min(ratings.rating)), float(np.max(ratings.rating)))
    data = dataset(train, scale=scale).build_full_trainset()
    start = time.perf_counter()
    algorithm.fit(data)
    seconds = time.perf_counter() - start
    predicted = [algorithm.predict(user, item).est for user, item in zip(test.user, test.item, strict=True)]
    return Score(metrics.rmse(predicted, test.rating), metrics.mae(predicted, test.rating), seconds)


def from_surprise(algorithm: "AlgoBase") -> Converted:
    """A fitted `SVD`, `SVDpp` or `NMF` of Surprise, rows in the order of its inner ids: it predicts the same.

    Raises:
        ValueError: If the algorithm is not one of these, or was not fitted.

    Example:
        >>> from surprise import Dataset, Reader
        >>> frame = pd.DataFrame({"user": ["ann", "ann", "bob"], "item": [1, 2, 1], "rating": [4.0, 2.0, 5.0]})
        >>> data = Dataset.load_from_df(frame, Reader(rating_scale=(1, 5))).build_full_trainset()
        >>> model, users, items = from_surprise(svd().fit(data))
        >>> users.encode(["bob"]), model.params.item.factors.shape
        (array([1], dtype=int32), (2, 100))
    """
    surprise = _surprise()
    if not isinstance(algorithm, surprise.SVD | surprise.SVDpp | surprise.NMF):
        raise ValueError(f"{type(algorithm).__name__} has no factors to convert: give a fitted SVD, SVDpp or NMF")
    if not hasattr(algorithm, "pu"):
        raise ValueError(f"{type(algorithm).__name__} is not fitted: call its fit first")
    fitted = vars(algorithm)
    data, users, items = algorithm.trainset, fitted["pu"], fitted["qi"]
    if isinstance(algorithm, surprise.SVDpp):  # a user's implicit feedback, which is the same for every item
        users = users + [
            sum(fitted["yj"][item] for item, _ in rated) / np.sqrt(len(rated)) for _, rated in sorted(data.ur.items())
        ]
    biased = getattr(algorithm, "biased", True)
    biases = {"user_bias": algorithm.bu, "item_bias": algorithm.bi, "offset": data.global_mean} if biased else {}
    ids = (
        [raw(at) for at in every()]
        for raw, every in ((data.to_raw_uid, data.all_users), (data.to_raw_iid, data.all_items))
    )
    return Converted(from_factors(users, items, **biases), *map(Vocabulary, ids))


def __getattr__(name: str):  # noqa: ANN202 the class, which needs Surprise and so is made when it is asked for
    if name != "KMF":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _surprise()
    return importlib.import_module("jaxmf.baselines.surprise_kmf").KMF


def _surprise():  # noqa: ANN202 a module
    try:
        import surprise
    except ImportError as error:
        raise ImportError("Surprise comes with the extra `surprise`: pip install 'jaxmf[surprise]'") from error
    return surprise
