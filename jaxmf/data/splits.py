"""Which ratings to train on and which to test on: index functions, each a pure function of its seed."""

import contextlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, ScalarLike, Shaped
from numpy.typing import ArrayLike

from jaxmf.data.arrays import Column, check_lengths, to_rows, to_times
from jaxmf.data.ids import numbered
from jaxmf.data.ratings import AnyArray, Dataset, Ratings, check
from jaxmf.data.settings import check_number, check_whole

Count = Any
"""A number of ratings, or what has one a row."""


class Split(NamedTuple):
    """Positions of ratings to train on and to test on."""

    train: Int[np.ndarray, " n_train"]
    test: Int[np.ndarray, " n_test"]


class NewUsers(NamedTuple):
    """New users: train on the others, reveal a part of each new user's history, test on the rest of it."""

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


def strong_generalisation(
    user: Column, item: Column, fraction: float = 0.2, *, revealed: float = 0.8, seed: int = 0
) -> NewUsers:
    """Hold out a random `fraction` of the users and reveal a random share of each one's items, 0.8 of them.

    It is how a fold-in without ratings is tested (Marlin 2004; Liang et al. 2018, *Variational autoencoders for
    collaborative filtering*): of n items ⌈`revealed`·n⌉ are revealed, so that with 0.8 a user of fewer than 5 is tested
    on none. What a user did with one item is revealed whole or tested whole. Items that nobody has in training stay,
    which Liang et al. leave out.

    Raises:
        ValueError: If the fraction leaves no user to train on or none to hold out, `revealed` is not between 0 and 1,
            an id is missing, or there is not one a rating.

    Example:
        >>> split = strong_generalisation(["a"] * 5 + ["b"] * 5, [*range(5)] * 2, 0.5)
        >>> split.users, split.reveal, split.test
        (array(['a'], dtype=object), array([0, 1, 2, 3]), array([4]))
    """
    meaning = "the share of a user's items that is revealed"
    share = check_number("revealed", revealed, rule="between 0 and 1", meaning=meaning)
    if not 0 < share < 1:
        raise ValueError(f"revealed must be between 0 and 1, got {revealed}: it is {meaning}")
    (user, users), (item, _) = numbered(user, "user"), numbered(item, "item")
    check_lengths({"user": user, "item": item})
    random = _generator(seed)
    held = np.sort(random.permutation(len(users))[: _size(len(users), fraction)])
    pair, of_pair = np.unique(user.astype(np.int64) << 32 | item, return_inverse=True)
    owner = pair >> 32
    order = np.lexsort((random.random(len(pair)), owner))
    position, total = np.empty((2, len(pair)), np.int64)
    position[order], total[order] = _position(owner[order])
    shown = (position < np.ceil(np.round(share * total, 9)))[of_pair]  # 0.8·5 is 4, and not a little more
    new = np.isin(user, held)
    train, reveal, test = map(np.flatnonzero, (~new, new & shown, new & ~shown))
    return NewUsers(train, reveal, test, users.decode(held))


def sampled_negatives(
    ratings: Ratings, users: ArrayLike, *, count: ScalarLike = 100, seed: int = 0
) -> Int[np.ndarray, "users count"]:
    """Items that each user never interacted with, drawn at random and each once, among which one held out is ranked.

    With `leave_last_n(user, timestamp, 1)` and `jaxmf.ranking.among_negatives` it is the protocol of He et al. 2017,
    *Neural collaborative filtering*. It is here to compare with what was published so: its numbers are biased, they are
    not those of a ranking of all items, and can order models otherwise (Krichene & Rendle 2020, *On sampled metrics for
    item recommendation*). To choose a model, rank all items.

    Args:
        ratings: All of the users' interactions, those held out too; those of weight 0 are padding.
        users: User rows.
        count: Items a user. Where a user left fewer, all these, and then padding: the number of items.
        seed: Seed of the draws. A user's are the same whoever else is asked for.

    Raises:
        ValueError: If a user is not among those of the ratings, or `count` is no whole number of 1 or more.

    Cost: O(`count` + log n) a user and the sorting of the ratings.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> seen = Ratings(np.array([0, 0]), np.array([1, 3]), one, one, n_users=2, n_items=4)
        >>> np.sort(sampled_negatives(seen, [0, 1], count=3))
        array([[0, 2, 4],
               [1, 2, 3]], dtype=int32)
    """
    check(ratings)
    count = check_whole("count", count, least=1, meaning="how many items are drawn for each user")
    users = to_rows(users, "user")
    outside = (users < 0) | (users >= ratings.n_users)
    if outside.any():
        raise ValueError(f"user row {users[outside][0]} is not among the {ratings.n_users} users of the ratings")
    counts = np.asarray(ratings.weight) > 0
    pair = np.unique(np.asarray(ratings.user)[counts].astype(np.int64) << 32 | np.asarray(ratings.item)[counts])
    start = np.searchsorted(pair, np.arange(ratings.n_users + 1) << 32)
    found = np.full((len(users), count), ratings.n_items, np.int32)
    for row, user in zip(found, users.tolist(), strict=True):
        seen = pair[start[user] : start[user + 1]] & 0xFFFFFFFF
        left = ratings.n_items - len(seen)
        drawn = _generator(seed, user).choice(left, min(count, left), replace=False)
        row[: len(drawn)] = drawn + np.searchsorted(seen - np.arange(len(seen)), drawn, "right")
    return found


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


def _generator(seed: int, *row: int) -> np.random.Generator:
    """What draws; a `row` has one of its own."""
    seed = check_whole("seed", seed, least=0, meaning="the seed of all that is random")
    return np.random.default_rng([seed, *row] if row else seed)


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
