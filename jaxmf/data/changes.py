"""What happens to ratings as time goes on: new ones, changed ones, removed ones, and ones that grow old.

Pure functions on the host, linear in the number of ratings they are given; the rows they touch are what
`jaxmf.fold_in` solves.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxmf.data.arrays import Column, Span, check_lengths, span_seconds, to_rows, to_seconds, to_times
from jaxmf.data.duplicates import gathered
from jaxmf.data.ratings import AnyArray, Ratings, check
from jaxmf.data.settings import check_number


def merge(old: Ratings, new: Ratings, *, add: bool = False) -> Ratings:
    """`old` and `new` together; where both rate a pair, or one does twice, the last rating wins.

    The tables are as large as the larger of the two.

    Args:
        old: What there was.
        new: What came since, in order of time.
        add: Count instead, as clicks are: the last rating of a pair has the weights of all that rate it so, added up.
            Then a weight of 0 changes no rating. It is `duplicates="sum"` of `jaxmf.ratings.from_frame`.

    Example:
        >>> one = Ratings(np.array([0, 1]), np.array([0, 0]), np.array([3.0, 4.0]), np.ones(2), 2, 1)
        >>> changed = Ratings(np.array([1]), np.array([0]), np.array([5.0]), np.ones(1), 2, 1)
        >>> merge(one, changed).rating
        array([3., 5.])
        >>> merge(one, one, add=True).weight
        array([2., 2.])
    """
    check(old, "old")
    check(new, "new")
    names = ("user", "item", "rating", "weight")
    columns = {name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in names}
    both = Ratings(**columns, n_users=max(old.n_users, new.n_users), n_items=max(old.n_items, new.n_items))
    if add:
        return _added(both)
    _, last = np.unique(pairs(both.user, both.item)[::-1], return_index=True)
    return both.take(np.sort(len(both) - 1 - last))


def remove(ratings: Ratings, user: Column, item: Column) -> Ratings:
    """The ratings without those of the pairs (`user`, `item`).

    Raises:
        ValueError: If one of the pairs has no rating.
    """
    check(ratings)
    user, item = to_rows(user, "user"), to_rows(item, "item")
    check_lengths({"user": user, "item": item})
    rated = pairs(ratings.user, ratings.item)
    return ratings.take(~np.isin(rated, rated_pairs(rated, user, item)))


def remove_users(ratings: Ratings, user: Column) -> Ratings:
    """The ratings without those of the `user` rows. Solve these rows again and they are as if never seen."""
    check(ratings)
    return ratings.take(~np.isin(ratings.user, to_rows(user, "user")))


def time_decay(timestamp: Column, half_life: Span, *, now: Any = None) -> Float[np.ndarray, " n"]:  # noqa: ANN401
    """Weights that halve with every `half_life` of age: 2^(−(now − t)/half_life).

    Args:
        timestamp: Time t of each rating: numbers in a unit of your own, or datetimes of any resolution and time zone.
        half_life: Age at which a rating counts half: a number in the timestamps' unit, which is the second for
            datetimes, or for datetimes a time span.
        now: The present, as a timestamp is; else the latest timestamp. Ratings from after it count 1.

    Raises:
        ValueError: If `half_life` is not positive, or a time span where the timestamps are numbers, or a time is
            missing.

    Example:
        >>> time_decay(np.array([0.0, 10.0, 20.0]), half_life=10.0)
        array([0.25, 0.5 , 1.  ], dtype=float32)
        >>> days = np.array(["2020-01-01", "2020-01-08"], "datetime64[ns]")
        >>> time_decay(days, half_life=np.timedelta64(7, "D"))
        array([0.5, 1. ], dtype=float32)
    """
    times = to_times(timestamp, use="a weight by time")
    seconds, meaning = span_seconds(half_life), "the age at which a rating counts half"
    if seconds is not None and times.dtype.kind != "M":
        raise ValueError(
            f"half_life {half_life!r} is a time span and the timestamps are numbers, whose unit is not known: "
            "give it as a number in their unit"
        )
    rule = "positive: a number or a time span"
    life = check_number("half_life", half_life, rule=rule, meaning=meaning) if seconds is None else seconds
    if not 0 < life < np.inf:
        raise ValueError(f"half_life must be positive, got {half_life}: it is {meaning}")
    age = np.maximum(_present(now, times) - to_seconds(times), 0)
    return np.exp2(-age / life).astype(np.float32)


def _added(events: Ratings) -> Ratings:
    """Each pair's events as one, in the order of the pairs' last."""
    last, counted, weight = gathered(pairs(events.user, events.item), events.rating, events.weight, np.add)
    order = np.argsort(last)
    return events.take(counted[order]).replace(weight=weight[order].astype(events.weight.dtype))


def _present(now: Any, times: np.ndarray) -> float:  # noqa: ANN401 whatever was given
    """The present in the unit of `to_seconds`."""
    if now is None:
        return to_seconds(times).max(initial=-np.inf)
    present = to_times([now], "now", use="an age")
    if present.dtype.kind == "M" and times.dtype.kind != "M":
        raise ValueError(f"now {now!r} is a datetime and the timestamps are numbers: give it as a number in their unit")
    return float(to_seconds(present)[0])


def pairs(user: Int[AnyArray, " n"], item: Int[AnyArray, " n"]) -> Int[np.ndarray, " n"]:
    """One number for each pair of a user's row and an item's.

    Example:
        >>> pairs(np.array([0, 1]), np.array([5, 0]))
        array([         5, 4294967296])
    """
    return np.asarray(user, np.int64) << 32 | np.asarray(item, np.int64)


def rated_pairs(
    rated: Int[np.ndarray, " n"], user: Int[AnyArray, " m"], item: Int[AnyArray, " m"]
) -> Int[np.ndarray, " m"]:
    """The numbers of the pairs (`user`, `item`), which are among the `rated` ones.

    Raises:
        ValueError: With the first pair that is not.
    """
    asked = pairs(user, item)
    unknown = ~np.isin(asked, rated)
    if unknown.any():
        at = int(unknown.argmax())
        raise ValueError(f"user row {user[at]} has not rated item row {item[at]}: there is nothing to remove")
    return asked
