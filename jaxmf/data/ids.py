"""Ids of users and items: any hashable values of one kind, and the table rows that they stand for."""

import itertools
from datetime import date, datetime
from functools import cached_property, reduce
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import ArrayLike

from jaxmf.data.arrays import Column, to_values
from jaxmf.data.layers import settled
from jaxmf.data.settings import check_choice

Unknown = Literal["error", "mark"]


class Vocabulary:
    """Ids in the order of their table rows: any hashable id ↔ a dense int32.

    Example:
        >>> films = Vocabulary(["Heat", "Alien"])
        >>> films.encode(["Alien", "Brazil"], unknown="mark")
        array([ 1, -1], dtype=int32)
        >>> films.extend(["Brazil"]).encode(["Brazil"])
        array([2], dtype=int32)
    """

    def __init__(self, ids: Column = ()) -> None:
        """Ids in row order.

        Raises:
            ValueError: If an id comes twice, is missing, unhashable, or of another kind than the rest.
        """
        index = to_index(ids, "the ids")
        if not index.is_unique:
            twice = index[index.duplicated()].tolist()[0]
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
        """What the ids are, all of them; `None` where there is no id."""
        first = next(filter(len, self._layers), None)
        return None if first is None else kind(first[0])

    def encode(self, ids: Column, *, unknown: Unknown = "error") -> Int[np.ndarray, " n"]:
        """Row of each id.

        Args:
            ids: The ids.
            unknown: What an unknown id is: an error, or row −1.

        Raises:
            ValueError: If an id is unknown and that is an error, or as for the vocabulary itself.
        """
        check_choice("unknown", unknown, Unknown)
        ids = to_index(ids, "the ids")
        rows = self._rows(ids)
        if unknown == "error" and (rows < 0).any():
            raise ValueError(
                f"id {ids[rows < 0].tolist()[0]!r} is not among the {len(self)} known ids: "
                'fold it in first, or pass unknown="mark"'
            )
        return rows

    def decode(self, rows: ArrayLike) -> np.ndarray:
        """Id of each row.

        Raises:
            ValueError: If a row is outside the table.
        """
        rows = np.asarray(rows)
        if not rows.size:
            return self.index.to_numpy()[:0]
        if rows.dtype.kind not in "iu":
            raise ValueError(f"rows {rows.tolist()!r:.80}: they must be whole numbers from 0 to {len(self) - 1}")
        if not (rows.min() >= 0 and rows.max() < len(self)):
            raise ValueError(f"rows {rows.min()} to {rows.max()}: they must be whole numbers from 0 to {len(self) - 1}")
        return self.index.to_numpy()[rows]

    def extend(self, ids: Column) -> "Vocabulary":
        """A vocabulary with the new ones among `ids` appended in order of appearance; known rows keep their number.

        It costs the new ids; the known ones are shared.

        Raises:
            ValueError: If the ids are of another kind than the known ones, or as for the vocabulary itself.
        """
        return self._extended(to_index(ids, "the ids"))[0]

    def _extended(self, ids: pd.Index) -> tuple["Vocabulary", Int[np.ndarray, " n"]]:
        """The vocabulary with the new ones appended, and the row of each id."""
        rows = self._rows(ids)
        new = ids[rows < 0].unique()
        if not len(new):
            return self, rows
        if self.kind not in (None, kind(new[0])):
            raise ValueError(
                f"id {new[0]!r} is of kind {kind(new[0])}, the known ids of {self.kind}: convert them to one kind"
            )
        grown = Vocabulary()
        grown._layers = (*self._settled, new) if len(self) else (new,)
        return grown, np.where(rows < 0, len(self) + new.get_indexer(ids), rows).astype(np.int32)

    @cached_property
    def _settled(self) -> tuple[pd.Index, ...]:
        """The layers, few and ever smaller: kept, so that all that grow from here share what joining them cost."""
        return settled(self._layers, _appended)

    def _rows(self, ids: pd.Index) -> Int[np.ndarray, " n"]:
        """Row of each id, −1 where it is unknown."""
        rows, first = np.full(len(ids), -1, np.int32), 0
        if not len(ids) or kind(ids[0]) != self.kind:
            return rows
        for layer in self._layers:
            found = _found(layer, ids)
            rows = np.where(found < 0, rows, found + first).astype(np.int32)
            first += len(layer)
        return rows


def _found(layer: pd.Index, ids: pd.Index) -> Int[np.ndarray, " n"]:
    """Where each id is in a layer, else −1: whole numbers are looked up in the layer's own type."""
    dtype = layer.dtype
    if ids.dtype == dtype or not pd.api.types.is_integer_dtype(dtype):
        return layer.get_indexer(ids.astype(dtype))
    bounds = np.iinfo(dtype)
    fits = np.asarray((ids >= bounds.min) & (ids <= bounds.max))
    found = np.full(len(ids), -1)
    found[fits] = layer.get_indexer(ids[fits].astype(dtype))
    return found


def _appended(known: pd.Index, new: pd.Index) -> pd.Index:
    """Ids after others, in a type that holds both."""
    if not len(known):
        return new
    return known.append(new) if known.dtype == new.dtype else to_index([*known, *new], "the ids")


def numbered(ids: Column, name: str, known: Vocabulary | None = None) -> tuple[Int[np.ndarray, " n"], Vocabulary]:
    """Row of each id, and the ids of the rows: known ones keep theirs, else they are numbered in sorted order.

    Args:
        ids: The ids, in a frame's column `name`.
        name: The column's name.
        known: Known ids; new ones are appended.

    Raises:
        ValueError: If an id is missing, unhashable, or of another kind than the rest.

    Example:
        >>> rows, known = numbered(["b", "a", "b"], "user")
        >>> rows, known.decode([0])
        (array([1, 0, 1], dtype=int32), array(['a'], dtype=object))
    """
    index = to_index(ids, f"column {name!r}")
    if known is None:
        unique = index.unique()
        try:
            known = Vocabulary(unique.sort_values())
        except TypeError:  # hashable but without an order: by appearance
            known = Vocabulary(unique)
    known, rows = known._extended(index)
    return rows, known


def to_index(ids: Column, where: str) -> pd.Index:
    """Ids as an index: whole numbers as int64, else uint64, else Python's own; times as pandas'; others as they are.

    Args:
        ids: The ids.
        where: Where they were found.

    Raises:
        ValueError: If an id is missing, unhashable, or of another kind than the rest.

    Example:
        >>> to_index(np.array([1, 2], np.uint64), "the ids").dtype, to_index([2**64], "the ids").dtype
        (dtype('int64'), dtype('O'))
    """
    values = to_values(ids, where)
    index = pd.Index(values) if _is_numeric(values) else pd.Index(list(values), dtype=object, tupleize_cols=False)
    missing = index.isna()
    if missing.any():
        raise ValueError(f"no id in {where}, row {int(missing.argmax())}: every rating needs its ids; drop the row")
    if index.dtype.kind == "f":
        return index.astype(np.float64)
    if index.dtype != object:
        return pd.Index(_whole(index.to_numpy()))
    kinds = _kinds(index, where)
    if kinds == {"int"}:
        return pd.Index(_whole(np.array([int(value) for value in index], object)))
    if kinds == {"float"}:
        return index.astype(np.float64)
    if kinds and kinds <= {"datetime", "datetime with a time zone"}:
        return pd.Index([pd.Timestamp(value) for value in index], dtype=object)
    return index


def kind(value: object) -> str:
    """What an id is, with NumPy's and Python's own numbers, and all libraries' times, as one kind."""
    if isinstance(value, datetime):
        return "datetime" if value.tzinfo is None else "datetime with a time zone"
    for python in (bool, int, float, str, bytes, date):
        if isinstance(value, python):
            return python.__name__
    names = {"b": "bool", "i": "int", "u": "int", "f": "float", "M": "datetime"}
    return names.get(getattr(getattr(value, "dtype", None), "kind", ""), type(value).__name__)


def _is_numeric(values: np.ndarray | list) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.dtype.itemsize > 2


def _kinds(index: pd.Index, where: str) -> set[str]:
    """The one kind of some ids that need not be numbers, checked."""
    examples = {type(value): value for value in index}
    if any(issubclass(of, datetime) for of in examples):  # of one type, and of two kinds
        examples |= {kind(value): value for value in index}
    for value in examples.values() if examples.keys() <= {str, int, bytes} else index:
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"id {value!r} in {where}, of type {type(value).__name__}, can't be looked up: "
                "convert ids to numbers, strings or tuples of these"
            ) from None
    kinds = {kind(value): value for value in examples.values()}
    if len(kinds) > 1:
        some = ", ".join(f"{value!r} ({of})" for of, value in itertools.islice(kinds.items(), 3))
        raise ValueError(f"ids of mixed kinds in {where}: {some}; convert them to one kind")
    return set(kinds)


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the narrowest of int64, uint64 and Python's own."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    bounds: list[Any] = [np.iinfo(np.int64), np.iinfo(np.uint64)]
    return values.astype(next((b.dtype for b in bounds if b.min <= low and high <= b.max), np.dtype(object)))
