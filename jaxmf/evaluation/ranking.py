"""How good lists of recommendations are: binary relevance, cut at n, on the device and in blocks of users."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, ScalarLike
from numpy.typing import ArrayLike

from jaxmf.data.ratings import AnyArray, Ratings

USERS = 65_536
"""Most users a block."""


class PerUser(NamedTuple):
    """A list's quality, a number a user; only of users who have something relevant held out.

    With g_j = 1 where the item at place j of the list is relevant, else 0, and R relevant items held out in all:

    Attributes:
        user: Which users they are.
        recall: Σ g_j / R.
        precision: Σ g_j / n, however short the list.
        ndcg: Σ g_j/log₂(j + 1), over the same of the best list there could be.
        average_precision: Σ g_j · (Σ_{i ≤ j} g_i)/j / R; its mean is MAP.
        reciprocal_rank: 1/j of the first relevant item, else 0; its mean is MRR.
        hit: 1 where anything in the list is relevant, else 0; its mean is the hit rate.
    """

    user: Int[np.ndarray, " users"]
    recall: Float[np.ndarray, " users"]
    precision: Float[np.ndarray, " users"]
    ndcg: Float[np.ndarray, " users"]
    average_precision: Float[np.ndarray, " users"]
    reciprocal_rank: Float[np.ndarray, " users"]
    hit: Float[np.ndarray, " users"]


class Ranking(NamedTuple):
    """Means over users.

    Attributes:
        users: How many users had something relevant held out; the others are left out.
        recall: Share of the relevant items that are in the list.
        precision: Share of the list that is relevant.
        ndcg: Normalised discounted cumulative gain.
        map: Mean average precision.
        mrr: Mean reciprocal rank of the first relevant item.
        hit_rate: Share of users with anything relevant in their list.
    """

    users: int
    recall: float
    precision: float
    ndcg: float
    map: float
    mrr: float
    hit_rate: float


def ranking(
    top: Int[AnyArray, "users n"],
    held_out: Ratings,
    *,
    threshold: ScalarLike = -np.inf,
    n: int | None = None,
    users: Int[AnyArray, " b"] | None = None,
) -> Ranking:
    """Recall, precision, NDCG, MAP, MRR and hit rate of lists at n: means of `per_user`, whose arguments they are.

    NaN where nobody has anything relevant held out.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> held_out = Ratings(np.array([0, 0]), np.array([4, 2]), 5 * one, one, n_users=2, n_items=6)
        >>> found = ranking(np.array([[4, 1], [0, 1]]), held_out)
        >>> found.users, found.recall, found.mrr
        (1, 0.5, 1.0)
    """
    found = per_user(top, held_out, threshold=threshold, n=n, users=users)
    if not len(found.user):
        return Ranking(0, *[np.nan] * 6)
    return Ranking(len(found.user), *(float(np.mean(values, dtype=np.float64)) for values in found[1:]))


def per_user(
    top: Int[AnyArray, "users n"],
    held_out: Ratings,
    *,
    threshold: ScalarLike = -np.inf,
    n: int | None = None,
    users: Int[AnyArray, " b"] | None = None,
) -> PerUser:
    """What `ranking` takes the means of, user by user.

    Users with nothing relevant held out have no defined recall and are left out.

    Args:
        top: Item rows, best first, a list a user, such as `jaxmf.recommend.top_n(…).item`. A list may be shorter: what
            is past the item table's end is padding.
        held_out: Ratings that the lists have not seen; those of weight 0 are padding.
        threshold: Ratings from here on count as relevant; else all.
        n: Where to cut the lists; else their length.
        users: User row of each list; else the lists are those of users 0, 1, 2 and so on.

    Raises:
        ValueError: If `n` is out of range, a list has an item twice, or there is not a user a list.

    Cost: a binary search of a user's relevant items for each place of the list; memory linear in lists and ratings.
    """
    top = np.asarray(top)
    length = top.shape[1]
    depth = length if n is None else n
    if not 1 <= depth <= length:
        raise ValueError(f"n must be between 1 and the lists' length, {length}, got {n}")
    users = np.arange(len(top)) if users is None else np.asarray(users)
    if len(users) != len(top):
        raise ValueError(f"{len(users)} users of {len(top)} lists: give one user a list")
    top = top[:, :depth]
    _check_lists(top, held_out.n_items)
    relevant, start = _relevant(held_out, threshold, int(users.max(initial=-1)) + 2)
    judged = np.flatnonzero(start[users + 1] > start[users])
    steps = int(np.diff(start).max(initial=0)).bit_length()
    found = [
        _judge(top[block], start[users[block]], start[users[block] + 1], relevant, steps)
        for block in np.split(judged, range(USERS, len(judged), USERS))
        if len(block)
    ]
    columns = [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*found, strict=True)]
    return PerUser(users[judged], *(columns or [np.zeros(0, np.float32)] * 6))


def catalogue_coverage(top: Int[AnyArray, "users n"], n_items: int) -> float:
    """Share of the catalogue that is in anybody's list.

    Example:
        >>> catalogue_coverage(np.array([[0, 1], [1, 2]]), 6)
        0.5
    """
    return int(np.count_nonzero(_times_listed(top, n_items))) / n_items


def novelty(top: Int[AnyArray, "users n"], train: Ratings) -> float:
    """Mean self-information of what is listed, −log₂ of the share of users who rated the item, in bits.

    An item that nobody rated counts as rated by one (Castells, Hurley & Vargas 2015). NaN where nothing is listed.

    Example:
        >>> one = np.ones(3, np.float32)
        >>> train = Ratings(np.array([0, 1, 1]), np.array([0, 0, 1]), one, one, n_users=2, n_items=3)
        >>> novelty(np.array([[0], [1]]), train)
        0.5
    """
    times = _times_listed(top, train.n_items)
    counted = np.asarray(train.item)[np.asarray(train.weight) > 0]
    raters = np.maximum(np.bincount(counted, minlength=train.n_items), 1)
    return float(times @ -np.log2(raters / train.n_users) / times.sum()) if times.any() else np.nan


@partial(jax.jit, static_argnames="steps")
def _judge(
    top: Int[Array, "b n"], start: Int[Array, " b"], end: Int[Array, " b"], relevant: Int[Array, " m"], steps: int
) -> tuple[Float[Array, " b"], ...]:
    """The six numbers of each list; its user's relevant items are `relevant[start:end]`, ascending."""
    n = top.shape[1]
    gain = _contains(relevant, start[:, None], end[:, None], top, steps).astype(jnp.float32)
    place = jnp.arange(1, n + 1, dtype=jnp.float32)
    total = (end - start).astype(jnp.float32)
    discount = 1 / jnp.log2(place + 1)
    ideal = jnp.cumsum(discount)[jnp.minimum(end - start, n) - 1]
    hits = gain.sum(1)
    precisions = jnp.cumsum(gain, 1) / place[None]
    first = jnp.where(hits > 0, 1 / (1 + jnp.argmax(gain, 1).astype(jnp.float32)), 0)
    return (
        hits / total,
        hits / n,
        (gain * discount[None]).sum(1) / ideal,
        (gain * precisions).sum(1) / total,
        first,
        jnp.minimum(hits, 1),
    )


def _contains(
    values: Int[Array, " m"], start: Int[Array, "b 1"], end: Int[Array, "b 1"], wanted: Int[Array, "b n"], steps: int
) -> Bool[Array, "b n"]:
    """Whether each of `wanted` is in its row's part of `values`, from `start` to `end`, ascending: by bisection.

    It takes as many steps as the longest part's length has bits.
    """

    def halve(_: ScalarLike, bounds: tuple) -> tuple:
        low, high = bounds
        middle = (low + high) // 2
        below = (low < high) & (values[middle] < wanted)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    low, high = (jnp.broadcast_to(x, wanted.shape) for x in (start, end))
    at, _ = lax.fori_loop(0, steps, halve, (low, high))
    return (at < end) & (values[jnp.minimum(at, values.shape[0] - 1)] == wanted)


def _relevant(held_out: Ratings, threshold: ScalarLike, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Relevant items by user, ascending, each once, and where each user's begin."""
    user, item, rating, weight = map(np.asarray, (held_out.user, held_out.item, held_out.rating, held_out.weight))
    kept = (rating >= threshold) & (weight > 0)
    pair = np.sort(user[kept].astype(np.int64) * held_out.n_items + item[kept])
    user, item = np.divmod(pair[np.diff(pair, prepend=-1) > 0], held_out.n_items)
    return item.astype(np.int32), np.searchsorted(user, np.arange(size)).astype(np.int32)


def _check_lists(top: np.ndarray, n_items: int) -> None:
    if top.min(initial=0) < 0:
        raise ValueError(f"item row {top.min()}: rows are 0 or more; pad a short list with the number of items")
    ordered = np.sort(top, 1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] < n_items)
    if twice.any():
        raise ValueError(f"item row {ordered[:, 1:][twice][0]} is twice in one list: list an item once")


def _times_listed(top: ArrayLike, n_items: int) -> Int[np.ndarray, " items"]:
    rows = np.asarray(top).ravel()
    return np.bincount(rows[rows < n_items], minlength=n_items)
