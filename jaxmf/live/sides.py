"""Users or items whose ids come and go, each with the ratings that it has."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from jaxmf.data.histories import PADDING, Block
from jaxmf.data.ids import kind
from jaxmf.data.ratings import Ratings
from jaxmf.live.events import Id
from jaxmf.live.ledger import Ledger

ALL = np.iinfo(np.int32).max // 2
"""Changes of a row that has to be solved again."""


class Ids:
    """Ids and their rows, of which some may have gone."""

    def __init__(self, ids: Iterable[Id | None] = ()) -> None:
        """In row order; `None` where one has gone."""
        self.of_row = list(ids)
        self.row: dict[Id | None, int] = {name: row for row, name in enumerate(self.of_row) if name is not None}
        self.kind = next((kind(name) for name in self.row), None)

    def add(self, name: Id | None) -> int:
        """The id's row, a new one where it has none."""
        row = self.row.setdefault(name, len(self.of_row))
        if row == len(self.of_row):
            self.of_row.append(name)
            self.kind = self.kind or kind(name)
        return row

    def rows(self, names: Iterable[Id]) -> Int[np.ndarray, " n"]:
        """The rows of some ids, −1 where one is not known."""
        return np.array([self.row.get(name, -1) for name in names], np.int32)

    def drop(self, name: Id | None) -> int | None:
        """Forget an id; returns the row that it had."""
        row = self.row.pop(name, None)
        if row is not None:
            self.of_row[row] = None
        return row

    def there(self) -> Int[np.ndarray, " n"]:
        """The rows that have an id."""
        return np.flatnonzero([name is not None for name in self.of_row])


@dataclasses.dataclass
class Side:
    """The users' or the items' ids and ratings, and how many ratings of each row changed since it was solved."""

    ids: Ids
    ledger: Ledger
    changes: Int[np.ndarray, " rows"]

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        self.ledger.grow(rows)
        more = rows - len(self.changes)
        if more > 0:
            self.changes = np.pad(self.changes, (0, more))


def leave(side: Side, other: Side, name: Id | None) -> tuple[Sequence[int], Sequence[int]]:
    """One of a side goes; returns its row, and those of the other side who lose a rating."""
    row = side.ids.drop(name)
    if row is None:
        return (), ()
    theirs = side.ledger.of(row)["other"].tolist()
    for of_other in theirs:
        other.ledger.remove(of_other, row)
    other.changes[theirs] = ALL  # they are solved again at once, whatever their number
    side.ledger.clear(row)
    side.changes[row] = ALL
    return (row,), theirs


def numbered(side: Side, other: Side, rows: ArrayLike) -> Ratings:
    """Ratings of a side's rows, in the numbers of the tables."""
    rows = np.unique(np.asarray(rows, np.int32))
    found = side.ledger.ratings(rows, len(other.ids.of_row))
    return found.replace(user=rows[found.user], n_users=len(side.ids.of_row))


def renumbered(stack: Block, rows: Int[np.ndarray, " b"]) -> Block:
    """The stack with the numbers that its rows have in their table."""
    real = stack.rows < len(rows)
    return stack.replace(rows=np.where(real, rows[np.where(real, stack.rows, 0)], PADDING).astype(np.int32))
