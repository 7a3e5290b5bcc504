"""A pair of a user and an item that comes several times, as one: the policies of `jaxmf.ratings.from_frame`."""

from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from jaxmf.data.ids import Vocabulary
from jaxmf.data.settings import check_choice

Duplicates = Literal["error", "last", "mean", "sum", "once"]

PAIR = ["user", "item"]


def policy(duplicates: Any, *, events: bool) -> Duplicates:  # noqa: ANN401 whatever was given
    """The policy that is meant where none is named: that of `events` is "sum", that of ratings "error".

    Raises:
        ValueError: If it is none of the policies.

    Example:
        >>> policy(None, events=True), policy("once", events=True)
        ('sum', 'once')
    """
    if duplicates is None:
        return "sum" if events else "error"
    check_choice("duplicates", duplicates, Duplicates)
    return duplicates


def one_a_pair(data: pd.DataFrame, duplicates: Duplicates, users: Vocabulary, items: Vocabulary) -> pd.DataFrame:
    """The ratings where some pairs come twice, each once.

    Args:
        data: Columns user, item, rating, weight and timestamp; rows of the vocabularies.
        duplicates: The policy.
        users: Ids of the users, for what is refused.
        items: Ids of the items, likewise.

    Raises:
        ValueError: With the first pair that comes twice, under "error".
    """
    if duplicates == "error":
        twice = data.duplicated(PAIR)
        first = data[twice].iloc[0]
        who, what = users.index[int(first["user"])], items.index[int(first["item"])]
        raise ValueError(
            f"user {who} rated item {what} more than once ({int(twice.sum())} such rows in all): "
            f"say duplicates=, one of {get_args(Duplicates)[1:]}"
        )
    if duplicates == "mean":
        return _means(data)
    by_time = data.sort_values("timestamp", kind="stable")
    if duplicates == "last":
        return by_time.drop_duplicates(PAIR, keep="last").sort_index()
    pair = by_time["user"].to_numpy(np.int64) << 32 | by_time["item"].to_numpy()
    rating, weight = (by_time[name].to_numpy() for name in ("rating", "weight"))
    found = gathered(pair, rating, weight, np.add if duplicates == "sum" else np.maximum)
    return by_time.iloc[found.counted].assign(weight=found.weight).sort_index()


class Gathered(NamedTuple):
    """Events of pairs as one a pair, pairs ascending.

    Attributes:
        last: Position of the pair's last event.
        counted: Position of the last that counts: that has a weight, where one of the pair's has.
        weight: The weights of all its events that have the rating at `counted`.
    """

    last: Int[np.ndarray, " pairs"]
    counted: Int[np.ndarray, " pairs"]
    weight: Float[np.ndarray, " pairs"]


def gathered(
    pair: Int[np.ndarray, " n"], rating: Shaped[np.ndarray, " n"], weight: Shaped[np.ndarray, " n"], gather: np.ufunc
) -> Gathered:
    """Each pair's last rating, with the weights of all its events that have this rating gathered; O(n log n).

    An event of weight 0 is padding: it does not change a rating.

    Args:
        pair: A number for each pair, not negative; events in order of time.
        rating: What was rated.
        weight: How much it counts.
        gather: How weights become one: `np.add` or `np.maximum`.

    Example:
        >>> gathered(np.array([7, 3, 7, 7]), np.array([1, 1, 0, 1]), np.array([2, 5, 1, 4]), np.add)
        Gathered(last=array([1, 3]), counted=array([1, 3]), weight=array([5., 6.]))
    """
    order = np.argsort(pair, kind="stable")
    start = np.flatnonzero(np.diff(pair[order], prepend=-1))
    if not len(start):
        return Gathered(order, order, np.zeros(0))
    end = np.append(start[1:], len(order))
    rating, weight, last = rating[order], weight[order].astype(np.float64), end - 1
    counts = np.maximum.reduceat(np.where(weight > 0, np.arange(len(order)), -1), start)
    counted = np.where(counts < 0, last, counts)
    same = rating == np.repeat(rating[counted], end - start)
    return Gathered(order[last], order[counted], gather.reduceat(np.where(same, weight, 0), start))


def _means(data: pd.DataFrame) -> pd.DataFrame:
    """Weighted means, in order of the pairs' first appearance; the plain mean of a pair without weight."""
    pairs = data.groupby(PAIR, sort=False).ngroup().to_numpy()
    weight, rating = data["weight"].to_numpy(), data["rating"].to_numpy()
    total, size = (np.bincount(pairs, each)[pairs] for each in (weight, np.ones(len(data))))
    share = np.where(total > 0, weight / np.where(total > 0, total, 1), 1 / size)
    counts = (total == 0) | (weight > 0)
    found = data.assign(rating=share * rating).loc[counts].groupby(PAIR, sort=False, as_index=False)
    return cast(pd.DataFrame, found.agg({"rating": "sum", "weight": "sum", "timestamp": "max"}))
