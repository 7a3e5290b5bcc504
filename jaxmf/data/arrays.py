"""What callers pass, as plain arrays: the one door for columns, lists and frames of any library.

Positions count, never labels: the index of a pandas column is dropped here.
"""

import datetime
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

Column = Any
"""One value a rating, or several: a list, an array of any library, or a column of a frame."""

Frame = Any
"""A frame of any library that narwhals reads, a list of records, or lists by column name."""

Span = Any
"""A number, or a time span of Python, NumPy or pandas."""

DATE = r"\d{4}-\d\d-\d\d"
"""How a text that is a time begins."""


def to_frame(frame: Frame) -> nw.DataFrame:
    """The frame behind one door: of its own library, or of pandas where it is records or columns by name.

    Raises:
        ValueError: If it is no table with named columns.

    Example:
        >>> to_frame([{"user": 1, "item": 2}, {"user": 3, "item": 4}]).columns
        ['user', 'item']
    """
    native = nw.from_native(frame, pass_through=True)
    if isinstance(native, nw.DataFrame):
        return native
    if isinstance(native, nw.LazyFrame):
        raise ValueError(f"the frame is a lazy one, {type(frame).__name__}: collect it first")
    if isinstance(frame, Mapping):
        for name, values in frame.items():
            if not _several(values):
                raise ValueError(f"the frame's column {name!r} is {values!r}, no list of values: give a list a column")
        columns = {name: to_values(values, str(name)) for name, values in frame.items()}
        check_lengths(columns)
        return nw.from_native(pd.DataFrame(columns), eager_only=True)
    if isinstance(frame, np.ndarray) and frame.dtype.names:
        return nw.from_native(pd.DataFrame(frame), eager_only=True)
    if isinstance(frame, list | tuple) and all(isinstance(row, Mapping) for row in frame):
        names = {name: None for row in frame for name in row}
        for at, row in enumerate(frame):
            for name in names.keys() - row.keys():
                raise ValueError(f"record {at} has no {name!r}, others have: give each record the same keys")
        return nw.from_native(pd.DataFrame(list(frame)), eager_only=True)
    raise ValueError(
        f"a frame is needed, got {type(frame).__name__}: pass a pandas, Polars or PyArrow frame, a list of dicts, "
        "or a dict of lists"
    )


def to_values(values: Column, name: str) -> np.ndarray | list:
    """The values in order: an array where they are numbers or times, else a list that keeps each one's type.

    Raises:
        ValueError: If they are one value and not several, a frame, or without an order.

    Example:
        >>> to_values(pd.Series([3, 1], index=[1, 0]), "user")
        array([3, 1])
        >>> to_values(("a", 1), "user")
        ['a', 1]
    """
    column = _column(values)
    if isinstance(column, nw.Series):
        plain = column.dtype.is_numeric() and not isinstance(column.dtype, nw.Int128 | nw.UInt128 | nw.Decimal)
        return column.to_numpy() if plain else column.to_list()
    if isinstance(column, nw.DataFrame | nw.LazyFrame):
        raise ValueError(f"{name} must be one column, got a frame of {column.columns}: pass one of them")
    if isinstance(values, np.ma.MaskedArray):
        return [None if value is np.ma.masked else value for value in values]
    if hasattr(values, "__array__") and not isinstance(values, np.generic):
        array = np.asarray(values)
        if array.ndim:
            return array if array.dtype.kind in "iufM" else list(array) if array.ndim > 1 else array.tolist()
    if not _several(values):
        raise ValueError(f"{name} must be several values in order, got {values!r}: pass a list, an array or a column")
    return list(values)


def to_numbers(values: Column, name: str) -> Float[np.ndarray, "..."]:
    """The values as float64; NaN where one is missing.

    Raises:
        ValueError: If one is no number, or rows of a nested list differ in length.

    Example:
        >>> to_numbers([1, None, 2.5], "rating")
        array([1. , nan, 2.5])
    """
    if _is_array(values, "biuf"):
        return values.astype(np.float64)
    if isinstance(values, Real | Decimal):
        return np.asarray(values, np.float64)
    alone = hasattr(values, "__array__") and not np.shape(values)
    values = np.asarray(values) if alone else to_values(values, name)
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return values.astype(np.float64)
    values = [values.item()] if alone else values
    foreign = [
        value for value in _leaves(values) if not isinstance(value, Real | Decimal | np.bool) and not _gone(value)
    ]
    if foreign:
        raise ValueError(f"{name} {foreign[0]!r} is a {type(foreign[0]).__name__}, not numbers: convert it first")
    try:
        return _filled(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} can't be an array of numbers ({error}): rows must be of one length") from error


def to_rows(values: Column, name: str) -> Int[np.ndarray, " n"]:
    """Rows of a table as int64.

    Raises:
        ValueError: If one is no whole number.

    Example:
        >>> to_rows((3, 1), "user")
        array([3, 1])
    """
    if _is_array(values, "i") and values.ndim == 1:
        return values.astype(np.int64)
    numbers = to_numbers(values, name)
    odd = ~(np.abs(numbers) < 2**53) | (numbers != np.rint(numbers))  # NaN is odd too
    if odd.any():
        raise ValueError(f"{name} row {numbers[odd].flat[0]}: rows are whole numbers")
    if numbers.ndim != 1:
        raise ValueError(f"{name} rows have shape {numbers.shape}: give a list of them")
    return numbers.astype(np.int64)


def to_table(values: Any, name: str) -> Float[np.ndarray, "rows columns"]:  # noqa: ANN401 rows of any kind
    """Rows of numbers as float64: of a frame, an array, or lists.

    Raises:
        ValueError: If one is no number, or the rows are not of one length.

    Example:
        >>> to_table([[1, 2], (3, None)], "feature")
        array([[ 1.,  2.],
               [ 3., nan]])
    """
    native = nw.from_native(values, pass_through=True, eager_only=True)
    if isinstance(native, nw.DataFrame):
        return np.stack([to_numbers(column, name) for column in native.iter_columns()], 1)
    numbers = to_numbers(values, name)
    if numbers.ndim != 2:
        raise ValueError(f"{name} has shape {numbers.shape}: give a list of rows")
    return numbers


def to_times(values: Column, name: str = "timestamp", use: str = "an order by time") -> Shaped[np.ndarray, " n"]:
    """Times as numbers in their own unit, or as `datetime64` in UTC, of any resolution; a span is its seconds.

    Datetimes without a time zone count as UTC. Text is read where it begins as ISO 8601 dates do.

    Args:
        values: The times.
        name: What they are called.
        use: What needs them.

    Raises:
        ValueError: If one is no time, missing, or not finite.

    Example:
        >>> to_times([datetime.date(2020, 1, 2)]).astype("datetime64[D]")
        array(['2020-01-02'], dtype='datetime64[D]')
    """
    given = _datetimes(values) if _is_datetimes(values) else to_values(values, name)
    times = given if isinstance(given, np.ndarray) else _times_of(given, name)
    if times.ndim != 1:
        raise ValueError(f"{name} has shape {times.shape}: give one time a rating")
    bad = ~np.isfinite(times)
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(f"time {times[at]} of rating {at}: {use} needs every rating's; drop or mend it")
    return times


def to_seconds(times: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Times as float64: those of datetimes in seconds since 1970, numbers as they are."""
    return times.astype("datetime64[us]").astype(np.int64) / 1e6 if times.dtype.kind == "M" else times.astype(float)


def span_seconds(span: Span) -> float | None:
    """A time span's seconds, or None where it is none.

    Example:
        >>> span_seconds(np.timedelta64(2, "m")), span_seconds(7)
        (120.0, None)
    """
    if isinstance(span, datetime.timedelta | np.timedelta64):
        return float(np.timedelta64(span) / np.timedelta64(1, "s"))
    return None


def check_lengths(columns: Mapping[Any, np.ndarray | list]) -> None:
    """Refuse columns that are not of one length.

    Raises:
        ValueError: With their lengths.
    """
    lengths = {str(name): len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of different lengths, {lengths}: give each one value a rating")


def _is_array(values: Any, kinds: str) -> bool:  # noqa: ANN401 whatever was given
    """Whether it is NumPy's own array, of one of these kinds, and needs no look at any element."""
    return type(values) is np.ndarray and values.dtype.kind in kinds


def _column(values: Any) -> Any:  # noqa: ANN401 whatever was given
    """As narwhals has it, where it is a column or a frame."""
    arrow = nw.dependencies.get_pyarrow()
    if arrow is not None and isinstance(values, arrow.Array):
        values = arrow.chunked_array([values])
    if isinstance(values, pd.MultiIndex):
        values = pd.Series(list(values), dtype=object)
    if isinstance(values, pd.Index | pd.api.extensions.ExtensionArray):
        values = pd.Series(values)
    return nw.from_native(values, allow_series=True, pass_through=True)


def _several(values: Any) -> bool:  # noqa: ANN401 whatever was given
    """Whether these are several values in an order."""
    if isinstance(values, str | bytes | Mapping | set | frozenset) or (
        isinstance(values, np.ndarray | np.generic) and not values.ndim
    ):
        return False
    return isinstance(values, Iterable) or isinstance(_column(values), nw.Series)


def _leaves(values: Any) -> Iterable:  # noqa: ANN401 nested as deep as they come
    for value in values:
        if isinstance(value, list | tuple | np.ndarray) and np.ndim(value):
            yield from _leaves(value)
        else:
            yield value


def _gone(value: Any) -> bool:  # noqa: ANN401 any leaf
    return value is None or value is pd.NA


def _filled(values: Any) -> np.ndarray:  # noqa: ANN401 nested as deep as they come
    """Nested numbers as an array, NaN for those that are missing."""
    if isinstance(values, list | tuple) and any(isinstance(value, list | tuple | np.ndarray) for value in values):
        return np.stack([_filled(value) for value in values])
    return np.array([np.nan if _gone(value) else float(value) for value in values])


def _is_datetimes(values: Column) -> bool:
    return isinstance(column := _column(values), nw.Series) and isinstance(column.dtype, nw.Datetime)


def _datetimes(values: Column) -> np.ndarray:
    """A column of datetimes in UTC, at once."""
    column: nw.Series = _column(values)
    if getattr(column.dtype, "time_zone", None):
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column.to_numpy()


def _times_of(values: list, name: str) -> np.ndarray:
    """Times of a list: datetimes, dates, spans, ISO texts, or numbers."""
    types = {type(value): value for value in values if not pd.api.types.is_scalar(value) or not pd.isna(value)}
    if types and all(issubclass(of, datetime.date | np.datetime64) for of in types):
        return pd.DatetimeIndex(pd.to_datetime(pd.Series(values, dtype=object), utc=True)).tz_localize(None).to_numpy()
    if types and all(issubclass(of, datetime.timedelta | np.timedelta64) for of in types):
        return pd.to_timedelta(pd.Series(values, dtype=object)).dt.total_seconds().to_numpy()
    if types and all(issubclass(of, str) for of in types):
        texts = pd.Series(values, dtype=object)
        odd = [text for text in values if isinstance(text, str) and not re.match(DATE, text)]
        if not odd:
            try:
                return pd.DatetimeIndex(pd.to_datetime(texts, utc=True, format="ISO8601")).tz_localize(None).to_numpy()
            except ValueError:
                raise ValueError(f"{name} holds texts that are no ISO 8601 times: convert them first") from None
        raise ValueError(f"{name} {odd[0]!r} is no time: convert the column, such as with pandas.to_datetime")
    return to_numbers(values, name)
