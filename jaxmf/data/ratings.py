"""From a data frame of ratings to dense arrays, checked at this door and nowhere behind it."""

from typing import NamedTuple, Self, no_type_check

import narwhals as nw
import numpy as np
import pandas as pd
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxmf.data.arrays import Column, Frame, to_frame, to_numbers, to_seconds, to_times
from jaxmf.data.duplicates import Duplicates, one_a_pair, policy
from jaxmf.data.ids import Vocabulary, numbered

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


def filled(ratings: Ratings, n: int) -> Ratings:
    """Ratings on the host filled up to `n` with ratings of weight 0."""
    more = n - len(ratings)
    columns = {name: np.asarray(getattr(ratings, name)) for name in ("user", "item", "rating", "weight")}
    return ratings.replace(**{name: np.pad(column, (0, more)) for name, column in columns.items()})


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


def hint(ratings: Ratings) -> str | None:
    """What ratings that look like clicks are better taken for, in a sentence; `None` where they look like ratings.

    Those look like clicks that are all the same number, or 0 and 1 alone. A weight of 0 is padding.

    Raises:
        ValueError: If these are no ratings.

    Example:
        >>> plays = pd.DataFrame({"user": ["ann", "bob"], "item": [7, 7], "rating": [1.0, 1.0]})
        >>> print(hint(from_frame(plays).ratings))
        all ratings are 1: these look like clicks, which say little of what a user left out unless it counts as well;
        pass rating=None, or kernel=jaxmf.kernels.Clicks()
    """
    check_type(ratings, "ratings")
    found = np.unique(np.asarray(ratings.rating)[np.asarray(ratings.weight) > 0])
    if len(found) == 0 or (len(found) > 1 and found.tolist() != [0, 1]):
        return None
    what = f"all ratings are {found[0]:g}" if len(found) == 1 else "all ratings are 0 or 1"
    return (
        f"{what}: these look like clicks, which say little of what a user left out unless it counts as well; "
        "pass rating=None, or kernel=jaxmf.kernels.Clicks()"
    )


class Columns(NamedTuple):
    """Names of a frame's columns. Without one of ratings its rows are events: clicks, plays, purchases."""

    user: str = "user"
    item: str = "item"
    rating: str | None = "rating"
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
    rating: str | None = "rating",
    weight: str | None = None,
    timestamp: str | None = None,
    duplicates: Duplicates | None = None,
) -> Dataset:
    """Ratings of a frame, one a row, as a `Dataset`; ids are numbered in sorted order.

    A frame without ratings is one of events: `rating=None` rates each 1, and its weight is 1 or the weight column's,
    where a purchase may count more than a view. Dislikes are events that a rating column rates 0, others 1.

    Args:
        frame: A pandas, Polars or PyArrow frame, a list of dicts, or a dict of lists.
        user: Column of user ids: any hashable values of one kind.
        item: Column of item ids, likewise.
        rating: Column of ratings: finite numbers; `None` where each row is an event.
        weight: Column of weights, finite and not negative; 1 each where it is not given.
        timestamp: Column of times (numbers or datetimes) that splits by time use; of datetimes the seconds since 1970.
        duplicates: What to do where a user rated an item more than once: refuse ("error", which is meant where there
            is a rating column), keep the last (by time where there is one, else by position), or take the mean of
            those with a weight, by weight, for their summed weight, at their latest time; keep the last with the
            weights added up of all that are rated as it is ("sum", which is meant where there are none), or with the
            largest of these weights ("once").

    Raises:
        ValueError: If a column is missing, the frame is empty, an id is missing or of another kind than the rest, a
            rating or weight is not a usable number, or a pair is rated twice under `duplicates="error"`.

    Example:
        >>> frame = pd.DataFrame({"user": ["ann", "bob"], "item": [7, 7], "rating": [4.0, 2.5]})
        >>> data = from_frame(frame)
        >>> data.ratings.user, data.ratings.item, data.users.decode([1])
        (array([0, 1], dtype=int32), array([0, 0], dtype=int32), array(['bob'], dtype=object))
        >>> plays = pd.DataFrame({"user": ["ann", "bob", "ann"], "item": [7, 7, 7]})
        >>> from_frame(plays, rating=None).ratings.weight
        array([1., 2.], dtype=float32)
    """
    columns = Columns(user, item, rating, weight, timestamp)
    return from_columns(frame, columns, duplicates=policy(duplicates, events=rating is None))


def from_columns(
    frame: Frame,
    columns: Columns = Columns(),
    *,
    duplicates: Duplicates | None = None,
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
    duplicates = policy(duplicates, events=columns.rating is None)
    user, item, rating, weight, timestamp = _columns(to_frame(frame), columns)
    times = np.zeros(len(user)) if timestamp is None else to_times(timestamp, f"column {columns.timestamp!r}")
    data = {"timestamp": times}
    for name, column, called in (("rating", rating, columns.rating), ("weight", weight, columns.weight)):
        data[name] = np.ones(len(user)) if column is None else _numbers(column, str(called))
    negative = data["weight"] < 0
    if negative.any():
        at = int(negative.argmax())
        raise ValueError(f"weight {data['weight'][at]} in row {at}: weights must be 0 or more")
    data["user"], users = numbered(user, columns.user, users)
    data["item"], items = numbered(item, columns.item, items)
    if not pd.Index(data["user"].astype(np.int64) << 32 | data["item"]).is_unique:
        chosen = one_a_pair(pd.DataFrame(data), duplicates, users, items)
        data = {name: chosen[name].to_numpy() for name in data}
    rows = {name: data[name].astype(np.int32) for name in ("user", "item")}
    numbers = {name: data[name].astype(np.float32) for name in ("rating", "weight")}
    ratings = Ratings(**rows, **numbers, n_users=len(users), n_items=len(items))
    return Dataset(ratings, users, items, None if timestamp is None else to_seconds(data["timestamp"]))


def _columns(table: nw.DataFrame, columns: Columns) -> list[Column | None]:
    """The columns, `None` for those that have no name."""
    for name, column in zip(Columns._fields, columns, strict=True):
        if column is not None and column not in table.columns:
            events = ", and rating=None where each row is an event such as a click" if name == "rating" else ""
            raise ValueError(
                f"no column {column!r} in the frame, which has {table.columns}: name the columns with "
                f"user=, item=, rating=, weight= and timestamp={events}"
            )
    if not len(table):
        raise ValueError("the frame is empty: a model needs at least one rating")
    return [None if column is None else table[column] for column in columns]


def _numbers(column: Column, name: str) -> Float[np.ndarray, " n"]:
    values = to_numbers(column, f"column {name!r}:")
    large = ~(np.abs(values) <= np.finfo(np.float32).max)  # what is kept is float32
    if large.any():
        at = int(large.argmax())
        raise ValueError(f"{name} {values[at]} in row {at}: every {name} must be a finite number; drop or mend the row")
    return values
