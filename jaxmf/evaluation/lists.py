"""Lists of recommendations on the host: checked, and beside what is relevant to their users."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, ScalarLike
from numpy.typing import ArrayLike

from jaxmf.data.arrays import to_values
from jaxmf.data.ratings import Ratings, check
from jaxmf.data.settings import check_number


class Judgements(NamedTuple):
    """Lists beside what is relevant to their users: what every measure of `jaxmf.ranking` is of.

    Attributes:
        top: The lists, cut at n.
        users: The user of each.
        relevant: Items that are relevant, user by user, each user's ascending.
        start: Where each user's begin, and where the last one's end.
    """

    top: Int[np.ndarray, "lists n"]
    users: Int[np.ndarray, " lists"]
    relevant: Int[np.ndarray, " m"]
    start: Int[np.ndarray, " users_and_end"]


def judgements(
    top: ArrayLike,
    held_out: Ratings,
    *,
    threshold: ScalarLike = -np.inf,
    n: ScalarLike | None = None,
    users: ArrayLike | None = None,
) -> Judgements:
    """The lists checked, with what is relevant to their users.

    Args:
        top: Item rows, best first, a list a user (users × n), such as `jaxmf.recommend.top_n(…).item`. A list may be
            shorter: what is past the item table's end is padding.
        held_out: Ratings that the lists have not seen; those of weight 0 are padding.
        threshold: Ratings from here on count as relevant; else all.
        n: Where to cut the lists; else their length.
        users: User row of each list; else the lists are those of users 0, 1, 2 and so on.

    Raises:
        ValueError: If the lists are not rows of items, one has an item twice, there is not a known user a list, `n` is
            out of range, or a rating or the threshold is no number.

    Example:
        >>> one = np.ones(2, np.float32)
        >>> held_out = Ratings(np.array([0, 0]), np.array([4, 2]), 5 * one, one, n_users=2, n_items=6)
        >>> judgements([[4, 1], [0, 1]], held_out).relevant
        array([2, 4], dtype=int32)
    """
    check(held_out)
    if np.isnan(check_number("threshold", threshold, rule="a number", meaning="the rating from which on one counts")):
        raise ValueError(f"threshold {threshold}: it must be a number; leave it out where every rating counts")
    top = _lists(top, held_out.n_items)
    length = top.shape[1]
    depth = length if n is None else check_number("n", n, rule="a whole number", meaning="how many items are looked at")
    if not 1 <= depth <= length:
        raise ValueError(f"n must be between 1 and the lists' length, {length}, got {n}: so many items are looked at")
    if depth != int(depth):
        raise ValueError(f"n must be a whole number, got {n}: so many items are looked at")
    users = np.arange(len(top)) if users is None else np.asarray(to_values(users, "users"))
    if users.shape != (len(top),):
        raise ValueError(f"{users.size} users of {len(top)} lists: give one user a list")
    unknown = np.ones(len(users), bool) if users.dtype.kind not in "iu" else (users < 0) | (users >= held_out.n_users)
    if unknown.any():
        raise ValueError(
            f"user row {users[unknown][0]} is not among the {held_out.n_users} users of the held-out ratings: "
            "rows are whole numbers from 0; give the ratings the size of the users' table"
        )
    top = top[:, : int(depth)]
    ordered = np.sort(top, 1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] < held_out.n_items)
    if twice.any():
        raise ValueError(f"item row {ordered[:, 1:][twice][0]} is twice in one list: list an item once")
    return Judgements(top, users, *_relevant(held_out, threshold))


def places(
    top: Int[np.ndarray, "lists n"], of_list: Int[np.ndarray, " m"], item: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Place of each item in its list, from 1; ∞ where it is not there."""
    width = 1 + int(max(top.max(initial=0), item.max(initial=0)))
    listed = (np.arange(len(top))[:, None] * width + top).ravel()
    order = np.argsort(listed)
    wanted = of_list * width + item
    at = order[np.searchsorted(listed, wanted, sorter=order).clip(max=max(0, len(order) - 1))]
    return np.where(listed[at] == wanted, at % top.shape[1] + 1.0, np.inf)


def times_listed(top: ArrayLike, n_items: int) -> Int[np.ndarray, " items"]:
    """How often each item is listed.

    Raises:
        ValueError: If the lists are not rows of items.
    """
    return np.bincount(_lists(top, n_items).ravel(), minlength=n_items)[:n_items]


def _relevant(held_out: Ratings, threshold: ScalarLike) -> tuple[np.ndarray, np.ndarray]:
    """Relevant items by user, ascending, each once, and where each user's begin."""
    user, item, rating, weight = map(np.asarray, (held_out.user, held_out.item, held_out.rating, held_out.weight))
    kept = (rating >= threshold) & (weight > 0)
    pair = np.sort(user[kept].astype(np.int64) * held_out.n_items + item[kept])
    user, item = np.divmod(pair[np.diff(pair, prepend=-1) > 0], held_out.n_items)
    return item.astype(np.int32), np.searchsorted(user, np.arange(held_out.n_users + 1)).astype(np.int32)


def _lists(top: ArrayLike, n_items: int) -> Int[np.ndarray, "lists n"]:
    """Lists whose padding is `n_items`."""
    try:
        top = np.asarray(top)
        top = np.asarray(list(top)) if top.dtype == object and top.ndim == 1 else top  # a column of lists
    except (ValueError, TypeError) as error:
        raise ValueError(f"lists can't be an array ({error}): give rows of one length, padded") from error
    if top.ndim != 2:
        raise ValueError(f"lists of shape {top.shape}: give a row a user, `top[None]` where there is one user")
    if top.dtype.kind not in "iu":
        raise ValueError(
            f"the lists hold {top.dtype}{f' such as {top.flat[0]}' if top.size else ''}: item rows are whole numbers; "
            "convert them, and pad a short list with the number of items"
        )
    if top.min(initial=0) < 0:
        raise ValueError(f"item row {top.min()}: rows are 0 or more; pad a short list with the number of items")
    return np.minimum(top.astype(np.int64), n_items).astype(np.int32)
