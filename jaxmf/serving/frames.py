"""Between a frame's columns and rows."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from jaxtyping import Int

from jaxmf.data.arrays import Column, Frame, to_frame, to_values
from jaxmf.data.ids import Vocabulary, kind
from jaxmf.data.ratings import Columns, Ratings
from jaxmf.data.settings import check_choice

Unknown = Literal["bias", "nan", "error"]
UnknownItems = Literal["new", "error", "ignore"]

Ids = Any
"""Several ids: a list, an array or a column of them, or a frame, of which its column of such ids counts."""

ANSWERS = ("neighbour", "rank", "score", "rating", "contribution")
"""Columns that an answer has besides those of ids."""


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


def known_items(frame: Frame, side: Side, unknown: UnknownItems) -> Frame:
    """The rows of a frame whose items may be folded in: all, or those that are known, or an error where some are not.

    Raises:
        ValueError: If `unknown` is no such word, or an item is unknown and that is an error.
    """
    check_choice("unknown_items", unknown, UnknownItems)
    table = to_frame(frame)
    if unknown == "new" or not len(table):
        return frame
    remedy = 'pass unknown_items="ignore" to leave it out, or "new" to add it' if unknown == "error" else None
    rows = rows_of_ids(side, _column(table, side.column), remedy=remedy)
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
    table = to_frame(frame)
    remedy = 'fold it in first, or pass unknown="bias"' if unknown == "error" else None
    return [rows_of_ids(side, _column(table, side.column), remedy=remedy) for side in sides]


def rows_of_ids(side: Side, ids: Column, *, remedy: str | None = None) -> Int[np.ndarray, " n"]:
    """Row of each id, −1 for one that is unknown.

    Args:
        side: The known ids.
        ids: The ids.
        remedy: What to do about an unknown one, where that is an error.

    Raises:
        ValueError: If an id is missing, of another kind than the known ones or than the rest, or is unknown and that is
            an error.
    """
    ids = to_values(ids, f"the {side.name} ids")
    number = isinstance(ids, np.ndarray)
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


def asked(ids: Ids, side: Side, library: str, name: str) -> tuple[np.ndarray | list, str]:
    """Ids as `to_values` gives them, and the library that an answer about them comes in: their own, else `library`.

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
        ids = to_frame(ids)
    native = nw.from_native(ids, eager_only=True, allow_series=True, pass_through=True)
    if isinstance(native, nw.DataFrame):
        return _different(to_values(_column(native, side.column), name), side), native.implementation.value
    if isinstance(native, nw.Series):
        return to_values(native, name), native.implementation.value
    try:
        return to_values(ids, name), library
    except ValueError:
        raise ValueError(f"{name} must be several ids, got {ids!r}: pass [{ids!r}]") from None


def _different(ids: np.ndarray | list, side: Side) -> np.ndarray | list:
    """Each id once, in order of appearance."""
    try:
        return pd.unique(ids) if isinstance(ids, np.ndarray) else list(dict.fromkeys(ids))
    except TypeError as error:
        raise ValueError(
            f"a {side.name} id can't be looked up ({error}): convert ids to numbers, strings or tuples of these"
        ) from error


def answer(columns: dict[str, Any], library: str) -> Frame:
    """The columns as a frame of a library; ids that it has no type for are Python's objects in pandas, else refused.

    Raises:
        ValueError: If the library can't hold an id.
    """
    try:
        return nw.from_dict(columns, backend=library).to_native()
    except (OverflowError, TypeError, ArithmeticError, ValueError) as error:
        raise ValueError(
            f"{library} has no column for these ids ({error}): pass the ids as a list, or a pandas frame"
        ) from error


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
