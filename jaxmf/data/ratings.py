"""From a data frame of ratings to dense arrays, checked at this door and nowhere behind it."""

import itertools
from collections.abc import Hashable, Iterable
from datetime import datetime
from functools import cached_property, reduce
from typing import Any, Literal, NamedTuple, Self, no_type_check

import narwhals as nw
import numpy as np
import pandas as pd
from flax import struct
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from jaxmf.data.layers import settled
from jaxmf.data.settings import check_choice

Duplicates = Literal["error", "last", "mean"]
Unknown = Literal["error", "mark"]

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


def check(ratings: Ratings) -> None:
    """Refuse ratings on the host that point outside their tables, or are no numbers.

    Raises:
        ValueError: With the first such value.
    """
    for name, size in (("user", ratings.n_users), ("item", ratings.n_items)):
        rows = np.asarray(getattr(ratings, name))
        outside = (rows < 0) | (rows >= size)
        if outside.any():
            raise ValueError(
                f"{name} row {rows[outside.argmax()]} is outside the table of {size} rows: "
                f"an unknown {name} needs a row of its own, after the last"
            )
    rating, weight = np.asarray(ratings.rating), np.asarray(ratings.weight)
    if not np.isfinite(rating).all():
        raise ValueError(
            f"rating {rating[~np.isfinite(rating)][0]}: every rating must be a finite number; drop or mend it"
        )
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        raise ValueError(f"weight {weight[bad.argmax()]}: weights must be finite and 0 or more")


class Vocabulary:
    """Ids in the order of their table rows: any hashable id ↔ a dense int32.

    Example:
        >>> films = Vocabulary(["Heat", "Alien"])
        >>> films.encode(["Alien", "Brazil"], unknown="mark")
        array([ 1, -1], dtype=int32)
        >>> films.extend(["Brazil"]).encode(["Brazil"])
        array([2], dtype=int32)
    """

    def __init__(self, ids: Iterable[Hashable] = ()) -> None:
        """Ids in row order.

        Raises:
            ValueError: If an id comes twice.
        """
        index = ids if isinstance(ids, pd.Index) else _index(ids)
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            raise ValueError(f"id {twice!r} comes more than once: a row has one id; drop the duplicates")
        self._layers = (index,)

    def __len__(self) -> int:
        return sum(map(len, self._layers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and bool(self.index.equals(other.index))

    def __hash__(self) -> int:
        return hash(tuple(self.index))

    @cached_property
    def index(self) -> pd.Index:
        """All ids in row order, in one piece: O(ids) where some were appended, once."""
        return reduce(_appended, self._layers)

    @property
    def kind(self) -> str | None:
        """What the ids are, all of them; none where there is no id."""
        first = next(filter(len, self._layers), None)
        return None if first is None else kind(first[0])

    def encode(self, ids: Iterable[Hashable], *, unknown: Unknown = "error") -> Int[np.ndarray, " n"]:
        """Row of each id.

        Args:
            ids: The ids.
            unknown: What an unknown id is: an error, or row −1.

        Raises:
            ValueError: If an id is unknown and that is an error.
        """
        ids = _index(ids)
        rows, first = np.full(len(ids), -1, np.int32), 0
        for layer in self._layers:
            found = layer.get_indexer(ids)
            rows = np.where(found < 0, rows, found + first).astype(np.int32)
            first += len(layer)
        if unknown == "error" and (rows < 0).any():
            raise ValueError(
                f"id {ids[rows < 0].tolist()[0]!r} is not among the {len(self)} known ids: "
                'fold it in first, or pass unknown="mark"'
            )
        return rows

    def decode(self, rows: ArrayLike) -> np.ndarray:
        """Id of each row."""
        return self.index.to_numpy()[np.asarray(rows)]

    def extend(self, ids: Iterable[Hashable]) -> "Vocabulary":
        """A vocabulary with the new ones among `ids` appended in order of appearance; known rows keep their number.

        It costs the new ids; the known ones are shared.
        """
        ids = _index(ids)
        new = ids[self.encode(ids, unknown="mark") < 0].unique()
        if not len(new):
            return self
        if self.kind not in (None, kind(new[0])):
            raise ValueError(
                f"id {new[0]!r} is of kind {kind(new[0])}, the known ids of {self.kind}: convert them to one kind"
            )
        grown = Vocabulary.__new__(Vocabulary)
        grown._layers = (*self._settled, new) if len(self) else (new,)
        return grown

    @cached_property
    def _settled(self) -> tuple[pd.Index, ...]:
        """The layers, few and ever smaller: kept, so that all that grow from here share what joining them cost."""
        return settled(self._layers, _appended)


class Dataset(NamedTuple):
    """Ratings with the ids of their rows, on the host, in the order of the frame."""

    ratings: Ratings
    users: Vocabulary
    items: Vocabulary
    timestamp: Float[np.ndarray, " n"] | None = None


def from_frame(
    frame: Any,  # noqa: ANN401 a frame of any library that narwhals reads
    *,
    user: str = "user",
    item: str = "item",
    rating: str = "rating",
    weight: str | None = None,
    timestamp: str | None = None,
    duplicates: Duplicates = "error",
    users: Vocabulary | None = None,
    items: Vocabulary | None = None,
) -> Dataset:
    """Ratings of a pandas, Polars or PyArrow frame, one a row, as a `Dataset`.

    Args:
        frame: The table.
        user: Column of user ids: any hashable values of one kind.
        item: Column of item ids, likewise.
        rating: Column of ratings: finite numbers.
        weight: Column of weights, finite and not negative; 1 each where it is not given.
        timestamp: Column of times (numbers or datetimes) that splits by time use.
        duplicates: What to do where a user rated an item more than once: refuse, keep the last (by time where
            there is one, else by position), or take the mean.
        users: Known users, whose rows keep their number; new ids are appended. Else ids are numbered in sorted order.
        items: Known items, likewise.

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
    table: nw.DataFrame = nw.from_native(frame, eager_only=True)
    for column in filter(None, (user, item, rating, weight, timestamp)):
        if column not in table.columns:
            raise ValueError(
                f"no column {column!r} in the frame, which has {table.columns}: name the columns with "
                "user=, item=, rating=, weight= and timestamp="
            )
    if not len(table):
        raise ValueError("the frame is empty: a model needs at least one rating")
    columns = pd.DataFrame(
        {
            "rating": _numbers(table[rating], rating),
            "weight": np.ones(len(table)) if weight is None else _numbers(table[weight], weight),
            "timestamp": np.zeros(len(table)) if timestamp is None else _times(table[timestamp], timestamp),
        }
    )
    negative = columns["weight"].to_numpy() < 0
    if negative.any():
        at = int(negative.argmax())
        raise ValueError(f"weight {columns['weight'][at]} in row {at}: weights must be 0 or more")
    columns["user"], users = _encode(table[user], user, users)
    columns["item"], items = _encode(table[item], item, items)
    columns = _one_a_pair(columns, duplicates, users, items)
    rows = {name: columns[name].to_numpy(np.int32) for name in ("user", "item")}
    numbers = {name: columns[name].to_numpy(np.float32) for name in ("rating", "weight")}
    ratings = Ratings(**rows, **numbers, n_users=len(users), n_items=len(items))
    return Dataset(ratings, users, items, None if timestamp is None else columns["timestamp"].to_numpy())


def ids_of(column: nw.Series) -> np.ndarray | list:
    """A column's ids, as `Vocabulary.encode` takes them."""
    return column.to_numpy() if column.dtype.is_numeric() else column.to_list()


def kind(value: object) -> str:
    """What an id is, with NumPy's and Python's own numbers, and all libraries' times, as one kind."""
    for python in (bool, int, float, str, bytes, datetime):
        if isinstance(value, python):
            return python.__name__
    names = {"b": "bool", "i": "int", "u": "int", "f": "float", "M": "datetime"}
    return names.get(getattr(getattr(value, "dtype", None), "kind", ""), type(value).__name__)


def _appended(known: pd.Index, new: pd.Index) -> pd.Index:
    return known.append(new) if len(known) else new


def _index(ids: Iterable[Hashable]) -> pd.Index:
    """A pandas index that keeps tuples whole and strings as plain objects, whatever frame they came from."""
    if isinstance(ids, np.ndarray | pd.Index | pd.Series) and ids.dtype.kind in "iufM":
        return pd.Index(ids)
    ids = list(ids)
    number = bool(ids) and all(kind(value) == "int" for value in ids)
    return pd.Index(ids, dtype=np.int64 if number else object, tupleize_cols=False)


def _encode(column: nw.Series, name: str, known: Vocabulary | None) -> tuple[np.ndarray, Vocabulary]:
    missing = column.is_null().to_numpy()
    if column.dtype.is_float():
        missing = missing | column.is_nan().fill_null(value=True).to_numpy()
    if missing.any():
        raise ValueError(
            f"no id in column {name!r}, row {int(missing.argmax())}: every rating needs its ids; drop the row"
        )
    ids = _index(ids_of(column))
    kinds = {} if ids.dtype != object else {kind(value): value for value in ids}
    if len(kinds) > 1:
        examples = ", ".join(f"{value!r} ({of})" for of, value in itertools.islice(kinds.items(), 3))
        raise ValueError(f"ids of mixed kinds in column {name!r}: {examples}; convert them to one kind")
    if known is None:
        unique = ids.unique()
        try:
            known = Vocabulary(unique.sort_values())
        except TypeError:  # hashable but without an order: by appearance
            known = Vocabulary(unique)
    known = known.extend(ids)
    return known.encode(ids), known


def _numbers(column: nw.Series, name: str) -> np.ndarray:
    if not column.dtype.is_numeric():
        raise ValueError(f"column {name!r} holds {column.dtype}, not numbers: convert it first")
    values = column.cast(nw.Float64).to_numpy().astype(np.float64)
    large = ~(np.abs(values) <= np.finfo(np.float32).max)  # what is kept is float32
    if large.any():
        at = int(large.argmax())
        raise ValueError(f"{name} {values[at]} in row {at}: every {name} must be a finite number; drop or mend the row")
    return values


def _times(column: nw.Series, name: str) -> np.ndarray:
    if column.dtype.is_temporal():
        column = column.cast(nw.Datetime("us")).dt.timestamp("us") / 1e6
    return _numbers(column, name)


def _one_a_pair(columns: pd.DataFrame, duplicates: Duplicates, users: Vocabulary, items: Vocabulary) -> pd.DataFrame:
    pair = ["user", "item"]
    twice = columns.duplicated(pair)
    if not twice.any():
        return columns
    if duplicates == "error":
        first = columns[twice].iloc[0]
        who, what = users.index[int(first["user"])], items.index[int(first["item"])]
        raise ValueError(
            f"user {who} rated item {what} more than once ({int(twice.sum())} such rows in all): "
            'say duplicates="last" or duplicates="mean"'
        )
    if duplicates == "last":
        return columns.sort_values("timestamp", kind="stable").drop_duplicates(pair, keep="last").sort_index()
    return columns.groupby(pair, sort=False, as_index=False).agg(
        {"rating": "mean", "weight": "mean", "timestamp": "max"}
    )
