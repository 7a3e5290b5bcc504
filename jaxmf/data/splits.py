"""Which ratings to train on and which to test on: index functions, each a pure function of its seed."""

import contextlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, ScalarLike, Shaped

from jaxmf.data.arrays import Column, check_lengths, to_times
from jaxmf.data.ids import numbered
from jaxmf.data.ratings import AnyArray, Dataset, Ratings
from jaxmf.data.settings import check_number, check_whole

Count = Any
"""A number of ratings, or what has one a row."""


class Split(NamedTuple):
    """Positions of ratings to train on and to test on."""

    train: Int[np.ndarray, " n_train"]
    test: Int[np.ndarray, " n_test"]


class NewUsers(NamedTuple):
    """New users: train on the others, reveal the start of each new user's history, test on the rest of it."""

    train: Int[np.ndarray, " n_train"]
    reveal: Int[np.ndarray, " n_reveal"]
    test: Int[np.ndarray, " n_test"]
    users: Shaped[np.ndarray, " held"]


def k_fold(n: Count, folds: ScalarLike = 5, *, seed: int = 0) -> list[Split]:
    """`folds` random splits of `n` ratings; every rating is tested once.

    Args:
        n: The number of ratings, or what has one a row: a frame, a column, ratings or a data set.
        folds: How many parts are tested on in turn.
        seed: Seed of the shuffle.

    Raises:
        ValueError: If the folds are no whole number, fewer than 2, or more than the ratings.

    Example:
        >>> [split.test.tolist() for split in k_fold(4, 2)]
        [[2, 0], [1, 3]]
    """
    n = _count(n)
    folds = check_whole("folds", folds, least=2, meaning="how many parts are tested on in turn")
    if folds > n:
        raise ValueError(
            f"folds must be between 2 and the number of ratings, {n}, got {folds}: each tests at least one"
        )
    parts = np.array_split(_generator(seed).permutation(n), folds)
    return [Split(_rest(n, test), test) for test in parts]


def hold_out(n: Count, fraction: float = 0.2, *, seed: int = 0) -> Split:
    """A random `fraction` of `n` ratings to test on; `n` as in `k_fold`.

    Raises:
        ValueError: If the fraction leaves one part without ratings.

    Example:
        >>> hold_out(5, 0.4).test.tolist()
        [2, 4]
    """
    n = _count(n)
    test = _generator(seed).permutation(n)[: _size(n, fraction)]
    return Split(_rest(n, test), test)


def by_time(timestamp: Column, fraction: float = 0.2) -> Split:
    """The last `fraction` of the ratings in time to test on; ratings of one moment keep their order.

    Raises:
        ValueError: If the fraction leaves one part without ratings, or a time is missing.

    Example:
        >>> by_time([30, 10, 20], 0.34).test.tolist()
        [0]
    """
    order = np.argsort(_times(timestamp), kind="stable")
    size = _size(len(order), fraction)
    return Split(order[:-size], order[-size:])


def leave_last_n(user: Column, timestamp: Column, count: ScalarLike = 1) -> Split:
    """Each user's last `count` ratings to test on; users with no more than that many stay in training whole.

    Raises:
        ValueError: If `count` is no whole number of 1 or more, a user or time is missing, or there is not one a rating.

    Example:
        >>> leave_last_n(["ann", "bob", "ann"], [2, 9, 1]).test.tolist()
        [0]
    """
    count = check_whole("count", count, least=1, meaning="how many ratings of each user are tested on")
    (user, _), timestamp = numbered(user, "user"), _times(timestamp)
    check_lengths({"user": user, "timestamp": timestamp})
    count = min(count, len(user))
    order = np.lexsort((timestamp, user))
    position, total = _position(user[order])
    last = (position >= total - count) & (total > count)
    return Split(np.sort(order[~last]), np.sort(order[last]))


def new_users(
    user: Column,
    item: Column,
    timestamp: Column,
    fraction: float = 0.2,
    *,
    at_most: ScalarLike = 50,
    seed: int = 0,
) -> NewUsers:
    """Hold out a random `fraction` of the users and reveal each one's first min(`at_most`, half) ratings.

    A history runs in order of (timestamp, item).

    Raises:
        ValueError: If the fraction leaves no user to train on or none to hold out, `at_most` is no whole number of 0 or
            more, an id or time is missing, or there is not one a rating.

    Example:
        >>> new_users(["a", "a", "b", "b"], [1, 2, 1, 2], [5, 4, 3, 2], 0.5).reveal.tolist()
        [1]
    """
    at_most = check_whole("at_most", at_most, least=0, meaning="how many ratings of a new user are revealed")
    (user, users), (item, _), timestamp = numbered(user, "user"), numbered(item, "item"), _times(timestamp)
    check_lengths({"user": user, "item": item, "timestamp": timestamp})
    held = np.sort(_generator(seed).permutation(len(users))[: _size(len(users), fraction)])
    order = np.lexsort((item, timestamp, user))
    position, total = _position(user[order])
    new = np.isin(user[order], held)
    shown = new & (position < np.minimum(at_most, total // 2))
    return NewUsers(np.sort(order[~new]), order[shown], order[new & ~shown], users.decode(held))


def _position(user: Int[AnyArray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Position of each rating in its user's history and the history's length, for ratings grouped by user."""
    _, start, inverse, count = np.unique(user, return_index=True, return_inverse=True, return_counts=True)
    return np.arange(len(user)) - start[inverse], count[inverse]


def _rest(n: int, test: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(n), test)


def _count(n: Count) -> int:
    """How many ratings there are, by number or by what has one a row."""
    n = n.ratings if isinstance(n, Dataset) else n
    if isinstance(n, Ratings) or (hasattr(n, "__len__") and not isinstance(n, str | bytes | dict)):
        with contextlib.suppress(TypeError):  # an array without an axis, and some frames, have no length
            return len(n)
    return check_whole("n", n, least=0, meaning="the number of ratings, or a frame of them")


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(check_whole("seed", seed, least=0, meaning="the seed of all that is random"))


def _size(n: int, fraction: float) -> int:
    meaning = "the share tested on, at least one on either side"
    share = check_number("fraction", fraction, rule="between 0 and 1", meaning=meaning)
    if not 0 < share < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}: it is {meaning}")
    size = int(share * n)
    if not 0 < size < n:
        raise ValueError(f"fraction {fraction} of {n} is {size}: it must leave at least one on either side")
    return size


def _times(timestamp: Column) -> np.ndarray:
    return to_times(timestamp, use="a split by time")
