"""How far an online model drifts from a refit as updates pile up: a replay in time order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from jaxmf.data.changes import merge
from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params, predict
from jaxmf.model.priors import DEFAULT, Prior, Priors
from jaxmf.online.fold_in import fold_in_items, fold_in_users
from jaxmf.online.update import resized


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
    fit: Callable[[Ratings], Params],
    kernel: Kernel,
    ratings: Ratings,
    order: Int[AnyArray, " n"],
    *,
    fraction: float = 0.2,
    parts: int = 20,
    items: bool = True,
    prior: Prior | Priors = DEFAULT,
    progress: bool = False,
) -> Replay:
    """Replay the last `fraction` of the ratings in `parts`, and compare never updating, folding in and refitting.

    Args:
        fit: A trainer: ratings → params.
        kernel: Its kernel.
        ratings: All ratings.
        order: Their order in time, such as `np.argsort(timestamp, kind="stable")`.
        fraction: Share of the ratings that is replayed.
        parts: Number of updates, of as many ratings each.
        items: Fold in the touched items too, after the users.
        prior: The prior of both sides, or one each; the trainer's.
        progress: Show a progress bar, where standard error is a terminal.

    Raises:
        ValueError: If the replay leaves nothing to start from, or has fewer ratings than parts.

    Cost: a `fit` a part, which is nearly all of it.
    """
    start = len(ratings) - int(fraction * len(ratings))
    if not 0 < start <= len(ratings) - parts:
        raise ValueError(
            f"fraction {fraction} of {len(ratings)} ratings in {parts} parts: the start and every part need a rating"
        )
    low, high = float(np.min(ratings.rating)), float(np.max(ratings.rating))
    known = ratings.take(np.asarray(order)[:start])
    stale = online = _whole(fit(known), ratings)
    errors = []
    for index in tqdm(
        np.array_split(np.asarray(order)[start:], parts), disable=None if progress else True, leave=False
    ):
        part = ratings.take(index)
        models = stale, online, _whole(fit(known), ratings)
        predicted = [np.clip(predict(model, kernel, part.user, part.item), low, high) for model in models]
        errors.append([np.sqrt(np.mean((part.rating - values) ** 2)) for values in predicted])
        known = merge(known, part)
        online = _touch(online, kernel, known, part, prior, items=items)
    seen = np.cumsum([len(index) for index in np.array_split(np.arange(len(ratings) - start), parts)])
    return Replay(seen, *np.array(errors).T)


def _whole(params: Params, ratings: Ratings) -> Params:
    """The model with a row, if only the prior mean, for everyone in the ratings."""
    return Params(resized(params.user, ratings.n_users), resized(params.item, ratings.n_items), params.offset)


def _touch(
    online: Params, kernel: Kernel, known: Ratings, part: Ratings, prior: Prior | Priors, *, items: bool
) -> Params:
    """The model with the rows that `part` touches folded in from all that is known."""
    of_users = known.take(np.isin(known.user, part.user))
    online = fold_in_users(online, kernel, of_users, prior=prior)
    if items:
        of_items = known.take(np.isin(known.item, part.item))
        online = fold_in_items(online, kernel, of_items, prior=prior)
    return online
