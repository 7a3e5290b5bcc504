"""How far an online model drifts from a refit as updates pile up: a replay in time order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from jaxmf.data.changes import merge
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.kernels import Clicks
from jaxmf.model.model import Model
from jaxmf.online.fold_in import fold_in_items, fold_in_users


class Replay(NamedTuple):
    """Squared errors on each part of the replay, predicted before it is learnt: means, one a part.

    Attributes:
        seen: Ratings replayed up to the end of the part.
        stale: RMSE of the first model, never updated.
        online: RMSE of the model that is folded into after every part.
        refit: RMSE of a model fitted anew before every part.
    """

    seen: Int[np.ndarray, " parts"]
    stale: np.ndarray
    online: np.ndarray
    refit: np.ndarray


def replay(
    fit: Callable[[Ratings], Model],
    ratings: Ratings,
    order: Int[AnyArray, " n"],
    *,
    fraction: float = 0.2,
    parts: int = 20,
    items: bool = True,
    progress: bool = False,
) -> Replay:
    """Replay the last `fraction` of the ratings in `parts`, and compare never updating, folding in and refitting.

    Args:
        fit: A trainer: ratings → model, which is folded into under the prior that it was trained with.
        ratings: All ratings.
        order: Their order in time, such as `np.argsort(timestamp, kind="stable")`.
        fraction: Share of the ratings that is replayed.
        parts: Number of updates, of as many ratings each.
        items: Fold in the touched items too, after the users.
        progress: Show a progress bar, where standard error is a terminal.

    Raises:
        ValueError: If the replay leaves nothing to start from, or has fewer ratings than parts, or is of clicks.

    Cost: a `fit` a part, which is nearly all of it.
    """
    start = len(ratings) - int(fraction * len(ratings))
    if not 0 < start <= len(ratings) - parts:
        raise ValueError(
            f"fraction {fraction} of {len(ratings)} ratings in {parts} parts: the start and every part need a rating"
        )
    low, high = float(np.min(ratings.rating)), float(np.max(ratings.rating))
    known = ratings.take(np.asarray(order)[:start])
    stale = online = fit(known).grown(ratings.n_users, ratings.n_items)
    if isinstance(stale.kernel, Clicks):
        raise ValueError(
            "an error says nothing of clicks, whose zeros were not observed: rank each part by jaxmf.judging instead"
        )
    errors = []
    for index in tqdm(
        np.array_split(np.asarray(order)[start:], parts), disable=None if progress else True, leave=False
    ):
        part = ratings.take(index)
        models = stale, online, fit(known).grown(ratings.n_users, ratings.n_items)
        predicted = [np.clip(model.predict(part.user, part.item), low, high) for model in models]
        errors.append([np.sqrt(np.mean((part.rating - values) ** 2)) for values in predicted])
        known = merge(known, part)
        online = _touch(online, known, part, items=items)
    seen = np.cumsum([len(index) for index in np.array_split(np.arange(len(ratings) - start), parts)])
    return Replay(seen, *np.array(errors).T)


def _touch(online: Model, known: Ratings, part: Ratings, *, items: bool) -> Model:
    """The model with the rows that `part` touches folded in from all that is known."""
    online = fold_in_users(online, known.take(np.isin(known.user, part.user)))
    return fold_in_items(online, known.take(np.isin(known.item, part.item))) if items else online
