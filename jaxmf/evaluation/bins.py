"""Means by how many ratings something has in training: what the breakdowns of errors and of lists share."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxmf.data.arrays import to_numbers
from jaxmf.data.ratings import AnyArray, Ratings, check

EDGES = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Where the bins of a breakdown begin, in ratings; the last has no end."""


def profile_sizes(train: Ratings, users: Int[AnyArray, " n"]) -> Int[np.ndarray, " n"]:
    """How many ratings each of the users has in training; those of weight 0 are padding.

    Raises:
        ValueError: If a row is below 0, or a rating in training is no number or outside its table.
    """
    check(train)
    users, counted = np.asarray(users), np.asarray(train.user)[np.asarray(train.weight) > 0]
    if users.min(initial=0) < 0:
        raise ValueError(f"row {users.min()}: rows are 0 or more; give an unknown id a row after the last")
    return np.bincount(counted, minlength=max(train.n_users, int(users.max(initial=-1)) + 1))[users]


def means_by_bin(
    values: Mapping[str, Float[AnyArray, " n"]], size: Int[AnyArray, " n"], edges: Sequence[int]
) -> pd.DataFrame:
    """Means of values by size: a row a bin with `from`, `to`, `n` and a column a value. NaN has NaN for a mean.

    A bin ends before `to`, the last has no end, and empty ones are left out.

    Raises:
        ValueError: If the edges don't ascend from 0.

    Example:
        >>> means_by_bin({"error": np.array([1.0, 2.0, 4.0])}, np.array([0, 7, 9]), (0, 5))
           from   to  n  error
        0     0  5.0  1    1.0
        1     5  inf  2    3.0
    """
    begin = to_numbers(edges, "edge")
    if not (begin.ndim == 1 and begin.size and begin[0] == 0 and (np.diff(begin) > 0).all()):
        raise ValueError(f"edges must ascend from 0, got {edges}: they are where the bins begin, in ratings")
    place = np.searchsorted(begin, size, "right") - 1
    n = np.bincount(place, minlength=len(begin))
    at = np.flatnonzero(n)
    columns = {"from": np.asarray(edges)[at], "to": np.append(begin[1:], np.inf)[at], "n": n[at]}
    sums = {name: np.bincount(place, value, len(begin))[at] for name, value in values.items()}
    return pd.DataFrame(columns | {name: value / n[at] for name, value in sums.items()})
