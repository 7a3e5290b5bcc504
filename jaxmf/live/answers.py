"""What a living model answers, to one question or to several at once, in ids and plain numbers."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxmf.data.histories import rung
from jaxmf.data.ratings import Ratings
from jaxmf.data.settings import check_whole
from jaxmf.live.events import Id
from jaxmf.live.state import State
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.model.tables import Table
from jaxmf.online.fold_in import fold_in_user, fold_in_users
from jaxmf.serving import models, neighbours, shapes
from jaxmf.serving.explain import explain
from jaxmf.serving.layered import Layered, zeros
from jaxmf.serving.recommend import TopN


class Unknown(ValueError):  # noqa: N818 what it is, as `FileExistsError` says it
    """An id of which the model knows nothing, where that leaves nothing to answer."""


class Scored(NamedTuple):
    """An item and its score: how near it is to another item, or what it is ranked by for a user.

    That is the rating which the user's row predicts, without their mood and not clipped.
    """

    item: Id
    score: float


class Predicted(NamedTuple):
    """An item, the rating that is predicted, and the standard deviation of a rating about that, noise included.

    Of clicks, most of whose zeros were not observed, there is none.
    """

    item: Id
    rating: float
    std: float | None


class Rated(NamedTuple):
    """An item, and the rating and weight that a user gave it."""

    item: Id
    rating: float
    weight: float


class Counts(NamedTuple):
    """The ids of items, `None` where one has gone, and how many ratings each has."""

    ids: list[Id | None]
    ratings: Int[np.ndarray, " items"]


class About(NamedTuple):
    """What a model is.

    Attributes:
        users: How many users there are.
        items: How many items.
        ratings: How many ratings, or pairs that were clicked.
        batches: How many batches of events it has learnt.
        clicked: Whether it is of clicks.
        explains: Whether it can give reasons.
        low: The smallest rating seen.
        high: The largest.
        user_ids: What ids of users are, "int" or "str"; `None` where none is known yet.
        item_ids: Those of items.
    """

    users: int
    items: int
    ratings: int
    batches: int
    clicked: bool
    explains: bool
    low: float
    high: float
    user_ids: str | None
    item_ids: str | None


class Reason(NamedTuple):
    """A rating of the user, and how much it pulls a prediction up or down."""

    item: Id
    rating: float
    contribution: float


AT_ONCE = 16
"""Most questions that one program answers."""

RATINGS, PAIRS = 4096, 128
"""Most ratings, or pairs of user and item, that questions answered together are about."""

SHORT = 16
"""Least length of the lists that are made, and cut: each length is a program."""


def best(state: State, asked: Sequence[tuple[Id, int]], *, exclude_seen: bool = True) -> list[list[Scored]]:
    """For each user, known or not, and `n`, the items with the highest predictions."""
    spare, n_items = len(state.user.ids.of_row), len(state.item.ids.of_row)
    rows = state.user.ids.rows(user for user, _ in asked)
    theirs = np.where(rows < 0, spare, rows)
    shown, found = state.shown(), []
    for part in parts(state.user.ledger.count[theirs] if exclude_seen else np.zeros(len(rows), int), RATINGS):
        seen = state.user.ledger.ratings(theirs[part], n_items) if exclude_seen else None
        found += _lists(state, shown, rows[part], [n for _, n in asked[part]], seen)
    return found


def of_ratings(state: State, asked: Sequence[tuple[Mapping[Id, float], int]]) -> list[list[Scored]]:
    """For each of whom nothing is known but some ratings, and `n`, the best items; nothing is kept.

    Raises:
        Unknown: If an item is not known.
        ValueError: If a rating is outside the scale.
    """
    given = [(_known(state, list(ratings)), list(ratings.values())) for ratings, _ in asked]
    shown, found = state.shown(), []
    most = 0 if isinstance(state.model, Posterior) else RATINGS  # whose draws are those of a row that is alone
    for part in parts([len(rows) for rows, _ in given], most):
        seen = _of_strangers(given[part], len(state.item.ids.of_row))
        layered = shown.replace(model=shown.model.with_strangers(strangers(state.model, seen)))
        rows = np.arange(len(given[part]), dtype=np.int32)
        found += _lists(state, layered, rows, [n for _, n in asked[part]], seen)
    return found


def strangers(model: Model | Posterior, given: Ratings) -> Table:
    """The rows of users of whom nothing is known but these ratings."""
    if given.n_users == 1:
        return fold_in_user(model, given.item, given.rating).params.user
    alone = model.with_users(zeros(model, given.n_users))
    return fold_in_users(alone, given, users=np.arange(given.n_users)).params.user


def predicted(state: State, asked: Sequence[tuple[Id, Sequence[Id]]]) -> list[list[Predicted]]:
    """What users would rate items; who or what is unknown stands at the prior mean."""
    found = []
    for part in parts([len(items) for _, items in asked], PAIRS):
        pairs = [(user, item) for user, items in asked[part] for item in items]
        users = state.user.ids.rows(user for user, _ in pairs)
        rows = state.item.ids.rows(item for _, item in pairs)
        rating = expected(state, users, rows).tolist()
        std = [None] * len(pairs) if state.clicked else spread(state, users, rows).tolist()
        each = (Predicted(*one) for one in zip([item for _, item in pairs], rating, std, strict=True))
        found += [list(itertools.islice(each, len(items))) for _, items in asked[part]]
    return found


def expected(state: State, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The ratings that are expected next of pairs of rows, on the scale; −1 stands for who or what is unknown."""
    return np.clip(models.predict(state.layered(), user, item) + state.mood.expected(user), *state.scale)


def spread(state: State, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Standard deviations of ratings about these, noise included."""
    if isinstance(state.model, Posterior):
        return models.spread(state.layered(), user, item)
    spare = len(state.user.ids.of_row), len(state.item.ids.of_row)  # a stranger's: a row without ratings
    user, item = (np.where(rows < 0, row, rows) for rows, row in zip((user, item), spare, strict=True))
    return models.std(state.model, state, state.noise, user, item)


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


def rated(state: State, user: Id) -> list[Rated]:
    """A user's ratings, by item in the order in which items came; of somebody unknown there are none."""
    row, ids = state.user.ids.row.get(user), state.item.ids.of_row
    theirs = [] if row is None else state.user.ledger.of(row).tolist()
    return [Rated(ids[item], rating, weight) for item, rating, weight in theirs]


def counts(state: State, items: Sequence[Id] | None = None) -> Counts:
    """Some items, or all, and how many ratings each has."""
    if items is None:
        ids = list(state.item.ids.of_row)
        return Counts(ids, state.item.ledger.count[: len(ids)].copy())
    rows = state.item.ids.rows(items)
    return Counts(list(items), np.where(rows < 0, 0, state.item.ledger.count[rows]))


def about(state: State) -> About:
    """What the model is."""
    user, item = state.user, state.item
    sizes = len(user.ids.row), len(item.ids.row), len(user.ledger), state.batch
    low, high = map(float, state.scale)
    explains = not isinstance(state.model, Posterior)
    return About(*sizes, state.clicked, explains, low, high, user.ids.kind, item.ids.kind)


def alike(state: State, item: Id, n: int) -> list[Scored]:
    """The `n` items nearest to one by their factors.

    Raises:
        Unknown: If the item is not known.
        ValueError: If the model is a posterior.
    """
    n = _length(state, n)
    hidden = np.flatnonzero(state.hidden)
    found = neighbours.similar_items(state.model, _known(state, [item]), n=rung(max(SHORT, n)), exclude=hidden)
    return _scored(state, found)[:n]


def parts(sizes: Iterable[int], most: int) -> Iterator[slice]:
    """Consecutive questions that are answered together: of at most so much in sum, where they are several.

    Example:
        >>> list(parts([3, 3, 3, 9], 6))
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    start, total, at = 0, 0, 0
    for at, size in enumerate(sizes, 1):
        if at - 1 > start and (at - start > AT_ONCE or total + size > most):
            yield slice(start, at - 1)
            start, total = at - 1, 0
        total += int(size)
    if start < at:
        yield slice(start, at)


def places(questions: int) -> int:
    """Places of the program for so many questions, of which there are two: for one, and for all that go together.

    Example:
        >>> places(1), places(2), places(16)
        (1, 16, 16)
    """
    return AT_ONCE if questions > 1 else 1


def _of_strangers(given: Sequence[tuple[Int[np.ndarray, " n"], Sequence[float]]], n_items: int) -> Ratings:
    """Items and ratings of each as ratings, with a place for each."""
    user = np.repeat(np.arange(len(given), dtype=np.int32), [len(rows) for rows, _ in given])
    rating = np.array([one for _, ratings in given for one in ratings], np.float32)
    item = np.concatenate([rows for rows, _ in given])
    return Ratings(user, item, rating, np.ones_like(rating), n_users=places(len(given)), n_items=n_items)


def _lists(
    state: State, layered: Layered, rows: Int[np.ndarray, " b"], lengths: Sequence[int], seen: Ratings | None
) -> list[list[Scored]]:
    lengths = [_length(state, n) for n in lengths]
    padded = np.pad(rows, (0, places(len(rows)) - len(rows)), constant_values=-1)
    found = shapes.best(layered, padded, n=max(SHORT, *lengths), seen=seen)
    return [_scored(state, found, row)[:n] for row, n in enumerate(lengths)]


def _length(state: State, n: int) -> int:
    """How many items a list of `n` has at most."""
    return min(check_whole("n", n, least=1, meaning="the length of the list"), max(1, len(state.item.ids.row)))


def _scored(state: State, found: TopN, row: int = 0) -> list[Scored]:
    shown, ids = np.isfinite(found.score[row]), state.item.ids.of_row
    pairs = zip(found.item[row][shown].tolist(), found.score[row][shown].tolist(), strict=True)
    return [Scored(ids[item], score) for item, score in pairs]


def _known(state: State, items: Sequence[Id]) -> Int[np.ndarray, " n"]:
    """Rows of items.

    Raises:
        Unknown: With the first that is not known.
    """
    rows = state.item.ids.rows(items)
    if (rows < 0).any():
        raise Unknown(f"item {items[int(rows.argmin())]!r:.80} is not known: leave it out, or tell of a rating of it")
    return rows
