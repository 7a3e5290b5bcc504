"""Between a frame's columns and rows."""

import itertools
from collections.abc import Mapping, Sized
from typing import Any, Literal, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from jaxtyping import Int

from jaxmf.data.ratings import Ratings, Vocabulary, ids_of, kind
from jaxmf.data.settings import check_choice

Unknown = Literal["bias", "nan", "error"]
UnknownItems = Literal["new", "error", "ignore"]

Frame = Any
"""A frame of any library that narwhals reads; or a dict of columns, or a list of records, as `table_of` takes them."""

Ids = Any
"""Several ids: a list, an array or a column of them, or a frame, of which its column of such ids counts."""

ANSWERS = ("neighbour", "rank", "score", "rating", "contribution")
"""Columns that an answer has besides those of ids."""


class Columns(NamedTuple):
    """Names of a frame's columns."""

    user: str = "user"
    item: str = "item"
    rating: str = "rating"
    weight: str | None = None
    timestamp: str | None = None


class Side(NamedTuple):
    """The users or the items that are known.

    Attributes:
        name: "user" or "item".
        column: What their ids' column is called.
        known: Their ids.
        frozen: How many of the first rows have no history.
    """

    name: str
    column: str
    known: Vocabulary
    frozen: int


class Sides(NamedTuple):
    """Both of them."""

    user: Side
    item: Side


def checked(columns: Columns) -> Columns:
    """The columns, if answers can have columns of ids with these names.

    Raises:
        ValueError: If one is an answer's own, or both are the same.
    """
    for side in ("user", "item"):
        name = getattr(columns, side)
        if name in ANSWERS:
            raise ValueError(
                f"{side}={name!r}: answers have a column {name!r} of their own; rename the frame's, "
                f"such as to '{side}_{name}'"
            )
    if columns.user == columns.item:
        raise ValueError(f"user and item are both {columns.user!r}: name a column each")
    return columns


def table_of(given: Frame, columns: Columns) -> Frame:
    """A frame of what is one, or a dict of columns, or a list of records: what a JSON body is.

    Raises:
        ValueError: If a record has no such column as others have, or columns differ in length.

    Example:
        >>> table_of([{"user": 1, "item": 7}, {"user": 1, "item": 9}], Columns())["item"].tolist()
        [7, 9]
    """
    if isinstance(given, list | tuple) and all(isinstance(record, Mapping) for record in given):
        names = [name for name in columns if name is not None and any(name in record for record in given)]
        for at, name in itertools.product(range(len(given)), names):
            if name not in given[at]:
                raise ValueError(f"record {at} has no {name!r}, others have: give each record the same keys")
        given = {name: [record[name] for record in given] for name in names}
    if not isinstance(given, Mapping):
        return given
    lengths = {name: len(column) for name, column in given.items() if isinstance(column, Sized)}
    single = [name for name, column in given.items() if name not in lengths or isinstance(column, str | bytes)]
    if single:
        raise ValueError(f"column {single[0]!r} is {given[single[0]]!r}, no list of values: give a list a column")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths, {lengths}: give each a value a row")
    return pd.DataFrame({name: pd.Series(list(column)) for name, column in given.items()})


def known_items(frame: Frame, side: Side, unknown: UnknownItems) -> Frame:
    """The rows of a frame whose items may be folded in: all, or those that are known, or an error where some are not.

    Raises:
        ValueError: If `unknown` is no such word, or an item is unknown and that is an error.
    """
    check_choice("unknown_items", unknown, UnknownItems)
    table: nw.DataFrame = nw.from_native(frame, eager_only=True)
    if unknown == "new" or not len(table):
        return frame
    remedy = 'pass unknown_items="ignore" to leave it out, or "new" to add it' if unknown == "error" else None
    rows = rows_of_ids(side, ids_of(_column(table, side.column)), remedy=remedy)
    return table.filter((rows >= 0).tolist()).to_native() if (rows < 0).any() else frame


def pair_rows(
    frame: Frame,
    sides: Sides,
    *,
    unknown: Unknown,
) -> list[Int[np.ndarray, " n"]]:
    """Rows of the ids in both columns of a frame, −1 where an id is unknown and that is no error.

    Raises:
        ValueError: If a column is missing, `unknown` is no such word, or an id is unknown and that is an error.
    """
    check_choice("unknown", unknown, Unknown)
    table: nw.DataFrame = nw.from_native(frame, eager_only=True)
    remedy = 'fold it in first, or pass unknown="bias"' if unknown == "error" else None
    ids = [ids_of(_column(table, side.column)) for side in sides]
    return [rows_of_ids(*pair, remedy=remedy) for pair in zip(sides, ids, strict=True)]


def rows_of_ids(side: Side, ids: np.ndarray | list, *, remedy: str | None = None) -> Int[np.ndarray, " n"]:
    """Row of each id, −1 for one that is unknown.

    Args:
        side: The known ids.
        ids: The ids.
        remedy: What to do about an unknown one, where that is an error.

    Raises:
        ValueError: If an id is missing, of another kind than the known ones or than the rest, or is unknown and that is
            an error.
    """
    number = isinstance(ids, np.ndarray) and ids.dtype != object
    missing = pd.Index(ids, dtype=None if number else object, tupleize_cols=False).isna()
    if missing.any():
        raise ValueError(f"no {side.name} id at position {int(missing.argmax())}: leave it out")
    known = side.known.kind
    for value in {type(value): value for value in (ids[:1] if number else ids)}.values():
        known = known or kind(value)
        if kind(value) != known:
            raise ValueError(
                f"{side.name} id {_plain(value)!r} is of kind {kind(value)}, others are of {known}: "
                "convert them to one kind"
            )
    rows = side.known.encode(ids, unknown="mark")
    if remedy is not None and (rows < 0).any():
        unknown = _plain(ids[int((rows < 0).argmax())])
        raise ValueError(f"{side.name} id {unknown!r} is not among the {len(side.known)} known ids: {remedy}")
    return rows


def asked(ids: Ids, side: Side, library: str, name: str) -> tuple[list, str]:
    """Ids as a list, and the library that an answer about them comes in: their own, else `library`.

    Of a frame they are the different ids of the side's column.

    Args:
        ids: What was given as the argument `name`.
        side: Whose ids they are.
        library: The frames' library, where no frame is given.
        name: The argument's name.

    Raises:
        ValueError: If there is no such column, or they are one id and not several.
    """
    if isinstance(ids, Mapping) or (isinstance(ids, list) and ids and isinstance(ids[0], Mapping)):
        ids = ids_of(_column(nw.from_native(table_of(ids, Columns(side.column, side.column))), side.column))
        ids = list(dict.fromkeys(ids))
    native = nw.from_native(ids, eager_only=True, allow_series=True, pass_through=True)
    if isinstance(native, nw.DataFrame):
        native = _column(native, side.column).unique(maintain_order=True)
    if isinstance(native, nw.Series):
        return list(ids_of(native)), native.implementation.value
    try:
        several = None if isinstance(ids, str | bytes) else list(ids)
    except TypeError:
        several = None
    if several is None:
        raise ValueError(f"{name} must be several ids, got {ids!r}: pass [{ids!r}]")
    return several, library


def _plain(value: Any) -> Any:  # noqa: ANN401 any id
    return value.item() if isinstance(value, np.generic) else value


def _column(table: nw.DataFrame, name: str) -> nw.Series:
    if name not in table.columns:
        raise ValueError(f"no column {name!r} in the frame, which has {table.columns}: rename the one you mean")
    return table[name]


def of_users(ratings: Ratings, rows: Int[np.ndarray, " b"]) -> Ratings:
    """The ratings of the users in `rows`, numbered by their place there."""
    asked = np.flatnonzero(rows >= 0)
    order = asked[np.argsort(rows[asked], kind="stable")]
    first, last = (np.searchsorted(rows[order], ratings.user, side) for side in ("left", "right"))
    times = last - first  # a user who is asked for twice has seen the same twice
    rated = np.repeat(np.arange(len(ratings)), times)
    place = np.arange(len(rated)) - np.repeat(np.cumsum(times) - times, times)
    seen = ratings.take(rated)
    return seen.replace(user=order[first[rated] + place].astype(np.int32), n_users=len(rows))
