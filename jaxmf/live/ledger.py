"""The ratings of one side's rows, changed in place: each change costs the ratings of its row, however many there are.

A row's ratings lie together in one large array, in the order of the other side's rows, so that what a row is solved
from depends on what there is and not on how it came. A row that outgrows its place moves to the end, with room to
double.
"""

import numpy as np
from jaxtyping import Int

from jaxmf.data.packing import ranges
from jaxmf.data.ratings import Ratings

COLUMNS = ("other", "rating", "weight")
RATING = np.dtype(list(zip(COLUMNS, (np.int32, np.float32, np.float32), strict=True)))

LEAST = 4
"""Least places of a row that has moved."""


class Ledger:
    """Ratings by row.

    Example:
        >>> ledger = Ledger(rows=2)
        >>> ledger.put(1, 5, 4.0, 1.0), ledger.put(1, 3, 2.0, 1.0), ledger.put(1, 5, 3.0, 1.0)
        (1, 1, 0)
        >>> ledger.of(1)["rating"].tolist()
        [2.0, 3.0]
    """

    def __init__(self, rows: int = 0, ratings: Ratings | None = None) -> None:
        """Of so many rows; with the users' `ratings`, one a pair, if some are given."""
        self.count, self._n = np.zeros(rows, np.int32), 0
        self._start, self._room = np.zeros(rows, np.int64), np.zeros(rows, np.int32)
        self._end, self._pool = 0, np.zeros(0, RATING)
        if ratings is not None and len(ratings):
            order = np.lexsort((ratings.item, ratings.user))
            self.count = np.bincount(ratings.user, minlength=rows).astype(np.int32)
            self._start, self._room = np.cumsum(self.count) - self.count, self.count.copy()
            self._n = self._end = len(order)
            self._pool = np.zeros(self._end + self._end // 4, RATING)
            for name, column in zip(COLUMNS, (ratings.item, ratings.rating, ratings.weight), strict=True):
                self._pool[name][: self._end] = np.asarray(column)[order]

    def __len__(self) -> int:
        return self._n

    def grow(self, rows: int) -> None:
        """Make room for so many rows."""
        more = rows - len(self.count)
        if more > 0:
            self.count, self._start, self._room = (np.pad(x, (0, more)) for x in (self.count, self._start, self._room))

    def of(self, row: int) -> np.ndarray:
        """A row's ratings, a view until the next change."""
        start = self._start[row]
        return self._pool[start : start + self.count[row]]

    def put(self, row: int, other: int, rating: float, weight: float, *, add: bool = False) -> int:
        """Set a pair's rating, or `add` to the weight of one that is the same; returns how many more there are now.

        What adds nothing changes nothing.
        """
        if add and not weight:
            return 0
        there = self.of(row)
        at = int(np.searchsorted(there["other"], other))
        if at < len(there) and there["other"][at] == other:
            before = there[at]["weight"] if add and there[at]["rating"] == np.float32(rating) else 0
            there[at] = (other, rating, before + weight)
            return 0
        if len(there) == self._room[row]:
            self._move(row, max(LEAST, 2 * len(there)))
        self.count[row] += 1
        self._n += 1
        there = self.of(row)
        there[at + 1 :] = there[at:-1].copy()
        there[at] = (other, rating, weight)
        return 1

    def remove(self, row: int, other: int) -> int:
        """Take a pair's rating away, if it has one; returns how many fewer there are now."""
        there = self.of(row)
        at = int(np.searchsorted(there["other"], other))
        if at == len(there) or there["other"][at] != other:
            return 0
        there[at:-1] = there[at + 1 :].copy()
        there[-1] = 0
        self.count[row] -= 1
        self._n -= 1
        return 1

    def clear(self, row: int) -> None:
        """Take all of a row's ratings away, and their bytes."""
        self.of(row)[:] = 0
        self._n -= int(self.count[row])
        self.count[row] = 0

    def ratings(self, rows: Int[np.ndarray, " b"], n_other: int) -> Ratings:
        """The ratings of these rows, which are numbered from 0 in this order."""
        count = self.count[rows]
        whole = self._pool[ranges(self._start[rows], count)]
        user = np.repeat(np.arange(len(rows), dtype=np.int32), count)
        item, rating, weight = (np.ascontiguousarray(whole[name]) for name in COLUMNS)
        return Ratings(user, item, rating, weight, n_users=len(rows), n_items=n_other)

    def _move(self, row: int, room: int) -> None:
        """Give a row another place, at the end."""
        if self._end + room > len(self._pool):
            self._compact(room)
        there, start = self.of(row), self._end
        self._pool[start : start + len(there)] = there
        there[:] = 0
        self._start[row], self._room[row] = start, room
        self._end += room

    def _compact(self, room: int) -> None:
        """A larger array without the places that were left."""
        pool = np.zeros(2 * (int(self._room.sum()) + room), RATING)
        size = self._room.astype(np.int64)
        start = np.cumsum(size) - size
        moved = ranges(start, self.count)
        pool[moved] = self._pool[ranges(self._start, self.count)]
        self._start, self._end, self._pool = start, int(size.sum()), pool
