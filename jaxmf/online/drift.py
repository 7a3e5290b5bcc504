"""How far an online model drifts from a refit as updates pile up: a replay in time order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from jaxmf.data.changes import merge
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Clicks
from jaxmf.model.model import Model
from jaxmf.online.fold_in import fold_in_items, fold_in_users

Measure = Callable[[Model, Ratings, Ratings], float]
"""How good a model is on a part that it has not seen, of (model, what is known, the part)."""


class Replay(NamedTuple):
    """How three models do on each part of the replay, before it is learnt: an RMSE, or what else is measured, a part.

    Attributes:
        seen: Ratings replayed up to the end of the part.
        stale: That of the first model, never updated.
        online: That of the model that is folded into after every part.
        refit: That of a model fitted anew before every part.
    """

    seen: Int[np.ndarray, " parts"]
    stale: np.ndarray
    online: np.ndarray
    refit: np.ndarray


def replay(
    fit: Callable[[Ratings], Model],
    ratings: Ratings,
    *,
    fraction: float = 0.2,
    parts: int = 20,
    items: bool = True,
    measure: Measure | None = None,
    progress: bool = False,
) -> Replay:
    """Replay the last `fraction` of the ratings in `parts`, and compare never updating, folding in and refitting.

    Args:
        fit: A trainer: ratings → model, which is folded into under the prior that it was trained with.
        ratings: All ratings in the order of their time: `ratings.take(np.argsort(timestamp, kind="stable"))`.
        fraction: Share of the ratings that is replayed.
        parts: Number of updates, of as many ratings each.
        items: Fold in the touched items too, after the users.
        measure: What is measured on each part, such as NDCG by `jaxmf.judging.full_ranking`, which clicks need; else
            the RMSE, of predictions clipped to the scale of the ratings.
        progress: Show a progress bar, where standard error is a terminal.

    Raises:
        ValueError: If the replay leaves nothing to start from, or has fewer ratings than parts, or is of clicks and
            nothing else than the RMSE is measured.

    Cost: a `fit` a part, which is nearly all of it.
    """
    start = len(ratings) - int(fraction * len(ratings))
    if not 0 < start <= len(ratings) - parts:
        raise ValueError(
            f"fraction {fraction} of {len(ratings)} ratings in {parts} parts: the start and every part need a rating"
        )
    known = ratings.take(np.arange(start))
    stale = online = fit(known).grown(ratings.n_users, ratings.n_items)
    clicked = isinstance(stale.kernel, Clicks)
    if clicked and measure is None:
        raise ValueError(
            "an error says nothing of clicks, whose zeros were not observed: give a measure that ranks each part, such "
            "as one by jaxmf.judging.full_ranking"
        )
    measure, found = measure or _rmse_within(ratings), []
    for index in tqdm(
        np.array_split(np.arange(start, len(ratings)), parts), disable=None if progress else True, leave=False
    ):
        part = ratings.take(index)
        models = stale, online, fit(known).grown(ratings.n_users, ratings.n_items)
        found.append([measure(model, known, part) for model in models])
        known = merge(known, part, add=clicked)
        online = _touch(online, known, part, items=items)
    seen = np.cumsum([len(index) for index in np.array_split(np.arange(len(ratings) - start), parts)])
    return Replay(seen, *np.array(found).T)


def _rmse_within(ratings: Ratings) -> Measure:
    """The RMSE of predictions clipped to the scale of these ratings."""
    low, high = float(np.min(ratings.rating)), float(np.max(ratings.rating))

    def rmse(model: Model, _: Ratings, part: Ratings) -> float:
        predicted = np.clip(model.predict(part.user, part.item), low, high)
        return float(np.sqrt(np.mean((part.rating - predicted) ** 2)))

    return rmse


def _touch(online: Model, known: Ratings, part: Ratings, *, items: bool) -> Model:
    """The model with the rows that `part` touches folded in from all that is known."""
    online = fold_in_users(online, known.take(np.isin(known.user, part.user)))
    return fold_in_items(online, known.take(np.isin(known.item, part.item))) if items else online
