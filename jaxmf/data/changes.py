"""What happens to ratings as time goes on: new ones, changed ones, removed ones, and ones that grow old.

Pure functions on the host, linear in the number of ratings they are given; the rows they touch are what
`jaxmf.fold_in` solves.
"""

import numpy as np
from jaxtyping import Float, Int, ScalarLike, Shaped
from numpy.typing import ArrayLike

from jaxmf.data.ratings import AnyArray, Ratings


def merge(old: Ratings, new: Ratings) -> Ratings:
    """`old` and `new` together; where both rate a pair, or one does twice, the last rating wins.

    The tables are as large as the larger of the two.

    Example:
        >>> one = Ratings(np.array([0, 1]), np.array([0, 0]), np.array([3.0, 4.0]), np.ones(2), 2, 1)
        >>> changed = Ratings(np.array([1]), np.array([0]), np.array([5.0]), np.ones(1), 2, 1)
        >>> merge(one, changed).rating
        array([3., 5.])
    """
    names = ("user", "item", "rating", "weight")
    columns = {name: np.concatenate([getattr(old, name), getattr(new, name)]) for name in names}
    both = Ratings(**columns, n_users=max(old.n_users, new.n_users), n_items=max(old.n_items, new.n_items))
    _, last = np.unique(pairs(both.user, both.item)[::-1], return_index=True)
    return both.take(np.sort(len(both) - 1 - last))


def remove(ratings: Ratings, user: ArrayLike, item: ArrayLike) -> Ratings:
    """The ratings without those of the pairs (`user`, `item`).

    Raises:
        ValueError: If one of the pairs has no rating.
    """
    rated = pairs(ratings.user, ratings.item)
    return ratings.take(~np.isin(rated, rated_pairs(rated, user, item)))


def remove_users(ratings: Ratings, user: ArrayLike) -> Ratings:
    """The ratings without those of the `user` rows. Solve these rows again and they are as if never seen."""
    return ratings.take(~np.isin(ratings.user, user))


def time_decay(
    timestamp: Shaped[AnyArray, " n"], half_life: ScalarLike, *, now: ScalarLike | None = None
) -> Float[np.ndarray, " n"]:
    """Weights that halve with every `half_life` of age: 2^(−(now − t)/half_life).

    Args:
        timestamp: Time t of each rating.
        half_life: Age at which a rating counts half, in the timestamps' unit.
        now: The present; else the latest timestamp. Ratings from after it count 1.

    Raises:
        ValueError: If `half_life` is not positive.

    Example:
        >>> time_decay(np.array([0.0, 10.0, 20.0]), half_life=10.0)
        array([0.25, 0.5 , 1.  ], dtype=float32)
    """
    if not float(half_life) > 0:
        raise ValueError(f"half_life must be positive, got {half_life}: it is the age at which a rating counts half")
    timestamp = np.asarray(timestamp, float)
    age = np.maximum((timestamp.max(initial=-np.inf) if now is None else now) - timestamp, 0)
    return np.exp2(-age / half_life).astype(np.float32)


def pairs(user: ArrayLike, item: ArrayLike) -> Int[np.ndarray, " n"]:
    """One number for each pair of a user's row and an item's.

    Example:
        >>> pairs([0, 1], [5, 0])
        array([         5, 4294967296])
    """
    return np.asarray(user, np.int64) << 32 | np.asarray(item, np.int64)


def rated_pairs(rated: Int[np.ndarray, " n"], user: ArrayLike, item: ArrayLike) -> Int[np.ndarray, " m"]:
    """The numbers of the pairs (`user`, `item`), which are among the `rated` ones.

    Raises:
        ValueError: With the first pair that is not.
    """
    asked = pairs(user, item)
    unknown = ~np.isin(asked, rated)
    if unknown.any():
        at = int(unknown.argmax())
        raise ValueError(
            f"user row {np.asarray(user)[at]} has not rated item row {np.asarray(item)[at]}: there is nothing to remove"
        )
    return asked
