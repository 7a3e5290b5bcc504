"""Which ratings to train on and which to test on: index functions, each a pure function of its seed."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int, ScalarLike, Shaped

from jaxmf.data.ratings import AnyArray
from jaxmf.data.settings import check_whole


class Split(NamedTuple):
    """Positions of ratings to train on and to test on."""

    train: Int[np.ndarray, " n_train"]
    test: Int[np.ndarray, " n_test"]


class NewUsers(NamedTuple):
    """New users: train on the others, reveal the start of each new user's history, test on the rest of it."""

    train: Int[np.ndarray, " n_train"]
    reveal: Int[np.ndarray, " n_reveal"]
    test: Int[np.ndarray, " n_test"]
    users: Int[np.ndarray, " held"]


def k_fold(n: int, folds: ScalarLike = 5, *, seed: int = 0) -> list[Split]:
    """`folds` random splits of `n` ratings; every rating is tested once.

    Raises:
        ValueError: If the folds are no whole number, fewer than 2, or more than the ratings.

    Example:
        >>> [split.test.tolist() for split in k_fold(4, 2)]
        [[2, 0], [1, 3]]
    """
    folds = check_whole("folds", folds, least=2, meaning="how many parts are tested on in turn")
    if folds > n:
        raise ValueError(
            f"folds must be between 2 and the number of ratings, {n}, got {folds}: each tests at least one"
        )
    parts = np.array_split(np.random.default_rng(seed).permutation(n), folds)
    return [Split(_rest(n, test), test) for test in parts]


def hold_out(n: int, fraction: float = 0.2, *, seed: int = 0) -> Split:
    """A random `fraction` of `n` ratings to test on.

    Raises:
        ValueError: If the fraction leaves one part without ratings.
    """
    test = np.random.default_rng(seed).permutation(n)[: _size(n, fraction)]
    return Split(_rest(n, test), test)


def by_time(timestamp: Shaped[AnyArray, " n"], fraction: float = 0.2) -> Split:
    """The last `fraction` of the ratings in time to test on; ratings of one moment keep their order.

    Raises:
        ValueError: If the fraction leaves one part without ratings, or a time is missing.
    """
    _check_times(timestamp)
    order = np.argsort(timestamp, kind="stable")
    size = _size(len(order), fraction)
    return Split(order[:-size], order[-size:])


def leave_last_n(user: Int[AnyArray, " n"], timestamp: Shaped[AnyArray, " n"], count: ScalarLike = 1) -> Split:
    """Each user's last `count` ratings to test on; users with no more than that many stay in training whole.

    Raises:
        ValueError: If `count` is no whole number of 1 or more, or a time is missing.
    """
    count = check_whole("count", count, least=1, meaning="how many ratings of each user are tested on")
    _check_times(timestamp)
    order = np.lexsort((timestamp, user))
    position, total = _position(user[order])
    last = (position >= total - count) & (total > count)
    return Split(np.sort(order[~last]), np.sort(order[last]))


def new_users(
    user: Int[AnyArray, " n"],
    item: Int[AnyArray, " n"],
    timestamp: Shaped[AnyArray, " n"],
    fraction: float = 0.2,
    *,
    at_most: ScalarLike = 50,
    seed: int = 0,
) -> NewUsers:
    """Hold out a random `fraction` of the users and reveal each one's first min(`at_most`, half) ratings.

    A history runs in order of (timestamp, item).

    Raises:
        ValueError: If the fraction leaves no user to train on or none to hold out, `at_most` is no whole number of 0 or
            more, or a time is missing.
    """
    at_most = check_whole("at_most", at_most, least=0, meaning="how many ratings of a new user are revealed")
    _check_times(timestamp)
    ids = np.unique(user)
    held = np.sort(ids[np.random.default_rng(seed).permutation(len(ids))[: _size(len(ids), fraction)]])
    order = np.lexsort((item, timestamp, user))
    position, total = _position(user[order])
    new = np.isin(user[order], held)
    shown = new & (position < np.minimum(at_most, total // 2))
    return NewUsers(np.sort(order[~new]), order[shown], order[new & ~shown], held)


def _position(user: Int[AnyArray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Position of each rating in its user's history and the history's length, for ratings grouped by user."""
    _, start, inverse, count = np.unique(user, return_index=True, return_inverse=True, return_counts=True)
    return np.arange(len(user)) - start[inverse], count[inverse]


def _rest(n: int, test: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(n), test)


def _size(n: int, fraction: float) -> int:
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction must be between 0 and 1, got {fraction}: it is the share tested on, at least one on either side"
        )
    size = int(fraction * n)
    if not 0 < size < n:
        raise ValueError(f"fraction {fraction} of {n} is {size}: it must leave at least one on either side")
    return size


def _check_times(timestamp: Shaped[AnyArray, " n"]) -> None:
    times = np.asarray(timestamp)
    missing = pd.isna(times)
    if missing.any():
        at = int(missing.argmax())
        raise ValueError(f"time {times[at]} of rating {at}: a split by time needs every rating's; drop or mend it")
