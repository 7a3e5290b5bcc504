"""How good lists of recommendations are: binary relevance, cut at n, on the device and in blocks of users.

`judgements` puts lists beside what is relevant; the measures are of these: `ranking(judgements(top.item, held_out))`.
`jaxmf.judging.full_ranking` makes the lists as well, of all items.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import lax
from jaxtyping import Array, Bool, Float, Int, ScalarLike
from numpy.typing import ArrayLike

from jaxmf.data.packing import ranges
from jaxmf.data.ratings import Ratings, check_type
from jaxmf.data.settings import check_whole
from jaxmf.evaluation.bins import EDGES, means_by_bin, profile_sizes
from jaxmf.evaluation.lists import Judgements, judgements, places, times_listed
from jaxmf.evaluation.negatives import AmongNegatives, among_negatives

__all__ = [
    "AmongNegatives",
    "Judgements",
    "PerUser",
    "Ranking",
    "among_negatives",
    "at_cuts",
    "by_popularity",
    "by_profile_size",
    "catalogue_coverage",
    "judgements",
    "novelty",
    "per_user",
    "ranking",
]

USERS = 65_536
"""Most users a block."""


class PerUser(NamedTuple):
    """A list's quality, a number a user; only of users who have something relevant held out.

    With g_j = 1 where the item at place j of the list is relevant, else 0, and R relevant items held out in all:

    Attributes:
        user: Which users they are.
        recall: Σ g_j / R.
        capped_recall: Σ g_j / min(n, R), which a list of n can bring to 1: the Recall@n of Liang et al. 2018, named as
            in BEIR (Thakur et al. 2021).
        precision: Σ g_j / n, however short the list.
        ndcg: Σ g_j/log₂(j + 1), over the same of the best list there could be.
        average_precision: Σ g_j · (Σ_{i ≤ j} g_i)/j / R; its mean is MAP.
        reciprocal_rank: 1/j of the first relevant item, else 0; its mean is MRR.
        hit: 1 where anything in the list is relevant, else 0; its mean is the hit rate.
    """

    user: Int[np.ndarray, " users"]
    recall: Float[np.ndarray, " users"]
    capped_recall: Float[np.ndarray, " users"]
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
        capped_recall: Share of the relevant items that are in the list of those that its length has room for.
        precision: Share of the list that is relevant.
        ndcg: Normalised discounted cumulative gain.
        map: Mean average precision.
        mrr: Mean reciprocal rank of the first relevant item.
        hit_rate: Share of users with anything relevant in their list.
    """

    users: int
    recall: float
    capped_recall: float
    precision: float
    ndcg: float
    map: float
    mrr: float
    hit_rate: float


def ranking(lists: Judgements) -> Ranking:
    """Recall, precision, NDCG, MAP, MRR and hit rate of lists at n: means of `per_user`.

    NaN where nobody has anything relevant held out.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> held_out = Ratings(np.array([0, 0]), np.array([4, 2]), 5 * one, one, n_users=2, n_items=6)
        >>> found = ranking(judgements([[4, 1], [0, 1]], held_out))
        >>> found.users, found.recall, found.mrr
        (1, 0.5, 1.0)
    """
    found = per_user(lists)
    if not len(found.user):
        return Ranking(0, *[np.nan] * 7)
    return Ranking(len(found.user), *(float(np.mean(values, dtype=np.float64)) for values in found[1:]))


def per_user(lists: Judgements) -> PerUser:
    """What `ranking` takes the means of, user by user.

    Users with nothing relevant held out have no defined recall and are left out.

    Cost: a binary search of a user's relevant items for each place of the list; memory linear in lists and ratings.
    """
    top, users, relevant, start = lists
    judged = np.flatnonzero(start[users + 1] > start[users])
    steps = int(np.diff(start).max(initial=0)).bit_length()
    found = [
        _judge(top[block], start[users[block]], start[users[block] + 1], relevant, steps)
        for block in np.split(judged, range(USERS, len(judged), USERS))
        if len(block)
    ]
    columns = [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*found, strict=True)]
    return PerUser(users[judged], *(columns or [np.zeros(0, np.float32)] * 7))


def at_cuts(lists: Judgements, cuts: Sequence[int] = (10, 20, 50, 100)) -> dict[str, int | float]:
    """`users`, and NDCG and capped recall of the lists cut at each of the `cuts`: {"ndcg10": …, "recall10": …, …}.

    Both are as published results for clicks have them (Liang et al. 2018): the ideal list of NDCG is cut as well, and
    recall is over min(n, relevant). NaN where nobody has anything relevant held out.

    Raises:
        ValueError: If a cut is no whole number from 1 up to the lists' length.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> held_out = Ratings(np.array([0, 0]), np.array([4, 2]), one, one, n_users=1, n_items=6)
        >>> at_cuts(judgements([[4, 1]], held_out), cuts=(1, 2))
        {'users': 1, 'ndcg1': 1.0, 'recall1': 1.0, 'ndcg2': 0.6131471991539001, 'recall2': 0.5}
    """
    length = lists.top.shape[1]
    found = {}
    for cut in cuts:
        cut = check_whole("a cut", cut, least=1, meaning="how many items of a list are looked at")  # noqa: PLW2901
        if cut > length:
            raise ValueError(f"a cut of {cut} in lists of {length} items: make the lists as long as the last cut")
        means = ranking(lists._replace(top=lists.top[:, :cut]))
        found |= {"users": means.users, f"ndcg{cut}": means.ndcg, f"recall{cut}": means.capped_recall}
    return found


def by_profile_size(lists: Judgements, train: Ratings, *, edges: Sequence[int] = EDGES) -> pd.DataFrame:
    """`ranking` by how many ratings the user has in training: a row a bin with `from`, `to`, `n` users and the means.

    Arguments as in `jaxmf.metrics.by_profile_size`.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> train = Ratings(np.array([0, 0]), np.array([0, 1]), one, one, n_users=2, n_items=4)
        >>> held_out = Ratings(np.array([0, 1]), np.array([2, 3]), one, one, n_users=2, n_items=4)
        >>> lists = judgements([[2, 3], [1, 3]], held_out)
        >>> by_profile_size(lists, train, edges=(0, 1))[["from", "n", "recall", "mrr"]]
           from  n  recall  mrr
        0     0  1     1.0  0.5
        1     1  1     1.0  1.0
    """
    found = per_user(lists)
    means = dict(zip(Ranking._fields[1:], found[1:], strict=True))
    return means_by_bin(means, profile_sizes(train, found.user), edges)


def by_popularity(lists: Judgements, train: Ratings, *, edges: Sequence[int] = EDGES) -> pd.DataFrame:
    """How well relevant items are found, by how many ratings the item has in training.

    A row a bin with `from`, `to`, `n` pairs of a list and an item relevant to its user, and their means: `recall`, the
    share that is listed, `gain`, 1/log₂(j + 1) where it is at place j, and `reciprocal_rank`, 1/j; both 0 where it is
    not. Arguments as in `by_profile_size`.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> held_out = Ratings(np.array([0, 1]), np.array([2, 3]), one, one, n_users=2, n_items=4)
        >>> train = held_out.take(np.array([0, 0]))  # two ratings of item 2, none of item 3
        >>> found = by_popularity(judgements([[0, 2], [0, 1]], held_out), train, edges=(0, 1))
        >>> found["recall"].tolist(), found["reciprocal_rank"].tolist()
        ([0.0, 1.0], [0.0, 0.5])
    """
    check_type(train, "train")
    top, users, relevant, start = lists
    count = start[users + 1] - start[users]
    of_list = np.repeat(np.arange(len(users)), count)
    item = relevant[ranges(start[users], count)]
    place = places(top, of_list, item)
    means = {"recall": 1.0 * np.isfinite(place), "gain": 1 / np.log2(place + 1), "reciprocal_rank": 1 / place}
    return means_by_bin(means, profile_sizes(train.transpose(), item), edges)


def catalogue_coverage(top: ArrayLike, n_items: int) -> float:
    """Share of the catalogue that is in anybody's list.

    Raises:
        ValueError: If the lists are not rows of items, or the catalogue is empty.

    Example:
        >>> catalogue_coverage([[0, 1], [1, 2]], 6)
        0.5
    """
    n_items = check_whole("n_items", n_items, least=1, meaning="the size of the catalogue")
    return int(np.count_nonzero(times_listed(top, n_items))) / n_items


def novelty(top: ArrayLike, train: Ratings) -> float:
    """Mean self-information of what is listed, −log₂ of the share of users who rated the item, in bits.

    An item that nobody rated counts as rated by one (Castells, Hurley & Vargas 2015). NaN where nothing is listed.

    Raises:
        ValueError: If the lists are not rows of items, or the training ratings are nobody's or no numbers.

    Example:
        >>> one = np.ones(3, np.float32)
        >>> train = Ratings(np.array([0, 1, 1]), np.array([0, 0, 1]), one, one, n_users=2, n_items=3)
        >>> novelty([[0], [1]], train)
        0.5
    """
    check_type(train, "train")
    if not train.n_users >= 1:
        raise ValueError(f"ratings of {train.n_users} users: novelty is a share of users; give the training ratings")
    times = times_listed(top, train.n_items)
    raters = np.maximum(profile_sizes(train.transpose(), np.arange(train.n_items)), 1)
    return float(times @ -np.log2(raters / train.n_users) / times.sum()) if times.any() else np.nan


@partial(jax.jit, static_argnames="steps")
def _judge(
    top: Int[Array, "b n"], start: Int[Array, " b"], end: Int[Array, " b"], relevant: Int[Array, " m"], steps: int
) -> tuple[Float[Array, " b"], ...]:
    """The numbers of each list; its user's relevant items are `relevant[start:end]`, ascending."""
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
        hits / jnp.minimum(total, n),
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
