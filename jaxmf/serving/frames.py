"""Between a frame's columns and rows."""

from typing import Any, Literal, NamedTuple, get_args

import narwhals as nw
import numpy as np
from jaxtyping import Int

from jaxmf.data.ratings import Ratings, Vocabulary, ids_of

Unknown = Literal["bias", "nan", "error"]


class Columns(NamedTuple):
    """Names of a frame's columns."""

    user: str = "user"
    item: str = "item"
    rating: str = "rating"
    weight: str | None = None
    timestamp: str | None = None


def pair_rows(
    frame: Any,  # noqa: ANN401 a frame of any library that narwhals reads
    columns: dict[str, Vocabulary],
    *,
    unknown: Unknown,
) -> list[Int[np.ndarray, " n"]]:
    """Rows of the ids in each column of a frame, −1 where an id is unknown and that is no error.

    Raises:
        ValueError: If a column is missing, `unknown` is no such word, or an id is unknown and that is an error.
    """
    if unknown not in get_args(Unknown):
        raise ValueError(f"unknown must be one of {get_args(Unknown)}, got {unknown!r}")
    table: nw.DataFrame = nw.from_native(frame, eager_only=True)
    how = "error" if unknown == "error" else "mark"
    found = {name: _column(table, name) for name in columns}
    return [rows_of_ids(known, ids_of(found[name]), unknown=how) for name, known in columns.items()]


def rows_of_ids(known: Vocabulary, ids: np.ndarray | list, *, unknown: Literal["error", "mark"]) -> np.ndarray:
    """`Vocabulary.encode`, but ids of another kind than the known ones are refused and not just unknown.

    Raises:
        ValueError: If that is so, or an id is unknown and that is an error.
    """
    one, other = (index.inferred_type for index in (known.index[:1], Vocabulary(ids[:1]).index))
    if len(ids) and len(known) and one != other:
        raise ValueError(f"id {ids[0]!r} is of kind {other}, the known ids of {one}: convert them to one kind")
    return known.encode(ids, unknown=unknown)


def asked(users: Any, column: str, library: str) -> tuple[list, str]:  # noqa: ANN401 ids, or a frame
    """Ids, and the library that an answer about them comes in: their own, else `library`.

    Of a frame they are the different ids of its user `column`.

    Raises:
        ValueError: If there is no such column, or the ids are one string.
    """
    if isinstance(users, str | bytes):
        raise ValueError(f"users must be several ids, got {users!r}: pass [{users!r}]")
    native = nw.from_native(users, eager_only=True, allow_series=True, pass_through=True)
    if isinstance(native, nw.DataFrame):
        native = _column(native, column).unique(maintain_order=True)
    if isinstance(native, nw.Series):
        return list(ids_of(native)), native.implementation.value
    return list(users), library


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
