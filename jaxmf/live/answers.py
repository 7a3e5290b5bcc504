"""What a living model answers, of one user at a time, in ids and plain numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxmf.data.histories import rung
from jaxmf.data.ratings import Ratings
from jaxmf.data.settings import check_whole
from jaxmf.live.events import Id
from jaxmf.live.state import State
from jaxmf.model.posterior import Posterior
from jaxmf.online.fold_in import fold_in_user
from jaxmf.serving import models, neighbours, shapes
from jaxmf.serving.explain import explain
from jaxmf.serving.layered import Layered
from jaxmf.serving.recommend import TopN


class Unknown(ValueError):  # noqa: N818 what it is, as `FileExistsError` says it
    """An id of which the model knows nothing, where that leaves nothing to answer."""


class Scored(NamedTuple):
    """An item and its score: a predicted rating, or how near it is to another item."""

    item: Id
    score: float


class Predicted(NamedTuple):
    """An item, the rating that is predicted, and the standard deviation of a rating about that, noise included.

    Of clicks, most of whose zeros were not observed, there is none.
    """

    item: Id
    rating: float
    std: float | None


class Reason(NamedTuple):
    """A rating of the user, and how much it pulls a prediction up or down."""

    item: Id
    rating: float
    contribution: float


def best(state: State, user: Id, n: int, *, exclude_seen: bool) -> list[Scored]:
    """The `n` items with the highest predictions for a user, known or not."""
    row = state.user.ids.row.get(user, -1)
    rows = np.array([row], np.int32)
    seen = state.user.ledger.ratings(rows, len(state.item.ids.of_row)) if row >= 0 and exclude_seen else None
    return _list(state, state.shown(), rows, n, seen)


def of_ratings(state: State, ratings: Mapping[Id, float], n: int) -> list[Scored]:
    """The `n` best items for somebody of whom nothing is known but these ratings, and nothing is kept.

    Raises:
        Unknown: If an item is not known.
        ValueError: If a rating is outside the scale.
    """
    rows = _known(state, list(ratings))
    given = np.fromiter(ratings.values(), np.float32, len(ratings))
    alone = fold_in_user(state.model, rows, given)
    shown = state.shown()
    one = np.zeros(len(rows), np.int32)
    seen = Ratings(one, rows, given, np.ones_like(given), n_users=1, n_items=len(state.item.ids.of_row))
    layered = shown.replace(model=shown.model.with_strangers(alone.params.user))
    return _list(state, layered, np.zeros(1, np.int32), n, seen)


def predicted(state: State, user: Id, items: Sequence[Id]) -> list[Predicted]:
    """What a user would rate these items; who or what is unknown stands at the prior mean."""
    row = state.user.ids.row.get(user, -1)
    rows = np.array([state.item.ids.row.get(item, -1) for item in items], np.int32)
    users = np.full(len(rows), row, np.int32)
    rating = np.clip(models.predict(state.layered(), users, rows), *state.scale)
    std = [None] * len(items) if state.clicked else _std(state, users, rows).tolist()
    return [Predicted(*one) for one in zip(items, rating.tolist(), std, strict=True)]


def reasons(state: State, user: Id, item: Id) -> list[Reason]:
    """Each rating of a user by what it contributes to the prediction of an item, the largest first.

    Raises:
        Unknown: If either is not known.
        ValueError: If the model is a posterior.
    """
    row = state.user.ids.row.get(user)
    if row is None:
        raise Unknown(f"user {user!r:.80} is not known: there is no rating that could be a reason")
    (at,) = _known(state, [item])
    theirs = state.of_users([row])
    why = explain(state.model, theirs, int(at)).contribution
    order = np.argsort(-why, kind="stable")
    ids = state.item.ids.of_row
    return [Reason(ids[theirs.item[one]], float(theirs.rating[one]), float(why[one])) for one in order]


def alike(state: State, item: Id, n: int) -> list[Scored]:
    """The `n` items nearest to one by their factors.

    Raises:
        Unknown: If the item is not known.
        ValueError: If the model is a posterior.
    """
    n = _length(state, n)
    hidden = np.flatnonzero(state.hidden)
    found = neighbours.similar_items(state.model, _known(state, [item]), n=rung(n), exclude=hidden)
    return _scored(state, found)[:n]


def _list(state: State, layered: Layered, rows: Int[np.ndarray, " 1"], n: int, seen: Ratings | None) -> list[Scored]:
    return _scored(state, shapes.best(layered, rows, n=_length(state, n), seen=seen))


def _length(state: State, n: int) -> int:
    """How many items a list of `n` has at most."""
    return min(check_whole("n", n, least=1, meaning="the length of the list"), max(1, len(state.item.ids.row)))


def _scored(state: State, found: TopN) -> list[Scored]:
    shown, ids = np.isfinite(found.score[0]), state.item.ids.of_row
    pairs = zip(found.item[0][shown].tolist(), found.score[0][shown].tolist(), strict=True)
    return [Scored(ids[item], score) for item, score in pairs]


def _known(state: State, items: Sequence[Id]) -> Int[np.ndarray, " n"]:
    """Rows of items.

    Raises:
        Unknown: With the first that is not known.
    """
    rows = [state.item.ids.row.get(item, -1) for item in items]
    if -1 in rows:
        raise Unknown(f"item {items[rows.index(-1)]!r:.80} is not known: leave it out, or tell of a rating of it")
    return np.array(rows, np.int32)


def _std(state: State, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    if isinstance(state.model, Posterior):
        return models.spread(state.layered(), user, item)
    spare = len(state.user.ids.of_row), len(state.item.ids.of_row)  # a stranger's: a row without ratings
    user, item = (np.where(rows < 0, row, rows) for rows, row in zip((user, item), spare, strict=True))
    return models.std(state.model, state, state.noise, user, item)
