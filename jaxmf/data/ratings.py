"""From a data frame of ratings to dense arrays, checked at this door and nowhere behind it."""

from typing import Literal, NamedTuple, Self, cast, no_type_check

import numpy as np
import pandas as pd
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxmf.data.arrays import Column, Frame, to_frame, to_numbers, to_seconds, to_times
from jaxmf.data.ids import Vocabulary, numbered
from jaxmf.data.settings import check_choice

Duplicates = Literal["error", "last", "mean"]

AnyArray = Array | np.ndarray
"""An array of the host or of a device: what runs under `jit` takes either."""


@no_type_check
class Ratings(struct.PyTreeNode):
    """`n` ratings as coordinates: who rated what, how, and how much it counts.

    A weight of 2 is the rating given twice; a weight of 0 is padding. `n_users` and `n_items` are the sizes of
    the tables that the coordinates point into, so rows without a rating exist too.
    """

    user: Int[AnyArray, " n"]
    item: Int[AnyArray, " n"]
    rating: Float[AnyArray, " n"]
    weight: Float[AnyArray, " n"]
    n_users: int = struct.field(pytree_node=False)
    n_items: int = struct.field(pytree_node=False)

    def __len__(self) -> int:
        return self.rating.shape[0]

    def take(self, index: Int[AnyArray, "..."] | Bool[AnyArray, " n"]) -> Self:
        """The ratings at `index` (positions or a mask), in tables of the same size."""
        return self.replace(
            user=self.user[index], item=self.item[index], rating=self.rating[index], weight=self.weight[index]
        )

    def transpose(self) -> Self:
        """The same ratings seen from the other side: items as users, users as items."""
        return self.replace(user=self.item, item=self.user, n_users=self.n_items, n_items=self.n_users)


def check_type(ratings: object, name: str) -> None:
    """Refuse what are no ratings.

    Raises:
        ValueError: With what it is.
    """
    if not isinstance(ratings, Ratings):
        raise ValueError(
            f"{name} must be Ratings, got {type(ratings).__name__}: pass jaxmf.ratings.from_frame(frame).ratings"
        )


def check(ratings: Ratings, name: str = "ratings") -> None:
    """Refuse what are no ratings, and ratings on the host that point outside their tables, or are no numbers.

    Raises:
        ValueError: With the first such value.
    """
    check_type(ratings, name)
    columns = {field: getattr(ratings, field) for field in ("user", "item", "rating", "weight")}
    shapes = {field: getattr(column, "shape", type(column).__name__) for field, column in columns.items()}
    if (
        not all(isinstance(shape, tuple) and len(shape) == 1 for shape in shapes.values())
        or len({*shapes.values()}) > 1
    ):
        raise ValueError(f"{name} of {shapes}: user, item, rating and weight must be arrays of one length")
    for side, size in (("user", ratings.n_users), ("item", ratings.n_items)):
        rows = np.asarray(columns[side])
        if rows.dtype.kind not in "iu":
            raise ValueError(
                f"{side} rows of type {rows.dtype}: they must be whole numbers; jaxmf.ratings.from_frame numbers ids"
            )
        outside = (rows < 0) | (rows >= size)
        if outside.any():
            raise ValueError(
                f"{side} row {rows[outside.argmax()]} is outside the table of {size} rows: "
                f"an unknown {side} needs a row of its own, after the last"
            )
    rating, weight = np.asarray(columns["rating"]), np.asarray(columns["weight"])
    if not np.isfinite(rating).all():
        raise ValueError(
            f"rating {rating[~np.isfinite(rating)][0]}: every rating must be a finite number; drop or mend it"
        )
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        raise ValueError(f"weight {weight[bad.argmax()]}: weights must be finite and 0 or more")


class Columns(NamedTuple):
    """Names of a frame's columns."""

    user: str = "user"
    item: str = "item"
    rating: str = "rating"
    weight: str | None = None
    timestamp: str | None = None


class Dataset(NamedTuple):
    """Ratings with the ids of their rows, on the host, in the order of the frame."""

    ratings: Ratings
    users: Vocabulary
    items: Vocabulary
    timestamp: Float[np.ndarray, " n"] | None = None


def from_frame(
    frame: Frame,
    *,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    weight: str | None = None,
    timestamp: str | None = None,
    duplicates: Duplicates = "error",
) -> Dataset:
    """Ratings of a frame, one a row, as a `Dataset`; ids are numbered in sorted order.

    Args:
        frame: A pandas, Polars or PyArrow frame, a list of dicts, or a dict of lists.
        user: Column of user ids: any hashable values of one kind.
        item: Column of item ids, likewise.
        rating: Column of ratings: finite numbers.
        weight: Column of weights, finite and not negative; 1 each where it is not given.
        timestamp: Column of times (numbers or datetimes) that splits by time use; of datetimes the seconds since 1970.
        duplicates: What to do where a user rated an item more than once: refuse, keep the last (by time where
            there is one, else by position), or take the mean of those with a weight, by weight, for their summed
            weight, at their latest time.

    Raises:
        ValueError: If a column is missing, the frame is empty, an id is missing or of another kind than the rest, a
            rating or weight is not a usable number, or a pair is rated twice under `duplicates="error"`.

    Example:
        >>> frame = pd.DataFrame({"user": ["ann", "bob"], "item": [7, 7], "rating": [4.0, 2.5]})
        >>> data = from_frame(frame)
        >>> data.ratings.user, data.ratings.item, data.users.decode([1])
        (array([0, 1], dtype=int32), array([0, 0], dtype=int32), array(['bob'], dtype=object))
    """
    check_choice("duplicates", duplicates, Duplicates)
    return from_columns(frame, Columns(user, item, rating, weight, timestamp), duplicates=duplicates)


def from_columns(
    frame: Frame,
    columns: Columns = Columns(),
    *,
    duplicates: Duplicates = "error",
    users: Vocabulary | None = None,
    items: Vocabulary | None = None,
) -> Dataset:
    """`from_frame` beside known users and items: their rows keep their number, and new ids are appended.

    Args:
        frame: The table, as there.
        columns: Its columns' names.
        duplicates: As there.
        users: Known users.
        items: Known items.

    Raises:
        ValueError: As there, or if an id is of another kind than the known ones.

    Example:
        >>> known = Vocabulary(["zoe", "bob"])
        >>> frame = pd.DataFrame({"user": ["ann", "bob"], "item": [7, 7], "rating": [4.0, 2.5]})
        >>> from_columns(frame, users=known).ratings.user
        array([2, 1], dtype=int32)
    """
    check_choice("duplicates", duplicates, Duplicates)
    table = to_frame(frame)
    for column in columns:
        if column is not None and column not in table.columns:
            raise ValueError(
                f"no column {column!r} in the frame, which has {table.columns}: name the columns with "
                "user=, item=, rating=, weight= and timestamp="
            )
    if not len(table):
        raise ValueError("the frame is empty: a model needs at least one rating")
    user, item, rating, weight, timestamp = (None if name is None else table[name] for name in columns)
    times = np.zeros(len(table)) if timestamp is None else to_times(timestamp, f"column {columns.timestamp!r}")
    data = {"rating": _numbers(rating, columns.rating), "timestamp": times}
    data["weight"] = np.ones(len(table)) if weight is None else _numbers(weight, str(columns.weight))
    negative = data["weight"] < 0
    if negative.any():
        at = int(negative.argmax())
        raise ValueError(f"weight {data['weight'][at]} in row {at}: weights must be 0 or more")
    data["user"], users = numbered(user, columns.user, users)
    data["item"], items = numbered(item, columns.item, items)
    if not pd.Index(data["user"].astype(np.int64) << 32 | data["item"]).is_unique:
        chosen = _one_a_pair(pd.DataFrame(data), duplicates, users, items)
        data = {name: chosen[name].to_numpy() for name in data}
    rows = {name: data[name].astype(np.int32) for name in ("user", "item")}
    numbers = {name: data[name].astype(np.float32) for name in ("rating", "weight")}
    ratings = Ratings(**rows, **numbers, n_users=len(users), n_items=len(items))
    return Dataset(ratings, users, items, None if timestamp is None else to_seconds(data["timestamp"]))


def _numbers(column: Column, name: str) -> Float[np.ndarray, " n"]:
    values = to_numbers(column, f"column {name!r}:")
    large = ~(np.abs(values) <= np.finfo(np.float32).max)  # what is kept is float32
    if large.any():
        at = int(large.argmax())
        raise ValueError(f"{name} {values[at]} in row {at}: every {name} must be a finite number; drop or mend the row")
    return values


def _one_a_pair(data: pd.DataFrame, duplicates: Duplicates, users: Vocabulary, items: Vocabulary) -> pd.DataFrame:
    """The ratings where some pairs come twice, each once."""
    pair = ["user", "item"]
    if duplicates == "error":
        twice = data.duplicated(pair)
        first = data[twice].iloc[0]
        who, what = users.index[int(first["user"])], items.index[int(first["item"])]
        raise ValueError(
            f"user {who} rated item {what} more than once ({int(twice.sum())} such rows in all): "
            'say duplicates="last" or duplicates="mean"'
        )
    if duplicates == "last":
        return data.sort_values("timestamp", kind="stable").drop_duplicates(pair, keep="last").sort_index()
    return _means(data, pair)


def _means(data: pd.DataFrame, pair: list[str]) -> pd.DataFrame:
    """Weighted means, in order of the pairs' first appearance; the plain mean of a pair without weight."""
    pairs = data.groupby(pair, sort=False).ngroup().to_numpy()
    weight, rating = data["weight"].to_numpy(), data["rating"].to_numpy()
    total, size = (np.bincount(pairs, each)[pairs] for each in (weight, np.ones(len(data))))
    share = np.where(total > 0, weight / np.where(total > 0, total, 1), 1 / size)
    counts = (total == 0) | (weight > 0)
    found = data.assign(rating=share * rating).loc[counts].groupby(pair, sort=False, as_index=False)
    return cast(pd.DataFrame, found.agg({"rating": "sum", "weight": "sum", "timestamp": "max"}))
